package app_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// export returns the whole file and its rows, as the caller reads it.
func (s service) export(ctx context.Context, req *portfoliov1.ExportSnapshotsRequest) (file []byte, rows int64,
	err error) {
	stream, err := s.ExportSnapshots(ctx, req)
	if err != nil {
		return nil, 0, err
	}
	whole := false
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) && whole {
			return file, rows, nil
		}
		if err != nil {
			return nil, 0, err
		}
		if !whole && m.RowCount == nil && len(m.GetData())%3 != 0 {
			return nil, 0, errors.New("a part can't be joined in base64")
		}
		file, rows, whole = append(file, m.GetData()...), m.GetRowCount(), m.RowCount != nil
	}
}

// table is a file as lines of cells by the names of their columns.
func table(t *testing.T, file []byte, comma rune) (rows []map[string]string) {
	t.Helper()
	r := csv.NewReader(bytes.NewReader(file))
	r.Comma = comma
	lines, err := r.ReadAll()
	if err != nil || len(lines) < 2 {
		t.Fatalf("%d lines, %v in %.300s", len(lines), err, file)
	}
	for _, line := range lines[1:] {
		row := map[string]string{}
		for i, cell := range line {
			row[lines[0][i]] = cell
		}
		rows = append(rows, row)
	}
	return rows
}

// opened has LibreOffice open a file and write what it made of it as CSV, with all digits.
func opened(t *testing.T, name string, file []byte, infilter string) []map[string]string {
	t.Helper()
	program, err := exec.LookPath("soffice")
	if err != nil {
		t.Skip("soffice is not installed (package libreoffice-calc-nogui): " +
			"what spreadsheets make of the files isn't tested")
	}
	dir := t.TempDir()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{"--headless", "-env:UserInstallation=file://" + filepath.Join(dir, "profile")}
	if infilter != "" {
		args = append(args, "--infilter="+infilter)
	}
	args = append(args, "--convert-to", "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,false,false", "--outdir",
		filepath.Join(dir, "out"), path)
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	read, err := os.ReadFile(filepath.Join(dir, "out", strings.TrimSuffix(name, filepath.Ext(name))+".csv"))
	if err != nil {
		t.Fatal(err)
	}
	return table(t, read, ',')
}

// withHostileTokens backfills a day, and gives a token a name that a spreadsheet would compute.
func (s service) withHostileTokens(ctx context.Context, t *testing.T) (from, until time.Time) {
	t.Helper()
	from, until = pastHours(24)
	if _, _, err := s.backfill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	s.exec(t, `UPDATE assets SET symbol = '=1+1' WHERE decimals = 18`)
	s.exec(t, `UPDATE assets SET symbol = '007' WHERE decimals = 6`)
	s.exec(t, `UPDATE hour_prices SET price = 0.125 WHERE asset = (SELECT id FROM assets WHERE decimals = 6)
		AND price IS NOT NULL`)
	return from, until
}

// What a spreadsheet opens is what was stored: no id is a number, no number another one, and nothing is computed.
func TestARealSpreadsheetOpensWhatWasExported(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := s.withHostileTokens(ctx, t)
	get := func(f portfoliov1.ExportFormat, c portfoliov1.ExportContent) []byte {
		file, rows, err := s.export(ctx, &portfoliov1.ExportSnapshotsRequest{Format: f, Content: c,
			StartTime: timestamppb.New(from), EndTime: timestamppb.New(until)})
		if err != nil || rows < 24 {
			t.Fatal(rows, err)
		}
		return file
	}
	for content, columns := range map[portfoliov1.ExportContent]struct{ texts, numbers []string }{
		portfoliov1.ExportContent_EXPORT_CONTENT_HOURS: {[]string{"portfolio_id", "currency"},
			[]string{"total", "net_flow"}},
		portfoliov1.ExportContent_EXPORT_CONTENT_POSITIONS: {[]string{"portfolio_id", "token_id", "symbol",
			"amount_base_units", "price_source", "unpriced_reason"}, []string{"amount", "price", "value"}},
	} {
		want := table(t, get(portfoliov1.ExportFormat_EXPORT_FORMAT_CSV, content), ',')
		threeDecimals := regexp.MustCompile(`^-?\d+\.\d{3}$`)
		compare := func(name string, got []map[string]string, exact bool) {
			if len(got) != len(want) {
				t.Errorf("%s has %d rows, want %d", name, len(got), len(want))
				return
			}
			for i := range want {
				for _, column := range columns.texts {
					text := want[i][column]
					if exact {
						text = strings.TrimPrefix(text, "'")
					}
					if got[i][column] != text {
						t.Errorf("%s, row %d: %s is %q, want %q", name, i, column, got[i][column], text)
					}
				}
				for _, column := range columns.numbers {
					if threeDecimals.MatchString(want[i][column]) {
						t.Errorf("%s %q has three decimals", column, want[i][column])
					}
					if want[i][column] == "" {
						continue
					}
					a, errA := strconv.ParseFloat(got[i][column], 64)
					b, errB := strconv.ParseFloat(want[i][column], 64)
					if errA != nil || errB != nil || math.Abs(a-b) > 1e-14*math.Abs(b) {
						t.Errorf("%s, row %d: %s is %q, want %q", name, i, column, got[i][column], want[i][column])
					}
					if exact && got[i][column+"_exact"] != want[i][column] {
						t.Errorf("%s, row %d: %s_exact is %q, want %q", name, i, column, got[i][column+"_exact"],
							want[i][column])
					}
				}
			}
		}
		compare("CSV", opened(t, "plain.csv", get(portfoliov1.ExportFormat_EXPORT_FORMAT_CSV, content),
			"CSV:44,34,76,1,,1033"), false)
		compare("CSV with semicolons, in German", opened(t, "german.csv",
			get(portfoliov1.ExportFormat_EXPORT_FORMAT_CSV_SEMICOLON, content), "CSV:59,34,76,1,,1031"), false)
		compare("XLSX", opened(t, "book.xlsx", get(portfoliov1.ExportFormat_EXPORT_FORMAT_XLSX, content), ""), true)
	}
}

// Without what exports do, a spreadsheet changes what it opens: so the test above would notice.
func TestARealSpreadsheetChangesAFileWithoutTheseRules(t *testing.T) {
	t.Parallel()
	row := opened(t, "bare.csv", []byte("id;price;units\r\n007;0.125;123456789012345678901234567890\r\n"),
		"CSV:59,34,76,1,,1031")[0]
	units, err := strconv.ParseFloat(row["units"], 64)
	if row["id"] != "7" || row["price"] != "125" || err != nil || row["units"] == "123456789012345678901234567890" {
		t.Errorf("opened as %v (%v, %v): it doesn't change what it should", row, units, err)
	}
}

func TestExportedHoursAreTheStoredOnesOldestFirst(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := s.withHostileTokens(ctx, t)
	req := &portfoliov1.ExportSnapshotsRequest{Format: portfoliov1.ExportFormat_EXPORT_FORMAT_JSON_LINES,
		StartTime: timestamppb.New(from), EndTime: timestamppb.New(until)}
	file, rows, err := s.export(ctx, req)
	if err != nil || rows != 24 {
		t.Fatal(rows, err)
	}
	lines := strings.Split(strings.TrimSuffix(string(file), "\n"), "\n")
	for i, line := range lines {
		var row struct {
			HourTime string `json:"hour_time"`
			Total    string `json:"total"`
			Complete bool   `json:"complete"`
		}
		h := from.Add(time.Duration(i) * time.Hour)
		total, complete := expectedTotal(h)
		if err := json.Unmarshal([]byte(line), &row); err != nil || row.HourTime != h.Format(time.RFC3339) ||
			row.Total != total || row.Complete != complete {
			t.Errorf("line %d: %s, %v, want %s", i, line, err, total)
		}
	}
	other, _ := s.newUser(t, "portfolio:read")
	if file, rows, err := s.export(other, req); err != nil || rows != 0 || len(file) != 0 {
		t.Errorf("another user gets %d rows, %s, %v", rows, file, err)
	}
	_, _, err = s.export(ctx, &portfoliov1.ExportSnapshotsRequest{EndTime: timestamppb.New(time.Now().Add(time.Hour))})
	servicetest.WantViolation(t, err, "end_time")
	_, _, err = s.export(ctx, &portfoliov1.ExportSnapshotsRequest{Format: 17})
	servicetest.WantViolation(t, err, "format")
}
