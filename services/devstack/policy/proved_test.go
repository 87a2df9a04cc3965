package policy_test

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	// readsSize matches what makes a test larger under `make prove`.
	readsSize = regexp.MustCompile(`testkit\.Size\(|(Getenv|LookupEnv)\("PURSER_PROVE"\)`)
	proved    = regexp.MustCompile(`(?m)^PROVED(?:_ALONE)? := ((?:.*\\\n)*.*)$`)
	measured  = regexp.MustCompile(`(?m)^(?:MEASURED|BENCHED) := ((?:.*\\\n)*.*)$`)
)

// unproved compares the packages that `make prove` runs with those that have a test with a full size.
func unproved(tests []source, makefile string) (found []string) {
	lists := proved.FindAllStringSubmatch(makefile, -1)
	if lists == nil {
		return []string{"Makefile: has no PROVED"}
	}
	var listed []string
	for _, list := range lists {
		listed = append(listed, strings.Fields(strings.ReplaceAll(list[1], "\\", " "))...)
	}
	var have []string
	for _, s := range tests {
		if s.isTest() && readsSize.MatchString(s.text) {
			have = append(have, "./"+path.Dir(s.path))
		}
	}
	slices.Sort(have)
	have = slices.Compact(have)
	for _, p := range have {
		if !slices.Contains(listed, p) {
			found = append(found, fmt.Sprintf("Makefile: PROVED lacks %s, which has a proof with a full size", p))
		}
	}
	for _, p := range listed {
		if !slices.Contains(have, p) {
			found = append(found, fmt.Sprintf("Makefile: PROVED has %s, which has no proof with a full size", p))
		}
	}
	return append(found, unmeasured(tests, makefile)...)
}

// unmeasured are the tests that `make prove` names and that do not exist: go test would say nothing of them.
func unmeasured(tests []source, makefile string) (found []string) {
	between := func(r rune) bool { return strings.ContainsRune("|\\\n ", r) }
	for _, list := range measured.FindAllStringSubmatch(makefile, -1) {
		for _, name := range strings.FieldsFunc(list[1], between) {
			if !slices.ContainsFunc(tests, func(s source) bool { return strings.Contains(s.text, "func "+name+"(") }) {
				found = append(found, fmt.Sprintf("Makefile: lists %s, which is no test", name))
			}
		}
	}
	return found
}

func TestMakeProveRunsEveryProofAtFullSize(t *testing.T) {
	t.Parallel()
	all, err := readTree()
	if err != nil {
		t.Fatal(err)
	}
	makefile := ""
	all = slices.DeleteFunc(slices.Clone(all), func(s source) bool {
		if s.path == "Makefile" {
			makefile = s.text
		}
		return path.Dir(s.path) == "services/devstack/policy" // its texts are about the others
	})
	report(t, unproved(all, makefile))
}

func TestAProofThatMakeProveDoesNotRunIsReported(t *testing.T) {
	const makefile = "PROVED := ./a \\\n  ./b\n.PHONY: prove\n"
	a, b := source{path: "a/x_test.go", text: "testkit.Size(1, 2)"}, source{path: "b/x_test.go",
		text: `os.Getenv("PURSER_PROVE")`}
	for name, tc := range map[string]struct {
		tests    []source
		makefile string
		want     string
	}{
		"all are run": {[]source{a, b}, makefile, ""},
		"one is run alone": {[]source{a, {path: "c/y_test.go", text: "testkit.Size(1, 2)"}},
			"PROVED := ./a\nPROVED_ALONE := ./c\n", ""},
		"one is not run": {[]source{a, b, {path: "c/y_test.go", text: "testkit.Size(1, 2)"}}, makefile,
			"lacks ./c"},
		"one is no proof":       {[]source{a}, makefile, "has ./b"},
		"code that is no test":  {[]source{a, b, {path: "c/y.go", text: "testkit.Size(1, 2)"}}, makefile, ""},
		"a Makefile without it": {[]source{a, b}, "all:\n", "has no PROVED"},
		"a measured test": {[]source{a, b, {path: "a/z_test.go", text: "func TestIt(t"}}, makefile +
			"MEASURED := TestIt|\\\nTestIt\n", ""},
		"a measured test that was renamed": {[]source{a, b, {path: "a/z_test.go", text: "func TestIt(t"}}, makefile +
			"MEASURED := TestIt|\\\nTestThat\n", "TestThat, which is no test"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(unproved(tc.tests, tc.makefile), "\n")
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
