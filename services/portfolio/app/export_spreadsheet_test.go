package app_test

import (
	"context"
	"math"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// opened has LibreOffice open a file and write what it made of it as CSV, with all digits.
func opened(t *testing.T, name string, file []byte, infilter string) []byte {
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
	return read
}

// withLoanAndHostileTexts backfills a day, and takes a snapshot with a debt of half a dollar; tokens and price sources
// have names that a spreadsheet would compute or change.
func (s service) withLoanAndHostileTexts(ctx context.Context, t *testing.T) (from, until time.Time) {
	t.Helper()
	from, _ = s.withHostileTokens(ctx, t)
	s.withLoan("1000", "")
	if _, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{}); err != nil {
		t.Fatal(err)
	}
	s.exec(t, `UPDATE assets SET symbol = CASE token_id WHEN 't' THEN '-1' WHEN 'eip155:137/erc20:0xa' THEN '12E4'
		WHEN 'eip155:137/erc20:0xb' THEN '+1' WHEN 'eip155:137/erc20:0xd' THEN '@x' ELSE symbol END`)
	s.exec(t, `UPDATE hour_prices SET price = 0.00025, source = E'\tx'
		WHERE asset = (SELECT id FROM assets WHERE token_id = 'eip155:137/erc20:0xb')`)
	s.exec(t, `UPDATE snapshots SET net_flow = -0.5 WHERE bucket = (SELECT max(bucket) FROM snapshots)`)
	return from, time.Now()
}

// cellsOf says what the columns are of each content that are not text.
func cellsOf(c portfoliov1.ExportContent) (numbers, booleans, times, counts []string) {
	if c == portfoliov1.ExportContent_EXPORT_CONTENT_HOURS {
		return []string{"total", "assets", "liabilities", "collateral", "net_flow", "rate"},
			[]string{"complete", "price_gap", "backfilled"}, []string{"hour_time", "snapshot_time"},
			[]string{"position_count", "unpriced_count"}
	}
	return []string{"amount", "price", "value", "rate"}, []string{"price_stale", "verified", "collateral"},
		[]string{"hour_time", "price_time"}, []string{"decimals"}
}

// spreadsheet compares what a spreadsheet has made of a file with the file.
type spreadsheet struct {
	t       *testing.T
	name    string
	content portfoliov1.ExportContent
	isBook  bool // XLSX: texts have no guard, numbers an exact one beside them
}

func (s spreadsheet) compare(want, got []map[string]string) {
	s.t.Helper()
	if len(got) != len(want) {
		s.t.Errorf("%s has %d rows, want %d", s.name, len(got), len(want))
		return
	}
	numbers, booleans, times, counts := cellsOf(s.content)
	for i, row := range want {
		for column, cell := range row {
			name, read := column, got[i][column]
			same := read == cell
			switch {
			case slices.Contains(numbers, column):
				same = sameNumber(read, cell, digits15) && (!s.isBook || got[i][column+"_exact"] == cell)
			case slices.Contains(booleans, column):
				same = strings.EqualFold(read, cell)
			case slices.Contains(times, column) && s.isBook:
				name += "_utc"
				read = got[i][name]
				same = sameTime(read, cell)
			case slices.Contains(times, column):
				same = sameTime(read, cell)
			case slices.Contains(counts, column):
			case s.isBook:
				same = read == strings.TrimPrefix(cell, "'")
			}
			if _, has := got[i][name]; !has || !same {
				s.t.Errorf("%s, row %d: %s is %q, want %q", s.name, i, name, read, cell)
			}
		}
	}
}

// digits15 is a relative difference beyond the 15 digits that a spreadsheet keeps.
const digits15 = 1e-14

// sameNumber reports whether two numbers are the same, up to a relative difference, or both are missing.
func sameNumber(got, want string, within float64) bool {
	if want == "" {
		return got == ""
	}
	a, errA := strconv.ParseFloat(got, 64)
	b, errB := strconv.ParseFloat(want, 64)
	return errA == nil && errB == nil && math.Abs(a-b) <= within*math.Abs(b)
}

// sameTime compares a time as a spreadsheet writes it, to the second, with one of RFC 3339.
func sameTime(got, want string) bool {
	at, err := time.Parse(time.RFC3339, want)
	if want == "" || err != nil {
		return got == want && want == ""
	}
	return got == want || got == at.Format(time.DateTime) || got == at.Round(time.Second).Format(time.DateTime)
}

// What a spreadsheet opens is what was stored: no id is a number, no number another one, nothing is computed, and a
// sum of a column counts every number.
func TestARealSpreadsheetOpensWhatWasExported(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := s.withLoanAndHostileTexts(ctx, t)
	get := func(f portfoliov1.ExportFormat, c portfoliov1.ExportContent) []byte {
		file, rows, err := s.export(ctx, &portfoliov1.ExportSnapshotsRequest{Format: f, Content: c,
			StartTime: timestamppb.New(from), EndTime: timestamppb.New(until)})
		if err != nil || rows < 25 {
			t.Fatal(rows, err)
		}
		return file
	}
	for content, has := range map[portfoliov1.ExportContent][]string{
		portfoliov1.ExportContent_EXPORT_CONTENT_HOURS: {",-0.5000,"},
		portfoliov1.ExportContent_EXPORT_CONTENT_POSITIONS: {",-0.50000000,", ",'=1+1,", ",'007,", ",'12E4,", ",'+1,",
			",'-1,", ",'@x,", ",'\tx,"},
	} {
		file := get(portfoliov1.ExportFormat_EXPORT_FORMAT_CSV, content)
		for _, cell := range has {
			if !strings.Contains(string(file), cell) {
				t.Errorf("%v has no cell %q", content, cell)
			}
		}
		want := table(t, file, ',')
		if three := regexp.MustCompile(`,-?\d+\.\d{3},`).Find(file); three != nil {
			t.Errorf("%q has three decimals", three)
		}
		columns, _, _, _ := cellsOf(content)
		columns = slices.DeleteFunc(columns, func(c string) bool { return c == "price" || c == "rate" })
		plain, sums := withSums(t, file, columns)
		got := table(t, opened(t, "plain.csv", plain, "CSV:44,34,76,1,,1033"), ',')
		spreadsheet{t, "CSV", content, false}.compare(want, got[:len(got)-1])
		for column, sum := range sums {
			if read := got[len(got)-1][column]; !sameNumber(read, sum, 1e-12) {
				t.Errorf("the sum of %s is %q, want %s", column, read, sum)
			}
		}
		german := opened(t, "german.csv", get(portfoliov1.ExportFormat_EXPORT_FORMAT_CSV_SEMICOLON, content),
			"CSV:59,34,76,1,,1031")
		spreadsheet{t, "CSV with semicolons, in German", content, false}.compare(want, table(t, german, ','))
		book := opened(t, "book.xlsx", get(portfoliov1.ExportFormat_EXPORT_FORMAT_XLSX, content), "")
		spreadsheet{t, "XLSX", content, true}.compare(want, table(t, book, ','))
	}
}

// withSums adds a row with formulas that sum up columns to a file, and returns the exact sums.
func withSums(t *testing.T, file []byte, columns []string) (plain []byte, sums map[string]string) {
	t.Helper()
	rows := table(t, file, ',')
	header, _, _ := strings.Cut(string(file), "\r\n")
	names := strings.Split(header, ",")
	cells := make([]string, len(names))
	sums = map[string]string{}
	for i, name := range names {
		if !slices.Contains(columns, name) {
			continue
		}
		letter := string(rune('A' + i))
		cells[i] = "=SUM(" + letter + "2:" + letter + strconv.Itoa(len(rows)+1) + ")"
		sum := new(big.Rat)
		for _, row := range rows {
			if row[name] != "" {
				sum.Add(sum, rational(t, row[name]))
			}
		}
		sums[name] = sum.FloatString(30)
	}
	return append(slices.Clone(file), strings.Join(cells, ",")+"\r\n"...), sums
}

// Without what exports do, a spreadsheet changes what it opens: so the test above would notice.
func TestARealSpreadsheetChangesAFileWithoutTheseRules(t *testing.T) {
	t.Parallel()
	row := table(t, opened(t, "bare.csv", []byte("id;price;units;text;begun\r\n"+
		"007;0.125;123456789012345678901234567890;12E4;1,5\r\n"), "CSV:59,34,76,1,,1031"), ',')[0]
	units, err := strconv.ParseFloat(row["units"], 64)
	if row["text"] == "12E4" || row["begun"] == "1,5" || row["id"] != "7" || row["price"] != "125" || err != nil ||
		row["units"] == "123456789012345678901234567890" {
		t.Errorf("opened as %v (%v, %v): it doesn't change what it should", row, units, err)
	}
}
