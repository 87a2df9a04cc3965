package policy_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// realPackages is the list of `make real`.
var realPackages = regexp.MustCompile(`(?m)^REAL := ((?:.*\\\n)*.*)$`)

// startsOthers are the functions that start nodes of others, or fetch their contracts and lists.
var startsOthers = []string{"StartNode", "StartNodeProcess", "NPM", "startAnvil"}

// notReal are the tests that run what others have written, and that `make real` does not run: those without Real in
// their names, and those of a package that isn't on its list.
func notReal(tests []source, makefile string) (found []string) {
	list := realPackages.FindStringSubmatch(makefile)
	if list == nil {
		return []string{"Makefile: has no REAL"}
	}
	listed := strings.Fields(strings.ReplaceAll(list[1], "\\", " "))
	functions := map[string][]*ast.FuncDecl{} // by package
	for _, s := range tests {
		if !s.isTest() {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), s.path, s.text, parser.SkipObjectResolution)
		if err != nil {
			found = append(found, err.Error())
			continue
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil {
				functions[path.Dir(s.path)] = append(functions[path.Dir(s.path)], f)
			}
		}
	}
	for dir, all := range functions {
		starts := slices.Clone(startsOthers)
		for before := 0; before != len(starts); {
			before = len(starts)
			for _, f := range all {
				if !slices.Contains(starts, f.Name.Name) && callsOne(f, starts) {
					starts = append(starts, f.Name.Name)
				}
			}
		}
		for _, name := range starts[len(startsOthers):] {
			if !strings.HasPrefix(name, "Test") {
				continue
			}
			if !strings.Contains(name, "Real") {
				found = append(found, fmt.Sprintf("%s: %s runs programs of others, and `make real` runs only tests "+
					"with Real in their names", dir, name))
			}
			if !slices.Contains(listed, "./"+dir) {
				found = append(found, fmt.Sprintf("Makefile: REAL lacks ./%s, whose %s runs programs of others", dir,
					name))
			}
		}
	}
	slices.Sort(found)
	return found
}

// callsOne reports whether a function calls one of those with these names, of its own package or of servicetest.
func callsOne(f *ast.FuncDecl, names []string) (calls bool) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return !calls
		}
		switch fun := call.Fun.(type) {
		case *ast.Ident:
			calls = calls || slices.Contains(names, fun.Name)
		case *ast.SelectorExpr:
			of, ok := fun.X.(*ast.Ident)
			calls = calls || ok && of.Name == "servicetest" && slices.Contains(names, fun.Sel.Name)
		}
		return !calls
	})
	return calls
}

func TestMakeRealRunsEveryTestWithProgramsOfOthers(t *testing.T) {
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
		return path.Dir(s.path) == "services/internal/servicetest" // which tries the functions themselves
	})
	report(t, notReal(all, makefile))
}

func TestATestThatMakeRealDoesNotRunIsReported(t *testing.T) {
	const makefile = "REAL := ./a \\\n  ./b\n.PHONY: real\n"
	test := func(file, text string) source { return source{path: file, text: "package x\n" + text} }
	for name, tc := range map[string]struct {
		tests    []source
		makefile string
		want     string
	}{
		"all are run": {[]source{test("a/x_test.go", "func TestRealIt() { n := servicetest.StartNode(t) }")}, makefile,
			""},
		"a name": {[]source{test("a/x_test.go", "func TestIt() { n := servicetest.StartNode(t) }")}, makefile,
			"a: TestIt runs programs"},
		"a package": {[]source{test("c/x_test.go", "func TestRealIt() { f(func() { startAnvil(t) }) }")}, makefile,
			"REAL lacks ./c"},
		"by a function of another file": {[]source{test("a/x_test.go", "func TestIt() { contracts(t) }"),
			test("a/y_test.go", "func contracts() { fetch() }\nfunc fetch() { servicetest.NPM(t) }")}, makefile,
			"a: TestIt runs programs"},
		"a function of that name elsewhere": {[]source{test("a/x_test.go", "func TestIt() { contracts(t) }"),
			test("b/y_test.go", "func contracts() { servicetest.NPM(t) }")}, makefile, ""},
		"a Makefile without it": {nil, "all:\n", "has no REAL"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(notReal(tc.tests, tc.makefile), "\n")
			if (got == "") != (tc.want == "") || !strings.Contains(got, tc.want) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}
