package app

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/services/portfolio/internal/export"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

// Usage of the commands that work on the database.
const Usage = `export --portfolio=ID FILE
                          store the snapshots of a portfolio in a file: .csv, .jsonl or .xlsx; more options:
                          --positions      the positions of the snapshots
                          --decimal-comma  semicolons and decimal commas in a .csv file
                          --start, --end   RFC 3339 times, such as 2026-03-01T00:00:00Z; the last 30 days`

// Command runs what Usage lists, and writes what it has to say to out. The caller has to be able to read the
// configuration, secrets included: that is what it asks for permission.
func Command(ctx context.Context, cfg Config, log *slog.Logger, args []string, out io.Writer) (err error) {
	if args[0] != "export" {
		return process.ErrUnknownCommand
	}
	e, err := parseExport(args[1:])
	if err != nil {
		return err
	}
	options := cfg.Database.Options("purser-"+name, log)
	options.Lazy = options.Wait == 0
	db, err := postgres.Open(ctx, options)
	if err != nil {
		return fmt.Errorf("open database: %w", err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	found, err := store.NewPortfolios(db, nil).Exists(ctx, e.portfolio)
	if err != nil {
		return err
	}
	if !found {
		return errs.NotFound("portfolio " + e.portfolio.String())
	}
	return e.run(ctx, export.NewService(store.NewSnapshots(db, nil), time.Now), out)
}

// exportCommand is what to export where.
type exportCommand struct {
	portfolio uuid.UUID
	path      string
	export.Request
}

func parseExport(args []string) (exportCommand, error) {
	var e exportCommand
	flags := flag.NewFlagSet("export", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	id := flags.String("portfolio", "", "")
	flags.BoolVar(&e.Positions, "positions", false, "")
	comma := flags.Bool("decimal-comma", false, "")
	start, end := flags.String("start", "", ""), flags.String("end", "", "")
	if err := flags.Parse(args); err != nil || flags.NArg() != 1 || *id == "" {
		return e, process.ErrUnknownCommand
	}
	var err error
	if e.portfolio, err = uuid.Parse(*id); err != nil {
		return e, errs.Invalid("--portfolio", "must be a UUID, "+errs.Given(*id))
	}
	e.path = flags.Arg(0)
	ending := filepath.Ext(e.path)
	formats := map[string]export.Format{".csv": export.CSV, ".jsonl": export.JSONLines, ".xlsx": export.XLSX}
	if e.Format = formats[ending]; e.Format == 0 {
		return e, errs.Invalid("FILE", "must end with .csv, .jsonl or .xlsx, "+errs.Given(e.path))
	}
	if *comma {
		if e.Format != export.CSV {
			return e, errs.Invalid("--decimal-comma", "is for .csv files, "+errs.Given(e.path))
		}
		e.Format = export.CSVSemicolon
	}
	for name, at := range map[string]struct {
		text string
		time *time.Time
	}{"--start": {*start, &e.Start}, "--end": {*end, &e.End}} {
		if at.text == "" {
			continue
		}
		if *at.time, err = time.Parse(time.RFC3339, at.text); err != nil {
			return e, errs.Invalid(name,
				"must be an RFC 3339 time, such as 2026-03-01T00:00:00Z, "+errs.Given(at.text))
		}
	}
	return e, nil
}

// run writes the file under another name first, so that what has the name is whole.
func (e exportCommand) run(ctx context.Context, s *export.Service, out io.Writer) (err error) {
	f, err := os.CreateTemp(filepath.Dir(e.path), ".export-*")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	rows, err := s.Write(ctx, portfolio.Portfolio{ID: e.portfolio}, e.Request, f)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close(), os.Rename(f.Name(), e.path)); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	_, err = fmt.Fprintf(out, "%d rows in %s\n", rows, e.path)
	return err
}
