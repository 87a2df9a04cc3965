package policy_test

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"
)

const (
	maxColumns = 119
	tabWidth   = 4
)

// vendored are the folders with files of other projects.
func vendored() []string { return []string{"services/devstack/console/assets/uplot", "third_party"} }

// indentedCopies are files that a program makes of one whose lines are limited, by indenting it.
func indentedCopies() []string { return []string{"k8s/components/monitoring/rules.yaml"} }

// hasLineLimit reports whether the lines of a file are limited to maxColumns.
func hasLineLimit(s source) bool {
	ending := path.Ext(s.path)
	if path.Base(s.path) == "Makefile" {
		ending = "Makefile"
	}
	limited := []string{".go", ".sql", ".proto", ".sh", ".css", ".js", ".html", ".yaml", "Makefile"}
	return slices.Contains(limited, ending) && !s.under(vendored()...) && !slices.Contains(indentedCopies(), s.path)
}

// columns is the width of a line, with tab stops every tabWidth columns.
func columns(line string) int {
	n := 0
	for _, r := range strings.TrimRight(line, "\r\n") {
		if r == '\t' {
			n += tabWidth - n%tabWidth
		} else {
			n++
		}
	}
	return n
}

// longLines lists the lines of a file that are too long.
func longLines(s source) []string {
	var found []string
	number := 0
	for line := range strings.Lines(s.text) {
		number++
		if n := columns(line); n > maxColumns {
			found = append(found, fmt.Sprintf("%s:%d: %d columns: wrap lines at %d, with tabs of %d, so that two "+
				"versions of a file fit side by side", s.path, number, n, maxColumns, tabWidth))
		}
	}
	return found
}

func TestLinesAreNotTooLong(t *testing.T) {
	t.Parallel()
	all, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	checked := map[string]bool{}
	for _, s := range all {
		if hasLineLimit(s) {
			checked[path.Ext(s.path)] = true
			report(t, longLines(s))
		}
	}
	if len(checked) < 9 {
		t.Errorf("only %d kinds of files were checked: the walk is wrong", len(checked))
	}
}

// TestALongLineIsReported is the control of the test above.
func TestALongLineIsReported(t *testing.T) {
	for name, tt := range map[string]struct {
		line string
		want int
	}{
		"the longest line":        {strings.Repeat("x", 119) + "\r\n", 119},
		"one column more":         {strings.Repeat("x", 120), 120},
		"a tab":                   {"\tx", 5},
		"a tab within a tab stop": {"xyz\tx", 5},
		"characters, not bytes":   {strings.Repeat("─", 119), 119},
	} {
		if got := columns(tt.line); got != tt.want {
			t.Errorf("%s has %d columns, want %d", name, got, tt.want)
		}
		got := longLines(source{"pkg/x/x.sql", "SELECT 1\n" + tt.line})
		want := tt.want > maxColumns
		if (len(got) == 1) != want || want && !strings.HasPrefix(got[0], "pkg/x/x.sql:2: ") {
			t.Errorf("%s: reported %q", name, got)
		}
	}
	for file, want := range map[string]bool{
		"Makefile": true, "pkg/x/x.go": true, "services/devstack/console/assets/console.css": true,
		"services/devstack/console/assets/uplot/uPlot.min.css": false, "README.md": false, "pkg/go.sum": false,
		"docs/alerts.yaml": true, "k8s/components/monitoring/rules.yaml": false,
	} {
		if hasLineLimit(source{path: file}) != want {
			t.Errorf("%s: limited is not %t", file, want)
		}
	}
}
