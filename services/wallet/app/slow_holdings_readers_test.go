package app_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// Readers of a shard that take nothing, with the least that gRPC holds for them, cost the service a page each. At full
// size they wait until they are told, after a minute. They go on after the cursor of their last message.
func TestReadersOfHoldingsThatTakeNothingCostLittleAndGoOn(t *testing.T) {
	const slow = 16
	owners, tokens := testkit.Size(400, 2000), 50
	wait := time.Duration(testkit.Size(2, 100)) * time.Second
	s := service{db: testkit.Postgres(t, migrations.FS), issuer: servicetest.NewIssuer(t)}
	addr, _ := stoppableAt(t, s.db, s.issuer, testkit.Redis(t).URL())
	conn, err := grpcclient.Dial(grpcclient.Config{Addr: addr, Plaintext: true, Timeout: time.Minute}, nil,
		grpc.WithInitialWindowSize(64<<10), grpc.WithInitialConnWindowSize(64<<10))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s.holdings = walletv1.NewHoldingsServiceClient(conn)
	s.holdOfMany(t, owners, tokens)
	ctx := s.may(t, "wallet:any")
	open := func(cursor string) walletv1.HoldingsService_StreamHoldingsClient {
		t.Helper()
		ctx, stop := context.WithTimeout(ctx, 5*time.Minute)
		t.Cleanup(stop)
		stream, err := s.holdings.StreamHoldings(ctx, &walletv1.StreamHoldingsRequest{
			Shard: &walletv1.Shard{Count: 1}, Cursor: cursor})
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // pools are emptied by the second one
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, begun := heap(), time.Now()
	var readers []walletv1.HoldingsService_StreamHoldingsClient
	for range slow {
		readers = append(readers, open(""))
	}
	testkit.Eventually(t, 2*time.Minute, func() bool { return time.Since(begun) > wait })
	grown := heap() - before
	testkit.Figure(t, "memory for %d readers that take nothing of %d holdings, client included: %d KiB", slow,
		owners*tokens, grown>>10)
	// Each would have above 6 MiB of them at the small size, and above 30 at the full one.
	if limit := int64(testkit.Size(48, 96)) << 20; grown > limit {
		t.Errorf("the heap has grown by %d MiB", grown>>20)
	}
	for i, stream := range readers[:2] {
		seen, cursor, told, opened := map[string]int{}, "", 0, 1
		for end := false; !end; {
			m, err := stream.Recv()
			switch {
			case errors.Is(err, io.EOF):
				end = true
			case err != nil: // READER_TOO_SLOW, or a database that is
				e := errs.As(err)
				if opened++; e == nil || e.Kind != errs.KindDeadline || opened > 5 {
					t.Fatalf("stream %d ended with %v", opened-1, err)
				}
				if e.Reason == "READER_TOO_SLOW" {
					told++
				}
				stream = open(cursor)
			default:
				cursor = m.GetCursor()
				for _, o := range m.GetOwners() {
					for _, w := range o.GetWallets() {
						seen[w.GetWalletId()] += len(w.GetHoldings())
					}
				}
			}
		}
		if full := wait > time.Minute; full && told != 1 || !full && told != 0 {
			t.Errorf("after %s reader %d was told %d times that it is too slow", wait, i, told)
		}
		for id, n := range seen {
			if n != tokens {
				t.Fatalf("reader %d has %d of %d holdings of %s", i, n, tokens, id)
			}
		}
		if len(seen) != owners {
			t.Errorf("reader %d has %d of %d wallets", i, len(seen), owners)
		}
	}
}
