package postgres_test

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/postgres"
)

// classes of SQLSTATE that the documentation of Postgres 18 lists in appendix A, and 72, which 16 was the last to
// have.
const classes = `00 01 02 03 08 09 0A 0B 0F 0L 0P 0Z 10 20 21 22 23 24 25 26 27 28 2B 2D 2F 34 38 39 3B 3D 3F 40 42 44
	53 54 55 57 58 72 F0 HV P0 XX`

func TestEachClassThatPostgresDocumentsHasARow(t *testing.T) {
	for _, class := range strings.Fields(classes) {
		if !postgres.HasState(class) {
			t.Errorf("class %s has no row", class)
		}
	}
	// The server on this machine may have classes that are newer than the list.
	dir, err := exec.Command("pg_config", "--sharedir").Output()
	if err != nil {
		t.Skip("pg_config isn't installed, so the server's own list isn't compared")
	}
	lists, err := filepath.Glob(filepath.Dir(strings.TrimSpace(string(dir))) + "/*/errcodes.txt")
	if err != nil || len(lists) == 0 {
		t.Skip("the server comes without errcodes.txt, so it isn't compared")
	}
	for _, list := range lists {
		file, err := os.Open(list)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = file.Close() }()
		n := 0
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if code, _, _ := strings.Cut(lines.Text(), " "); len(code) == 5 {
				if n++; !postgres.HasState(code[:2]) {
					t.Errorf("%s: class %s has no row", list, code[:2])
				}
			}
		}
		if n < 200 {
			t.Errorf("%s has only %d codes", list, n)
		}
	}
}

func TestThePageHasTheTableOfTheCode(t *testing.T) {
	page, err := os.ReadFile("../../docs/outages.md")
	if err != nil {
		t.Skip("the pages are not here:", err)
	}
	if !strings.Contains(string(page), postgres.StatesAsMarkdown()) {
		t.Errorf("docs/outages.md should have these rows:\n%s", postgres.StatesAsMarkdown())
	}
}
