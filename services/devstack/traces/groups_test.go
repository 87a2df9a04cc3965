package traces_test

import (
	"slices"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/services/devstack/traces"
)

func TestTracesAreGroupedAndFilteredByWhatBeganThem(t *testing.T) {
	ring := traces.NewRing(100)
	tr := tracer(ring)
	listens()
	call := func(port int, method, code, reason string) {
		ctx, root := tr.Start(t.Context(), method, trace.WithSpanKind(trace.SpanKindClient))
		_, answer := tr.Start(at(ctx, port), method, trace.WithSpanKind(trace.SpanKindServer))
		for _, s := range []trace.Span{answer, root} {
			s.SetAttributes(attribute.String("rpc.response.status_code", code))
		}
		if reason != "" {
			answer.SetAttributes(attribute.String("purser.error.reason", reason))
		}
		answer.End()
		root.End()
	}
	const get, list = "purser.wallet.v1.WalletService/GetWallet", "purser.portfolio.v1.PortfolioService/GetValuation"
	call(walletPort, get, "NOT_FOUND", "NOT_FOUND")
	call(walletPort, get, "OK", "")
	call(portfolioPort, list, "UNAVAILABLE", "WALLET_UNAVAILABLE")
	_, job := tr.Start(t.Context(), "job sync_wallets")
	job.SetStatus(codes.Error, "failed")
	job.End()

	for name, tt := range map[string]struct {
		filter traces.Filter
		want   []string // groups
	}{
		"all": {traces.Filter{}, []string{"job sync_wallets", "→ PortfolioService/GetValuation",
			"→ WalletService/GetWallet"}},
		"a service": {traces.Filter{Service: "wallet"}, []string{"→ WalletService/GetWallet"}},
		"a text":    {traces.Filter{Text: "getvalu"}, []string{"→ PortfolioService/GetValuation"}},
		"failed": {traces.Filter{Failed: true, Text: "purser"}, []string{"→ PortfolioService/GetValuation",
			"→ WalletService/GetWallet"}},
		"no service": {traces.Filter{Service: "auth"}, nil},
	} {
		var got []string
		for _, g := range ring.Groups(tt.filter) {
			got = append(got, g.Title)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	groups := ring.Groups(traces.Filter{})
	for i, want := range []string{"failed", "WALLET_UNAVAILABLE", ""} {
		if got := groups[i].Traces[0].Reason(); got != want {
			t.Errorf("%s: the reason is %q, want %q", groups[i].Title, got, want)
		}
	}
	wallets := groups[2]
	if wallets.Failed != 1 || len(wallets.Traces) != 2 || wallets.Median <= 0 || wallets.Median > wallets.Slowest ||
		wallets.Service != "wallet" || wallets.Traces[1].Reason() != "NOT_FOUND" {
		t.Errorf("the group is %+v", wallets)
	}
	if got := ring.Services(); len(got) != 2 || got[0] != "portfolio" || got[1] != "wallet" {
		t.Errorf("traces begin in %q", got)
	}
}

func TestACallWithoutAReasonHasItsCodeAndAWorkingOneNone(t *testing.T) {
	ring := traces.NewRing(10)
	tr := tracer(ring)
	_, refused := tr.Start(t.Context(), "other.v1.Service/Method")
	refused.SetAttributes(attribute.String("rpc.response.status_code", "UNIMPLEMENTED"))
	refused.End()
	ctx, fine := tr.Start(t.Context(), "fine")
	_, inside := tr.Start(ctx, "purser.wallet.v1.WalletService/GetWallet")
	inside.SetAttributes(attribute.String("rpc.response.status_code", "NOT_FOUND"),
		attribute.String("purser.error.reason", "NOT_FOUND"))
	inside.End()
	fine.End()
	if got := ring.Trace(refused.SpanContext().TraceID()).Reason(); got != "UNIMPLEMENTED" {
		t.Errorf("the reason is %q", got)
	}
	handled := ring.Trace(fine.SpanContext().TraceID())
	if handled.Reason() != "" || handled.FailedInside() != 1 {
		t.Errorf("a failure that was dealt with: %q, %d inside", handled.Reason(), handled.FailedInside())
	}
}
