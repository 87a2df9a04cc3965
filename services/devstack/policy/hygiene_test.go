package policy_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"regexp"
	"strings"
	"testing"
)

const maxLines = 400

// allowedPanics are the files that may call panic, with the reason.
func allowedPanics() map[string]string {
	return map[string]string{
		"pkg/grpcserver/layers.go":            "the size of the rate limiter is a constant",
		"services/devstack/chain/block.go":    "only a wrong plan of the chain can cause it, which a test would show",
		"services/devstack/chain/accounts.go": "the accounts are derived from constants",
	}
}

// call is a function call in a Go file.
type call struct {
	name string
	line int
}

// callsIn lists the calls of a Go file: f(…) as "f", p.f(…) as "p.f".
func callsIn(s source) ([]call, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, s.path, s.text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var calls []call
	ast.Inspect(file, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		line := files.Position(c.Pos()).Line
		switch f := c.Fun.(type) {
		case *ast.Ident:
			calls = append(calls, call{f.Name, line})
		case *ast.SelectorExpr:
			if x, ok := f.X.(*ast.Ident); ok {
				calls = append(calls, call{x.Name + "." + f.Sel.Name, line})
			}
		}
		return true
	})
	return calls, nil
}

// A line of code that matches both puts an amount of money into a float.
var (
	float = regexp.MustCompile(`\bfloat(32|64)\b`)
	money = regexp.MustCompile(`(?i)(amount|balance|price|value|cost|fee)`)
)

// insertsAll matches a statement that stores rows without naming their columns. During a rollout the table has those
// of the next release too.
var insertsAll = regexp.MustCompile(`INSERT INTO\s+[a-z_.]+(\s+AS\s+[a-z_]+)?\s+(SELECT|VALUES)\b`)

// claimsIn matches a claim whose rows are locked within IN. Postgres may look for them anew for each row of the table,
// passes over those that it has changed, and so claims more than LIMIT
// (findings/postgres-limit-of-a-claim-is-not-kept.sh).
var claimsIn = regexp.MustCompile(`(?i)\bIN\s*\(\s*SELECT\b[^)]*\bLIMIT\b[^)]*\bFOR (NO KEY )?UPDATE`)

// mayLoseConnections matches a transport that goes on with a connection that passes nothing any more.
var mayLoseConnections = regexp.MustCompile(`http\.DefaultTransport\b|http\.DefaultClient\b|` +
	`(^|[^(]|[^t]\()&http\.Transport\{`)

// codeViolations checks a Go file against the rules on sleeping, panics, floats, statements and length.
func codeViolations(s source) []string {
	var found []string
	tell := func(line int, text string) { found = append(found, fmt.Sprintf("%s:%d: %s", s.path, line, text)) }
	calls, err := callsIn(s)
	if err != nil {
		return []string{err.Error()}
	}
	for _, c := range calls {
		switch {
		case c.name == "time.Sleep" && s.isTest():
			tell(c.line, "a test that sleeps is slow on a fast machine and fails on a slow one: use synctest, an "+
				"injected clock or testkit.Eventually")
		case c.name == "panic" && !s.isTest() && allowedPanics()[s.path] == "":
			tell(c.line, "a panic gives the caller no error: return one, or list the file in allowedPanics "+
				"with the reason")
		}
	}
	number := 0
	for line := range strings.Lines(s.text) {
		number++
		code, _, _ := strings.Cut(line, "//")
		if s.under("services/wallet", "services/portfolio") && float.MatchString(code) && money.MatchString(code) {
			tell(number, "a float can't carry money: 0.1 + 0.2 is not 0.3; use integer base units or a decimal")
		}
	}
	if at := strings.Index(s.text, "http.Client{"); at >= 0 && !s.isTest() &&
		s.under("services/auth", "services/wallet", "services/portfolio", "services/internal") &&
		!s.under("services/internal/servicetest") && !strings.Contains(s.text, "httponly.Transport(") {
		tell(1+strings.Count(s.text[:at], "\n"), "no timeout ends the read of an answer that ends HTTP: make the "+
			"client's transport with httponly.Transport")
	}
	if at := mayLoseConnections.FindStringIndex(s.text); at != nil && !s.isTest() &&
		s.under("pkg", "services/auth", "services/wallet", "services/portfolio", "services/internal") &&
		!s.under("pkg/httpx", "services/internal/servicetest") {
		tell(1+strings.Count(s.text[:at[1]], "\n"), "an HTTP/2 connection that is lost is used for ever: make the "+
			"transport with httpx.Default or httpx.NoticeLost")
	}
	if !s.isTest() {
		for _, at := range insertsAll.FindAllStringIndex(s.text, -1) {
			tell(1+strings.Count(s.text[:at[0]], "\n"), "an INSERT names its columns: otherwise it fails while the "+
				"table has those of the next release")
		}
		for _, at := range claimsIn.FindAllStringIndex(s.text, -1) {
			tell(1+strings.Count(s.text[:at[0]], "\n"), "a claim locks its rows in WITH: in IN its LIMIT isn't kept")
		}
	}
	if number > maxLines {
		tell(number, fmt.Sprintf("a file has at most %d lines: split it by topic", maxLines))
	}
	return found
}

func TestGoFilesFollowTheCodeRules(t *testing.T) {
	t.Parallel()
	listed := allowedPanics()
	for _, s := range sources(t, ".go") {
		report(t, codeViolations(s))
		if listed[s.path] == "" {
			continue
		}
		calls, err := callsIn(s)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range calls {
			if c.name == "panic" {
				delete(listed, s.path)
			}
		}
	}
	for path, reason := range listed {
		t.Errorf("%s has no panic any more (%s): take it off the list", path, reason)
	}
}

// TestViolationsOfTheCodeRulesAreReported is the control of the test above.
func TestViolationsOfTheCodeRulesAreReported(t *testing.T) {
	for name, tt := range map[string]struct {
		path, body string
		want       string // empty where the file is fine
	}{
		"a test that sleeps": {"pkg/x/x_test.go", "func f() { time.Sleep(1) }",
			"x_test.go:2: a test that sleeps"},
		"code that sleeps":               {"pkg/x/x.go", "func f() { time.Sleep(1) }", ""},
		"a test that speaks of sleeping": {"pkg/x/x_test.go", `const s = "time.Sleep(1)"`, ""},
		"code that panics":               {"pkg/x/x.go", "func f() { panic(1) }", "a panic gives the caller no error"},
		"code that is listed":            {"pkg/grpcserver/layers.go", "func f() { panic(1) }", ""},
		"a test that panics":             {"pkg/x/x_test.go", "func f() { panic(1) }", ""},
		"a method called panic":          {"pkg/x/x.go", "func f() { x.panic(1) }", ""},
		"a price as a float": {"services/wallet/internal/price/x.go",
			"type t struct { Price float64 }", "a float can't carry money"},
		"a conversion of an amount": {"services/portfolio/internal/x/x.go", "var x = float64(amount)",
			"a float can't carry money"},
		"a small float of a fee": {"services/portfolio/x.go", "func networkFee() float32 { return 0 }",
			"a float can't carry money"},
		"a client that may wait for ever": {"services/wallet/x.go", "var c = http.Client{Timeout: 1}",
			"x.go:2: no timeout ends the read"},
		"a client that keeps to HTTP": {"services/wallet/x.go",
			"var c = http.Client{Transport: httponly.Transport(next)}", ""},
		"a client of the default transport": {"pkg/x/x.go", "var t = http.DefaultTransport",
			"x.go:2: an HTTP/2 connection that is lost"},
		"a transport of its own":   {"services/auth/x.go", "var t = &http.Transport{}", "an HTTP/2 connection"},
		"a transport that notices": {"services/auth/x.go", "var t = httpx.NoticeLost(&http.Transport{})", ""},
		"a client of the library":  {"pkg/x/x.go", "var c = http.Client{Timeout: 1}", ""},
		"a share as a float": {"services/portfolio/x.go",
			"type t struct { Share float64 } // of the value", ""},
		"a price as a float, not of a token": {"pkg/x/x.go", "type t struct { Price float64 }", ""},
		"an INSERT of all columns": {"services/x/x.go", "const s = `\n\tINSERT INTO a SELECT * FROM b`",
			"x.go:3: an INSERT names its columns"},
		"an INSERT of all values": {"services/x/x.go", "const s = `INSERT INTO a AS x VALUES (1)`",
			"names its columns"},
		"an INSERT of named columns": {"services/x/x.go", "const s = `INSERT INTO a (b) VALUES (1)`", ""},
		"a claim within IN": {"services/x/x.go", "const s = `\n\tUPDATE a SET b = 1 WHERE id IN (\n" +
			"SELECT id FROM a ORDER BY b LIMIT 2 FOR UPDATE SKIP LOCKED)`", "x.go:3: a claim locks its rows in WITH"},
		"a claim in WITH": {"services/x/x.go", "const s = `WITH c AS (SELECT id FROM a LIMIT 2 FOR UPDATE SKIP " +
			"LOCKED) UPDATE a SET b = 1 FROM c WHERE a.id = c.id`", ""},
		"a file of 401 lines":  {"pkg/x/x.go", strings.Repeat("\n", 400), "at most 400 lines"},
		"a file of 400 lines":  {"pkg/x/x.go", strings.Repeat("\n", 399), ""},
		"a file that is no Go": {"pkg/x/x.go", "func {", "expected"},
	} {
		t.Run(name, func(t *testing.T) {
			got := strings.Join(codeViolations(source{tt.path, "package x\n" + tt.body}), "\n")
			if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
				t.Errorf("reported %q, want %q", got, tt.want)
			}
		})
	}
	if !generated("// Code generated by x. DO NOT EDIT.\npackage x") ||
		generated("package x\n// Code generated by x. DO NOT EDIT.") {
		t.Error("generated files are not recognised")
	}
}
