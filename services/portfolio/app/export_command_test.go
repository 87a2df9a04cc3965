package app_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestTheExportCommandWritesAFileByItsEnding(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	from, until := pastHours(5)
	if _, _, err := s.backfill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func(args ...string) (string, error) {
		return s.command(t.Context(), t, append([]string{"export"}, args...))
	}
	id := s.portfolioFlag(ctx, t)
	for ending, begins := range map[string]string{".csv": "portfolio_id,hour_time", ".jsonl": `{"portfolio_id":`,
		".xlsx": "PK"} {
		path := filepath.Join(dir, "hours"+ending)
		said, err := run(id, "--start="+from.Format(time.RFC3339), path)
		if err != nil || !strings.HasPrefix(said, "5 rows in ") {
			t.Errorf("%s: %q, %v", ending, said, err)
		}
		if file, err := os.ReadFile(path); err != nil || !strings.HasPrefix(string(file), begins) {
			t.Errorf("%s: %.60q, %v", ending, file, err)
		}
	}
	for _, tc := range []struct{ flag, begins, cells string }{
		{"--positions", "portfolio_id,hour_time,token_id,", `\r\nportfolio:[^\r]*,[ab],[^\r]*,base:\d+,`},
		{"--currency=EUR", "portfolio_id,hour_time,snapshot_time,currency,", `Z,EUR,,[^\r]*,RATE_UNAVAILABLE\r`},
		{"--decimal-comma", "portfolio_id;hour_time;", `Z;USD;\d+,\d{8};\d+,\d{8};`},
	} {
		path := filepath.Join(dir, "rows.csv")
		said, err := run(id, "--start="+from.Format(time.RFC3339), tc.flag, path)
		file, readErr := os.ReadFile(path)
		want := fmt.Sprintf("%d rows in ", strings.Count(string(file), "\n")-1)
		if err != nil || readErr != nil || !strings.HasPrefix(said, want) ||
			!strings.HasPrefix(string(file), tc.begins) || !regexp.MustCompile(tc.cells).Match(file) {
			t.Errorf("%s: %q, %v, %v, want %s\n%s", tc.flag, said, err, readErr, want, file)
		}
	}
	for wrong, args := range map[string][]string{
		"FILE":            {id, filepath.Join(dir, "hours.pdf")},
		"--portfolio":     {"--portfolio=x", filepath.Join(dir, "a.csv")},
		"--decimal-comma": {id, "--decimal-comma", filepath.Join(dir, "a.xlsx")},
		"--start":         {id, "--start=yesterday", filepath.Join(dir, "a.csv")},
		"not found":       {"--portfolio=01a22127-c859-7ea1-8efa-33524f6c2bb2", filepath.Join(dir, "a.csv")},
	} {
		if _, err := run(args...); err == nil || !strings.Contains(err.Error(), wrong) {
			t.Errorf("%v: %v, want one about %s", args, err, wrong)
		}
	}
	if left, err := filepath.Glob(filepath.Join(dir, ".export-*")); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}
