package policy_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	testName = regexp.MustCompile("`(Test[A-Za-z0-9]+)`")
	testFunc = regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(t \*testing\.T\)`)
)

// The threat model names the test of each protection. A name that is no test is a protection that nothing shows.
func TestTheThreatModelNamesTestsThatExist(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root(t), "docs/threat-model.md"))
	if err != nil {
		t.Fatal(err)
	}
	exists := map[string]bool{}
	for _, s := range sources(t, "_test.go") {
		for _, f := range testFunc.FindAllStringSubmatch(s.text, -1) {
			exists[f[1]] = true
		}
	}
	named := 0
	for i, line := range strings.Split(string(text), "\n") {
		names := testName.FindAllStringSubmatch(line, -1)
		named += len(names)
		for _, n := range names {
			if !exists[n[1]] {
				t.Errorf("docs/threat-model.md:%d: there is no test %s", i+1, n[1])
			}
		}
	}
	if named < 40 {
		t.Errorf("only %d tests are named: the search is wrong", named)
	}
}
