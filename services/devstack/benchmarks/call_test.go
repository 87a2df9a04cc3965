// Package benchmarks compares a call of a complete server with one of a bare gRPC server with the same payload.
package benchmarks

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/testkit/versus"
	"github.com/purserhq/purser/proto/access"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

const issuer = "https://issuer.test"

// answering is a portfolio service whose GetValuation returns ten constant positions.
type answering struct {
	portfoliov1.UnimplementedPortfolioServiceServer
	response *portfoliov1.GetValuationResponse
}

func newAnswering() *answering {
	v := &portfoliov1.Valuation{Currency: "USD", Total: "1234567.89012345", Complete: true,
		ValuationTime: timestamppb.Now()}
	for i := range 10 {
		v.Positions = append(v.Positions, &portfoliov1.Position{
			TokenId: fmt.Sprintf("eip155:1/erc20:0x%040x", i), Symbol: "TOKEN", Decimals: 18,
			Amount: "123456789012345678901", Price: "1.00010000", PriceSource: "feed",
		})
	}
	return &answering{response: &portfoliov1.GetValuationResponse{Valuation: v}}
}

func (a *answering) GetValuation(context.Context, *portfoliov1.GetValuationRequest) (*portfoliov1.GetValuationResponse,
	error) {
	return a.response, nil
}

type keys map[string]authn.Key

func (k keys) Key(_ context.Context, kid string) (authn.Key, error) {
	key, ok := k[kid]
	if !ok {
		return authn.Key{}, authn.ErrUnknownKey
	}
	return key, nil
}

// discard drops spans that were recorded as usual.
type discard struct{}

func (discard) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (discard) Shutdown(context.Context) error                             { return nil }

func listen(b *testing.B) net.Listener {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	return l
}

func serve(b *testing.B, s interface {
	grpc.ServiceRegistrar
	Serve(net.Listener) error
	Stop()
}, a *answering) string {
	b.Helper()
	l := listen(b)
	portfoliov1.RegisterPortfolioServiceServer(s, a)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	b.Cleanup(func() {
		s.Stop()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	return l.Addr().String()
}

func bare(b *testing.B) portfoliov1.PortfolioServiceClient {
	addr := serve(b, grpc.NewServer(), newAnswering())
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return portfoliov1.NewPortfolioServiceClient(conn)
}

// purser is a server and a client with all interceptors of Purser's, and a token.
func purser(b *testing.B, a *answering) (portfoliov1.PortfolioServiceClient, string) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	now := time.Now()
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, jwt.MapClaims{
		"iss": issuer, "aud": authn.Audience, "sub": uuid.NewString(), "sid": uuid.NewString(),
		"iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "permissions": []string{"portfolio:read"},
	})
	t.Header["typ"], t.Header["kid"] = authn.TokenType, "key"
	token, err := t.SignedString(private)
	if err != nil {
		b.Fatal(err)
	}
	s, err := grpcserver.New(grpcserver.Config{
		Plaintext: true, MinTimeout: 5 * time.Millisecond, MaxTimeout: 30 * time.Second, RatePerSecond: 1e9,
		Burst: 1e9,
	}, grpcserver.Deps{
		Rules:    access.Lookup,
		Verifier: authn.NewVerifier(keys{"key": {Algorithm: "EdDSA", Public: public}}, authn.Options{Issuer: issuer}),
		Log:      slog.New(slog.NewJSONHandler(io.Discard, nil)),
	})
	if err != nil {
		b.Fatal(err)
	}
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: serve(b, s, a), Plaintext: true}, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	return portfoliov1.NewPortfolioServiceClient(conn), token
}

// BenchmarkCall compares an authenticated, validated, logged and traced call with one of a bare server. The goals:
// at least 80 % of its rate with one caller and 75 % with 16, which is at most 1/0.8 and 1/0.75 of its time, and at
// most one and a half times its 99th percentile. What each layer allocates is printed by make allocations.
func BenchmarkCall(b *testing.B) {
	provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(discard{}))
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(provider)
	defer func() { otel.SetTracerProvider(before); _ = provider.Shutdown(context.Background()) }()
	raw := bare(b)
	ours, token := purser(b, newAnswering())
	request := &portfoliov1.GetValuationRequest{PortfolioId: uuid.NewString()}
	ctx := context.Background()
	authorized := grpcclient.WithToken(ctx, token)
	call := func(client portfoliov1.PortfolioServiceClient, ctx context.Context) {
		if _, err := client.GetValuation(ctx, request); err != nil {
			b.Fatal(err)
		}
	}
	for name, callers := range map[string]struct {
		workers int
		goal    float64
	}{"One": {1, 1 / 0.8}, "Sixteen": {16, 1 / 0.75}} {
		b.Run(name, func(b *testing.B) {
			versus.Run(b, versus.Comparison{
				Goal: callers.goal, P99Goal: 1.5, Workers: callers.workers,
				Raw: func() { call(raw, ctx) }, Ours: func() { call(ours, authorized) },
			})
		})
	}
}
