package app_test

import (
	"context"
	"errors"
	"io"
	"runtime/debug"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// holdOfMany gives as many owners a wallet each, with this many tokens.
func (s service) holdOfMany(t *testing.T, owners, tokens int) {
	t.Helper()
	s.hold(t, s.user(t), 0, tokens) // makes the tokens
	s.exec(t, `INSERT INTO wallets (id, owner_id, account, created_at, updated_at)
		SELECT ('01900000-0000-7000-9000-' || lpad(to_hex(i), 12, '0'))::uuid, gen_random_uuid(),
		       'eip155:1:0x' || lpad(to_hex(i), 40, '0'), now(), now()
		FROM generate_series(1, $1::int) AS i`, owners)
	for i := 1; i <= owners; i += 50 { // a statement has little time
		s.exec(t, `INSERT INTO balances (wallet_id, token_id, amount, block_number, block_hash, block_time)
			SELECT ('01900000-0000-7000-9000-' || lpad(to_hex(i), 12, '0'))::uuid, t.id, 123456789012345678901,
			       23000000, '\x00', now()
			FROM generate_series($1::int, least($1::int + 49, $2::int)) AS i
			CROSS JOIN tokens t WHERE t.symbol LIKE 'TKN%'`, i, owners)
	}
	s.exec(t, "ANALYZE")
}

// 200,000 holdings at full size. The reader opens the stream anew after each few messages.
func TestAllHoldingsAreStreamedByShardsInBoundedMemory(t *testing.T) {
	owners, tokens := testkit.Size(400, 4000), 50
	s := replica(t, testkit.Postgres(t, migrations.FS), servicetest.NewIssuer(t), testkit.Redis(t).URL(), tokenList,
		io.Discard)
	s.holdOfMany(t, owners, tokens)
	var size int64
	if err := s.db.SQL().QueryRowContext(t.Context(), "SELECT pg_total_relation_size('balances')").
		Scan(&size); err != nil {
		t.Fatal(err)
	}
	testkit.Figure(t, "%d bytes a balance on disk, indexes counted", size/int64(owners*tokens))
	service := s.may(t, "wallet:any")
	debug.FreeOSMemory()
	resetPeak(t)
	before, begun := peak(t), time.Now()
	seen, holdings, messages, largest := map[string]int{}, 0, 0, 0
	const shards = 4
	for shard := range int32(shards) {
		r := &walletv1.StreamHoldingsRequest{Shard: &walletv1.Shard{Number: shard, Count: shards}}
		for end := false; !end; {
			ctx, stop := context.WithCancel(service)
			stream, err := s.holdings.StreamHoldings(ctx, r)
			if err != nil {
				t.Fatal(err)
			}
			for range 3 {
				m, err := stream.Recv()
				if errors.Is(err, io.EOF) {
					end = true
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				r.Cursor, messages, largest = m.GetCursor(), messages+1, max(largest, proto.Size(m))
				for _, o := range m.GetOwners() {
					for _, w := range o.GetWallets() {
						seen[w.GetWalletId()] += len(w.GetHoldings())
						holdings += len(w.GetHoldings())
					}
				}
			}
			stop()
		}
	}
	testkit.Figure(t, "%d holdings of %d owners in %d messages of at most %d bytes, in %s: %d MB of resident "+
		"memory at most, %d MB before, with the caller in the same process", holdings, owners, messages, largest,
		time.Since(begun).Round(time.Millisecond), peak(t)>>20, before>>20)
	if len(seen) != owners || holdings != owners*tokens || largest > page.MaxBytes {
		t.Errorf("%d of %d wallets, %d of %d holdings, messages of up to %d bytes", len(seen), owners, holdings,
			owners*tokens, largest)
	}
	for id, n := range seen {
		if n != tokens {
			t.Fatalf("wallet %s has %d of %d holdings", id, n, tokens)
		}
	}
	if most := before + 64<<20; peak(t) > most && !raceEnabled {
		t.Errorf("the streams took the process from %d to %d MB", before>>20, peak(t)>>20)
	}
}

func TestWhatCannotBeStreamed(t *testing.T) {
	s := start(t)
	ada, service := s.user(t), s.may(t, "wallet:any")
	s.create(ada, t, account)
	first := func(r *walletv1.StreamHoldingsRequest) (*walletv1.StreamHoldingsResponse, error) {
		stream, err := s.holdings.StreamHoldings(service, r)
		if err != nil {
			t.Fatal(err)
		}
		return stream.Recv()
	}
	stream, err := s.holdings.StreamHoldings(ada, &walletv1.StreamHoldingsRequest{Shard: &walletv1.Shard{Count: 1}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = stream.Recv()
	servicetest.WantError(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	m, err := first(&walletv1.StreamHoldingsRequest{Shard: &walletv1.Shard{Count: 1}})
	if err != nil || len(m.GetOwners()) != 1 || m.GetOwners()[0].GetOwnerId() != servicetest.UserID(ada, t) {
		t.Fatal(m, err)
	}
	for field, r := range map[string]*walletv1.StreamHoldingsRequest{
		"shard":        {},
		"shard.number": {Shard: &walletv1.Shard{Number: 2, Count: 2}},
		"cursor":       {Shard: &walletv1.Shard{Count: 2}, Cursor: m.GetCursor()},
	} {
		_, err := first(r)
		servicetest.WantViolation(t, err, field)
	}
	_, err = first(&walletv1.StreamHoldingsRequest{Shard: &walletv1.Shard{Count: 1}, Cursor: m.GetCursor()})
	if !errors.Is(err, io.EOF) {
		t.Error(err)
	}
}
