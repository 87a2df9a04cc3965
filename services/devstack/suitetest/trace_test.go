package suitetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// One call of portfolio is one trace: portfolio's Redis and Postgres, wallet, and wallet's Redis and Postgres, each
// below its caller.
func TestOnePortfolioCallIsOneTraceAcrossServicesPostgresAndRedis(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	addWallet(t, ctx, c, account(s, s.Chain.Holders()[0]))

	traced, root := otel.Tracer("suitetest").Start(ctx, "test")
	if _, err := c.Portfolios.TakeSnapshot(traced, &portfoliov1.TakeSnapshotRequest{}); err != nil {
		t.Fatal(err)
	}
	root.End()
	id := root.SpanContext().TraceID()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("gaps: %v", gaps(spansOf(id)))
		}
	})
	// A server's span may end after its client has the answer.
	testkit.Eventually(t, 5*time.Second, func() bool { return len(gaps(spansOf(id))) == 0 })
	// The control: without any one of its parts the trace has a gap.
	for _, part := range []string{"portfolio client", "portfolio server", "wallet client", "wallet server", "redis",
		"postgres"} {
		without := slices.DeleteFunc(spansOf(id),
			func(span sdktrace.ReadOnlySpan) bool { return componentOf(span) == part })
		if len(gaps(without)) == 0 {
			t.Errorf("no gap is reported without %q", part)
		}
	}
	for _, span := range spansOf(id) {
		for _, a := range span.Attributes() {
			if text := a.Value.String(); strings.Contains(text, s.Chain.Holders()[0].Hex()) ||
				strings.Contains(text, s.Redis.Password()) {
				t.Errorf("span %s carries a value: %s=%s", span.Name(), a.Key, text)
			}
		}
	}
}

// gaps lists the expected parent-child pairs that are missing.
func gaps(all []sdktrace.ReadOnlySpan) []string {
	tree := childComponents(all)
	var missing []string
	for parent, children := range map[string][]string{
		"test":             {"portfolio client"},
		"portfolio client": {"portfolio server"},
		"portfolio server": {"wallet client", "redis", "postgres"},
		"wallet client":    {"wallet server"},
		"wallet server":    {"redis", "postgres"},
	} {
		for _, child := range children {
			if !slices.Contains(tree[parent], child) {
				missing = append(missing, fmt.Sprintf("%s below %s", child, parent))
			}
		}
	}
	return missing
}

func spansOf(id trace.TraceID) []sdktrace.ReadOnlySpan {
	var out []sdktrace.ReadOnlySpan
	for _, span := range spans.Ended() {
		if span.SpanContext().TraceID() == id {
			out = append(out, span)
		}
	}
	return out
}

// childComponents maps each component to the components below it. Spans without a component, such as those of a
// transaction or a connection pool, are skipped.
func childComponents(all []sdktrace.ReadOnlySpan) map[string][]string {
	byID := map[trace.SpanID]sdktrace.ReadOnlySpan{}
	for _, span := range all {
		byID[span.SpanContext().SpanID()] = span
	}
	tree := map[string][]string{}
	for _, span := range all {
		what := componentOf(span)
		if what == "" {
			continue
		}
		parent, ok := byID[span.Parent().SpanID()]
		for ok && componentOf(parent) == "" {
			parent, ok = byID[parent.Parent().SpanID()]
		}
		if ok {
			above := componentOf(parent)
			if !slices.Contains(tree[above], what) {
				tree[above] = append(tree[above], what)
			}
		}
	}
	return tree
}

// componentOf names the component of a span; "" for none.
func componentOf(span sdktrace.ReadOnlySpan) string {
	attrs := attribute.NewSet(span.Attributes()...)
	if system, ok := firstAttribute(attrs, "db.system.name", "db.system"); ok {
		return strings.TrimSuffix(system, "ql")
	}
	if span.Name() == "test" {
		return "test"
	}
	for _, service := range []string{"portfolio", "wallet"} {
		if strings.Contains(span.Name(), "purser."+service+".v1.") {
			return fmt.Sprintf("%s %s", service, span.SpanKind())
		}
	}
	return ""
}

func firstAttribute(attrs attribute.Set, keys ...attribute.Key) (string, bool) {
	for _, k := range keys {
		if v, ok := attrs.Value(k); ok {
			return v.String(), true
		}
	}
	return "", false
}
