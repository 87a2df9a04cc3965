package policy_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// signalsIn lists the metrics, spans and log messages of a Go file. A span's name may be the constant
// beginning of an expression.
func signalsIn(s source) (metrics, spans, events []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), s.path, s.text, parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, nil, err
	}
	ast.Inspect(file, func(n ast.Node) bool {
		c, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		name := ""
		switch f := c.Fun.(type) {
		case *ast.Ident:
			name = f.Name
		case *ast.SelectorExpr:
			name = f.Sel.Name
		}
		first, second := literal(c, 0), literal(c, 1)
		switch {
		case instrument.MatchString(name) && first != "":
			metrics = append(metrics, first)
		case name == "Start" && second != "":
			spans = append(spans, second)
		case (name == "Debug" || name == "Info" || name == "Warn" || name == "Error") && first != "":
			events = append(events, first)
		case level.MatchString(name) && second != "":
			events = append(events, second)
		case name == "LogAttrs" && literal(c, 2) != "":
			events = append(events, literal(c, 2))
		}
		return true
	})
	return metrics, spans, events, nil
}

var (
	instrument = regexp.MustCompile(`^(counter|(Int64|Float64)(Observable)?(Counter|UpDownCounter|Histogram|Gauge))$`)
	level      = regexp.MustCompile(`^(Debug|Info|Warn|Error)Context$`)
)

// literal returns the i-th argument if it is, or begins with, a string literal; "" otherwise.
func literal(c *ast.CallExpr, i int) string {
	if len(c.Args) <= i {
		return ""
	}
	arg := c.Args[i]
	if sum, ok := arg.(*ast.BinaryExpr); ok {
		arg = sum.X
	}
	lit, ok := arg.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(lit.Value)
	if err != nil {
		return ""
	}
	return text
}

// tableNames returns the names in backticks in the tables of a section: of each row, those in the
// first cell that has any.
func tableNames(page, section string) []string {
	_, body, _ := strings.Cut(page, "\n## "+section+"\n")
	body, _, _ = strings.Cut(body, "\n## ")
	var names []string
	for line := range strings.Lines(body) {
		if !strings.HasPrefix(line, "|") {
			continue
		}
		for cell := range strings.SplitSeq(line, "|") {
			if found := backticks.FindAllStringSubmatch(cell, -1); len(found) > 0 {
				for _, f := range found {
					names = append(names, f[1])
				}
				break
			}
		}
	}
	return names
}

var backticks = regexp.MustCompile("`([^`]+)`")

func compareWithDocs(t *testing.T, kind string, code, page []string) {
	t.Helper()
	for _, name := range code {
		if !slices.Contains(page, name) {
			t.Errorf("the %s %q is not in docs/metrics.md", kind, name)
		}
	}
	for _, name := range page {
		if !slices.Contains(code, name) {
			t.Errorf("docs/metrics.md lists the %s %q, which no code emits", kind, name)
		}
	}
}

func TestEveryMetricSpanAndLogEventIsInTheDocs(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(root(t), "docs/metrics.md"))
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	var metrics, spans, events []string
	for _, s := range sources(t, ".go") {
		if s.isTest() || !s.under("pkg/redisx", "pkg/lock", "pkg/cache", "pkg/jobs", "pkg/authn",
			"pkg/lifecycle", "pkg/grpcserver", "pkg/postgres", "pkg/tlsfiles", "services/internal",
			"services/auth/internal", "services/portfolio/internal", "services/wallet/internal") {
			continue
		}
		m, sp, e, err := signalsIn(s)
		if err != nil {
			t.Fatal(err)
		}
		metrics, spans, events = append(metrics, m...), append(spans, sp...), append(events, e...)
	}
	if len(metrics) == 0 || len(spans) == 0 || len(events) == 0 {
		t.Fatal("no metric, span or log event was found: the search is wrong")
	}
	compareWithDocs(t, "metric", metrics, tableNames(page, "Metrics"))
	compareWithDocs(t, "span", spans, tableNames(page, "Spans"))
	compareWithDocs(t, "log event", events, tableNames(page, "Log events"))
}

func TestMetricsSpansAndLogEventsAreFoundInSource(t *testing.T) {
	m, s, e, err := signalsIn(source{"x.go", `package x
func f() {
	a, _ := meter.Int64Counter("a_total")
	counter("b_total", "what")
	ctx, span := otel.Tracer("t").Start(ctx, "do "+name)
	log.WarnContext(ctx, "it fell", "why", err)
	r.o.Log.Info("it stood up")
	fmt.Println("nothing")
}`})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(m, []string{"a_total", "b_total"}) || !slices.Equal(s, []string{"do "}) ||
		!slices.Equal(e, []string{"it fell", "it stood up"}) {
		t.Fatal(m, s, e)
	}
	if got := tableNames("# P\n\n## A\n\n| x | y |\n|---|---|\n| WARN | `it fell` | `err` |\n\n## B\n| `other` |\n",
		"A"); !slices.Equal(got, []string{"it fell"}) {
		t.Fatal(got)
	}
}
