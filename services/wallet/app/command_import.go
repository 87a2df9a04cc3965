package app

import (
	"bytes"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/terminal"
	"github.com/purserhq/purser/services/wallet/internal/importing"
)

const (
	// maxPending is how many rows wait until those of one wallet are enough for an import.
	maxPending = 5000
	// maxCell is how many bytes a field of a file may have.
	maxCell = 1000
)

// fileImport imports a CSV file.
type fileImport struct {
	imports  *importing.Service
	ownerOf  func(context.Context, uuid.UUID) (uuid.UUID, error)
	name     string
	out      *columns
	progress *terminal.Progress
	columns  map[string]int
	moves    bool // transactions; otherwise balances

	owners  map[uuid.UUID]uuid.UUID // by wallet; uuid.Nil for none
	pending map[uuid.UUID][]fileRow
	waiting int
	importing.Result
	failed int // rows
	line   int
}

// fileRow is a row of the file.
type fileRow struct {
	line   int
	fields []string
}

// The columns of the two kinds of files; of transactions the last three may be missing.
var (
	balanceColumns     = []string{"wallet_id", "token_id", "amount", "time"}
	transactionColumns = []string{"wallet_id", "row_id", "token_id", "direction", "amount", "time", "kind",
		"counterparty",
		"transaction_hash"}
)

const optionalColumns = 3

// importFile stores the rows of a file, and tells of each line that could not be. It fails if there is one.
func importFile(ctx context.Context, imports *importing.Service,
	ownerOf func(context.Context, uuid.UUID) (uuid.UUID, error), path string, out io.Writer) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	defer func() { _ = f.Close() }()
	i := &fileImport{imports: imports, ownerOf: ownerOf, name: filepath.Base(path), out: &columns{out: out},
		progress: terminal.NewProgress(out, "lines"), owners: map[uuid.UUID]uuid.UUID{},
		pending: map[uuid.UUID][]fileRow{}}
	if err := i.run(ctx, f); err != nil {
		return fmt.Errorf("%s, line %d: %w; what was stored until then stays, and the command can be repeated", i.name,
			i.line, err)
	}
	i.progress.End()
	i.out.print("%d rows stored, %d replaced, %d were there already, %d failed\n", i.Stored, i.Replaced, i.Unchanged,
		i.failed)
	if i.failed > 0 {
		return errors.Join(i.out.err, fmt.Errorf("%d rows of %s were not stored; mend them and repeat the command",
			i.failed, i.name))
	}
	return i.out.err
}

func (i *fileImport) run(ctx context.Context, f io.Reader) error {
	r := csv.NewReader(f)
	r.FieldsPerRecord, r.ReuseRecord = -1, false
	i.line = 1
	header, err := r.Read()
	if errors.Is(err, io.EOF) {
		return errors.New("the file is empty: its first line must have the names of the columns")
	}
	if err != nil {
		return err
	}
	if err := i.readHeader(header); err != nil {
		return err
	}
	for {
		fields, err := r.Read()
		var malformed *csv.ParseError
		switch {
		case errors.Is(err, io.EOF):
			return i.flush(ctx)
		case errors.As(err, &malformed):
			i.line = malformed.StartLine
			i.fail(malformed.StartLine, "", malformed.Err.Error())
			continue
		case err != nil:
			return err
		}
		i.line, _ = r.FieldPos(0)
		if err := i.add(ctx, fileRow{i.line, fields}); err != nil {
			return err
		}
	}
}

// readHeader finds out what the file has. The names may be in any order.
func (i *fileImport) readHeader(header []string) error {
	header[0] = string(bytes.TrimPrefix([]byte(header[0]), []byte("\xef\xbb\xbf")))
	i.columns = map[string]int{}
	for n, column := range header {
		column = strings.ToLower(strings.TrimSpace(column))
		if _, twice := i.columns[column]; twice {
			return fmt.Errorf("the column %q is there twice", column)
		}
		i.columns[column] = n
	}
	_, i.moves = i.columns["row_id"]
	known, needed := balanceColumns, balanceColumns
	if i.moves {
		known, needed = transactionColumns, transactionColumns[:len(transactionColumns)-optionalColumns]
	}
	for column := range i.columns {
		if !slices.Contains(known, column) {
			return fmt.Errorf("the column %q must be one of %s; balances have %s, and transactions have row_id too",
				column, strings.Join(known, ", "), strings.Join(balanceColumns, ", "))
		}
	}
	for _, column := range needed {
		if _, ok := i.columns[column]; !ok {
			return fmt.Errorf("the column %q is missing: the first line must have %s", column,
				strings.Join(needed, ", "))
		}
	}
	return nil
}

func (i *fileImport) fail(line int, field, rule string) {
	i.failed++
	i.printFailure(line, field, rule)
}

func (i *fileImport) printFailure(line int, field, rule string) {
	if field != "" {
		rule = field + " " + rule
	}
	i.progress.Clear()
	i.out.print("%s:%d: %s\n", i.name, line, rule)
}

// add takes a row, and imports those that wait when they are enough.
func (i *fileImport) add(ctx context.Context, row fileRow) error {
	if len(row.fields) != len(i.columns) {
		i.fail(row.line, "", fmt.Sprintf("must have %d fields as the first line, got %d", len(i.columns),
			len(row.fields)))
		return nil
	}
	for column, n := range i.columns {
		if len(row.fields[n]) > maxCell {
			i.fail(row.line, column, fmt.Sprintf("must have at most %d bytes, got %d", maxCell, len(row.fields[n])))
			return nil
		}
	}
	text := i.field(row, "wallet_id")
	id, err := uuid.Parse(text)
	if err != nil {
		i.fail(row.line, "wallet_id", "must be a UUID, "+errs.Given(text))
		return nil //nolint:nilerr // the row fails, not the import
	}
	owner, seen := i.owners[id]
	if !seen {
		owner, err = i.ownerOf(ctx, id)
		if err != nil && !errs.Is(err, errs.KindNotFound) {
			return err
		}
		i.owners[id] = owner
	}
	if owner == uuid.Nil {
		i.fail(row.line, "wallet_id", "must be the id of a wallet, "+errs.Given(text))
		return nil
	}
	i.pending[id] = append(i.pending[id], row)
	i.waiting++
	if len(i.pending[id]) == importing.MaxRows {
		return i.store(ctx, id)
	}
	if i.waiting == maxPending {
		return i.flush(ctx)
	}
	return nil
}

func (i *fileImport) field(row fileRow, column string) string {
	n, ok := i.columns[column]
	if !ok {
		return ""
	}
	return strings.TrimSpace(row.fields[n])
}

// flush imports all rows that wait.
func (i *fileImport) flush(ctx context.Context) error {
	for id := range i.pending {
		if err := i.store(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// store imports the rows of a wallet that wait.
func (i *fileImport) store(ctx context.Context, id uuid.UUID) error {
	rows := i.pending[id]
	result, err := i.importRows(ctx, id, rows)
	if err != nil {
		return err
	}
	delete(i.pending, id)
	i.waiting -= len(rows)
	i.Stored += result.Stored
	i.Replaced += result.Replaced
	i.Unchanged += result.Unchanged
	failed := map[int]bool{}
	for _, f := range result.Failures {
		failed[f.Row] = true
		rule := f.Rule
		if !strings.Contains(rule, f.Given) { // most rules don't have it
			rule += ", " + f.Given
		}
		i.printFailure(rows[f.Row-1].line, f.Field, rule)
	}
	i.failed += len(failed)
	i.progress.Show(fmt.Sprintf("%d stored, %d replaced, %d were there already, %d failed", i.Stored, i.Replaced,
		i.Unchanged, i.failed))
	return nil
}

func (i *fileImport) importRows(ctx context.Context, id uuid.UUID, rows []fileRow) (importing.Result, error) {
	if !i.moves {
		in := make([]importing.BalanceInput, len(rows))
		for n, r := range rows {
			in[n] = importing.BalanceInput{Token: i.field(r, "token_id"), Amount: i.field(r, "amount"),
				Time: i.field(r, "time")}
		}
		return i.imports.Balances(ctx, i.owners[id], id, in, uuid.Nil)
	}
	in := make([]importing.TransactionInput, len(rows))
	for n, r := range rows {
		in[n] = importing.TransactionInput{ID: i.field(r, "row_id"), Token: i.field(r, "token_id"),
			Kind: i.field(r, "kind"), Direction: i.field(r, "direction"), Amount: i.field(r, "amount"),
			Time: i.field(r, "time"), Counterparty: i.field(r, "counterparty"), Hash: i.field(r, "transaction_hash")}
	}
	return i.imports.Transactions(ctx, i.owners[id], id, in, uuid.Nil)
}
