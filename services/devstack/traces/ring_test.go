package traces_test

import (
	"context"
	"net"
	"strings"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/peer"

	"github.com/purserhq/purser/services/devstack/traces"
)

func tracer(ring *traces.Ring) trace.Tracer {
	return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(ring)).Tracer("test")
}

// The ports of services in these tests.
const (
	walletPort    = 1002
	portfolioPort = 1003
)

func listens() {
	traces.Listens("127.0.0.1:1002", "wallet")
	traces.Listens("127.0.0.1:1003", "portfolio")
}

// at is the context of a call that a server on a port has.
func at(ctx context.Context, port int) context.Context {
	local := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
	return peer.NewContext(ctx, &peer.Peer{Addr: &net.TCPAddr{IP: local.IP, Port: 50000}, LocalAddr: local})
}

// remote is what the context of a server on a port has of its caller.
func remote(span trace.Span, port int) context.Context {
	return at(trace.ContextWithRemoteSpanContext(context.Background(), span.SpanContext()), port)
}

func TestASpanIsOfTheServiceThatItsAddressContextOrDatabaseNames(t *testing.T) {
	listens()
	ring := traces.NewRing(100)
	tr := tracer(ring)
	client, server := trace.WithSpanKind(trace.SpanKindClient), trace.WithSpanKind(trace.SpanKindServer)

	ctx, root := tr.Start(traces.WithService(t.Context(), "demo"), "purser.portfolio.v1.PortfolioService/GetValuation",
		client)
	_, answer := tr.Start(remote(root, portfolioPort), "purser.portfolio.v1.PortfolioService/GetValuation", server)
	inside, call := tr.Start(trace.ContextWithSpan(t.Context(), answer),
		"purser.wallet.v1.HoldingsService/GetHoldings", client)
	_, read := tr.Start(inside, "get", client, trace.WithAttributes(attribute.String("db.system.name", "redis")))
	_, other := tr.Start(remote(root, 1009), "grpc.reflection.v1.ServerReflection/ServerReflectionInfo", server)
	_, lists := tr.Start(remote(root, portfolioPort), "grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		server)
	_, status := tr.Start(remote(root, walletPort), "purser.status.v1.StatusService/GetStatus", server)
	_, made := tr.Start(remote(root, walletPort), "purser.made.up.Service/Method", server)
	above, job := tr.Start(t.Context(), "job take_snapshots")
	_, row := tr.Start(above, "SELECT", client,
		trace.WithAttributes(attribute.String("db.namespace", "purser_wallet")))
	_ = ctx
	for _, s := range []trace.Span{row, job, made, status, lists, other, read, call, answer, root} {
		s.End()
	}

	got := map[string]string{}
	for _, id := range []trace.TraceID{root.SpanContext().TraceID(), job.SpanContext().TraceID()} {
		for _, s := range ring.Trace(id).Spans {
			got[s.ID.String()] = s.Service
		}
	}
	for what, tt := range map[string]struct {
		span trace.Span
		want string
	}{
		"the caller's, by its context":          {root, "demo"},
		"the answer, by where it was called":    {answer, "portfolio"},
		"a call to another, by what is above":   {call, "portfolio"},
		"a command, by what is far above":       {read, "portfolio"},
		"an address of nobody's":                {other, ""},
		"a method that every server has":        {lists, "portfolio"},
		"a method that every service has":       {status, "wallet"},
		"a method that there is not":            {made, "wallet"},
		"a statement, by its database":          {row, "wallet"},
		"a job, by the statement that is below": {job, "wallet"},
	} {
		if service := got[tt.span.SpanContext().SpanID().String()]; service != tt.want {
			t.Errorf("%s: %q, want %q", what, service, tt.want)
		}
	}
}

func TestATracePrintsAsAWaterfallWithTimesAndErrors(t *testing.T) {
	ring := traces.NewRing(100)
	tr := tracer(ring)
	ctx, root := tr.Start(traces.WithService(t.Context(), "demo"), "root")
	under, first := tr.Start(ctx, "first")
	_, deep := tr.Start(under, "deep\x1b[31m\n")
	deep.SetStatus(codes.Error, "it fell\nover")
	deep.End()
	first.End()
	_, second := tr.Start(ctx, strings.Repeat("long ", 1000))
	second.End()
	root.End()
	text := ring.Trace(root.SpanContext().TraceID()).String()
	for _, want := range []string{"│ root", "│ ├ first", "│ │ └ ✗ deep", "it fell over", "│ └ long long", "│ demo"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "\x1b") {
		t.Error("a name's control characters reach the terminal")
	}
	for line := range strings.Lines(text) {
		if n := len([]rune(strings.TrimSpace(line))); n > 100 {
			t.Errorf("a line has %d columns: %s", n, line)
		}
	}
}

func TestTheRingKeepsTheLastSpansAndShowsWhatHasEnded(t *testing.T) {
	ring := traces.NewRing(4)
	tr := tracer(ring)
	var ids []trace.TraceID
	for range 3 {
		ctx, root := tr.Start(t.Context(), "root")
		_, child := tr.Start(ctx, "child")
		child.End()
		root.End()
		ids = append(ids, root.SpanContext().TraceID())
	}
	if n := len(ring.Trace(ids[0]).Spans); n != 0 {
		t.Errorf("%d spans of the oldest are kept", n)
	}
	got := ring.Recent(10)
	if len(got) != 2 || got[0].ID != ids[2] || got[1].ID != ids[1] || !got[0].Whole() || len(got[0].Spans) != 2 {
		t.Fatalf("recent: %v", got)
	}
	if got := ring.Recent(1); len(got) != 1 || got[0].ID != ids[2] {
		t.Errorf("the most recent: %v", got)
	}
	ctx, open := tr.Start(t.Context(), "under way")
	_, child := tr.Start(ctx, "child")
	child.End()
	if got := ring.Recent(1); got[0].ID == open.SpanContext().TraceID() {
		t.Error("a trace is shown whose first span has not ended")
	}
	_, answer := tr.Start(t.Context(), "jsonrpc.eth/call", trace.WithSpanKind(trace.SpanKindServer))
	answer.End()
	if got := ring.Trace(answer.SpanContext().TraceID()); len(got.Spans) != 0 {
		t.Errorf("the embedded chain's answers are kept: %v", got)
	}
	if whole := ring.Trace(trace.TraceID{1}); whole.Whole() || len(whole.Spans) != 0 {
		t.Errorf("a trace that there is not: %v", whole)
	}
}
