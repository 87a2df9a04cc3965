package traces_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/trace"
	collectorpb "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/telemetry"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/suite"
	"github.com/purserhq/purser/services/devstack/traces"
)

// collector takes spans as an OpenTelemetry collector does, and counts those
// of each trace by the name of their resource.
type collector struct {
	mu    sync.Mutex
	spans map[string]map[string]int
}

func (c *collector) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/v1/metrics" || r.URL.Path == "/v1/logs" {
		return // taken
	}
	body, err := io.ReadAll(r.Body)
	var sent collectorpb.ExportTraceServiceRequest
	if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &sent) != nil {
		http.Error(w, "no spans", http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, rs := range sent.GetResourceSpans() {
		name := ""
		for _, a := range rs.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				name = a.GetValue().GetStringValue()
			}
		}
		for _, scope := range rs.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				id := fmt.Sprintf("%x", s.GetTraceId())
				if c.spans[id] == nil {
					c.spans[id] = map[string]int{}
				}
				c.spans[id][name]++
			}
		}
	}
}

func TestOneCallIsOneTraceInTheRingAndInTheCollector(t *testing.T) {
	c := &collector{spans: map[string]map[string]int{}}
	listening := httptest.NewServer(c)
	defer listening.Close()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", listening.URL)
	t.Setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
	ring := traces.NewRing(4096)
	tel, err := telemetry.Start(t.Context(), "purser-devstack", telemetry.WithSpanProcessor(ring),
		telemetry.WithSpanExporter(traces.ByService))
	if err != nil {
		t.Fatal(err)
	}
	id := valuation(t)
	// A server's span ends a moment after its client has the answer.
	testkit.Eventually(t, 5*time.Second, func() bool { return ring.Trace(id).Whole() })
	for _, part := range [][2]string{{"test", ""}, {"portfolio", "redis"}, {"wallet", "redis"},
		{"wallet", "postgresql"}} {
		if got := ring.Trace(id); !got.Has(part[0], part[1]) {
			t.Errorf("no span of %v in\n%s", part, got)
		}
	}
	if err := tel.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range []string{"purser-test", "purser-portfolio", "purser-wallet"} {
		if c.spans[id.String()][name] == 0 {
			t.Errorf("the collector has of the trace %v, nothing of %s", c.spans[id.String()], name)
		}
	}
	if n := c.spans[id.String()]["purser-devstack"]; n != 0 {
		t.Errorf("%d spans of the trace are of no service", n)
	}
}

// valuation runs a suite, values a wallet there and returns the trace.
func valuation(t *testing.T) trace.TraceID {
	t.Helper()
	s, err := suite.Start(t.Context(), suite.Options{Dir: testkit.Folder(t), History: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	}()
	c, err := demo.Dial(s.Endpoints)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: "a@example.com", Password: "a long enough passphrase"}); err != nil {
		t.Fatal(err)
	}
	in, err := c.Sessions.Login(t.Context(), &authv1.LoginRequest{Email: "a@example.com",
		Password: "a long enough passphrase"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := grpcclient.WithToken(t.Context(), in.GetTokens().GetAccessToken())
	account := fmt.Sprintf("eip155:%d:%s", s.Chain.ChainID(), s.Chain.Holders()[0].Hex())
	made, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: account})
	if err != nil {
		t.Fatal(err)
	}
	sync := &walletv1.SyncWalletRequest{WalletId: made.GetWallet().GetId()}
	if _, err := c.Wallets.SyncWallet(ctx, sync); err != nil {
		t.Fatal(err)
	}
	traced, span := otel.Tracer("test").Start(traces.WithService(ctx, "test"), "value portfolio")
	defer span.End()
	if _, err := c.Portfolios.GetValuation(traced, &portfoliov1.GetValuationRequest{}); err != nil {
		t.Fatal(err)
	}
	return span.SpanContext().TraceID()
}
