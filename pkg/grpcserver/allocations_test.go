//go:build !race

// The race detector allocates too, and takes objects out of pools: make allocations runs this without it.

package grpcserver_test

import (
	"io"
	"log/slog"
	"net"
	"testing"

	"go.opentelemetry.io/otel"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/testkit"
)

// What a call allocates in each part of a server, at most. A lower figure belongs here as soon as it is true.
var maxAllocations = map[string]float64{
	"handler": 3, "measure": 9, "log": 0, "recover": 0, "start": 0, "errs": 0, "deadline": 4, "authn": 4, "access": 2,
	"ratelimit": 0, "caller": 0, "validate": 4,
}

// maxBytes is what all parts allocate together, at most.
const maxBytes = 2560

func TestTheLayersAllocateNoMoreThanTheyDid(t *testing.T) {
	before := otel.GetTracerProvider()
	otel.SetTracerProvider(sdktrace.NewTracerProvider())
	t.Cleanup(func() { otel.SetTracerProvider(before) })
	ctx := metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", "Bearer reader-secret"))
	ctx = peer.NewContext(ctx, &peer.Peer{Addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7}})
	cfg := plaintext()
	cfg.RatePerSecond, cfg.Burst = 1e9, 1e9
	costs, err := grpcserver.Costs(ctx, cfg, grpcserver.Deps{Rules: rules, Verifier: known(),
		Log: slog.New(slog.NewJSONHandler(io.Discard, nil))}, read, newNote("ok"))
	if err != nil {
		t.Fatal(err)
	}
	allocs, bytes := 0.0, 0.0
	for _, c := range costs {
		limit, ok := maxAllocations[c.Part]
		testkit.Figure(t, "%-9s %2.0f allocations, %4.0f bytes", c.Part, c.Allocs, c.Bytes)
		if !ok || c.Allocs > limit {
			t.Errorf("%s: %g allocations, want %g at most", c.Part, c.Allocs, limit)
		}
		allocs, bytes = allocs+c.Allocs, bytes+c.Bytes
	}
	if len(costs) != len(maxAllocations) || bytes > maxBytes {
		t.Errorf("%d parts with %g bytes, want %d with %d at most", len(costs), bytes, len(maxAllocations), maxBytes)
	}
	testkit.Figure(t, "together  %2.0f allocations, %4.0f bytes", allocs, bytes)
}
