package suitetest

import (
	"context"
	"crypto/rand"
	mrand "math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/suite"
)

// amounts are those of a stream's last state by symbol, and when each came. It is safe for concurrent use.
type amounts struct {
	mu   sync.Mutex
	last map[string]string
	at   time.Time
	err  error
}

func (a *amounts) read(stream portfoliov1.PortfolioService_WatchValuationClient) {
	for {
		m, err := stream.Recv()
		a.mu.Lock()
		if a.err = err; err == nil && m.GetValuation() != nil {
			a.last, a.at = map[string]string{}, time.Now()
			for _, p := range m.GetValuation().GetPositions() {
				a.last[p.GetSymbol()] = p.GetAmount()
			}
		}
		a.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// of is the amount of a symbol, and when the state that has it came.
func (a *amounts) of(t *testing.T, symbol string) (string, time.Time) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		t.Fatal(a.err)
	}
	return a.last[symbol], a.at
}

// From a transfer in a block of the chain to the stream of its owner, by the newest block, which is asked for once a
// second, and to nobody else's. The job that syncs wallets doesn't run.
func TestATransferOnTheChainReachesTheWatchersOfItsOwner(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *suite.Options) {
		o.Extra = map[string][]string{"wallet": {"PURSER_NEW_BLOCKS_EVERY=1s"}}
	})
	c := dial(t, s.Endpoints)
	type owner struct {
		address common.Address
		stream  amounts
		held    map[string]*uint256.Int
	}
	owners := make([]*owner, 4)
	for i := range owners {
		ctx, _ := signIn(t, c)
		o := &owner{held: map[string]*uint256.Int{"ETH": new(uint256.Int), "USDC": new(uint256.Int)}}
		_, _ = rand.Read(o.address[:])
		owners[i] = o
		addWallet(t, ctx, c, account(s, o.address))
		ctx, stop := context.WithCancel(ctx)
		t.Cleanup(stop)
		stream, err := c.Portfolios.WatchValuation(ctx, &portfoliov1.WatchValuationRequest{})
		if err != nil {
			t.Fatal(err)
		}
		go o.stream.read(stream)
		testkit.Eventually(t, time.Minute, func() bool { _, at := o.stream.of(t, ""); return !at.IsZero() })
	}
	usdc, ok := s.Chain.Token("USDC")
	if !ok {
		t.Fatal("no USDC")
	}
	rounds := testkit.Size(10, 100)
	var took []time.Duration
	for round := range rounds + 1 {
		o, symbol, asset := owners[round%len(owners)], "ETH", chain.Native()
		if round%2 == 1 {
			symbol, asset = "USDC", usdc.Address
		}
		amount := uint256.NewInt(1_000_000 + uint64(round))
		if _, err := s.Chain.Fund(t.Context(), o.address, asset, amount); err != nil {
			t.Fatal(err)
		}
		// At any moment of the period, not always just after a look.
		phase := time.NewTimer(mrand.N(time.Second))
		<-phase.C
		if err := s.Chain.Mine(t.Context()); err != nil {
			t.Fatal(err)
		}
		mined := time.Now()
		o.held[symbol].Add(o.held[symbol], amount)
		want := o.held[symbol].Dec()
		testkit.Eventually(t, time.Minute, func() bool {
			got, _ := o.stream.of(t, symbol)
			return got == want
		})
		_, at := o.stream.of(t, symbol)
		if round > 0 { // the first one may be before the chain is followed
			took = append(took, at.Sub(mined))
		}
		for _, other := range owners {
			for symbol, held := range other.held {
				if got, _ := other.stream.of(t, symbol); got != held.Dec() && (got != "" || !held.IsZero()) {
					t.Fatalf("round %d: a stream has %s %s, want %s", round, got, symbol, held.Dec())
				}
			}
		}
	}
	slices.Sort(took)
	p50, p99 := took[len(took)/2], took[min(len(took)-1, len(took)*99/100)]
	testkit.Figure(t, "from a block to the stream, %d transfers, newest block asked for once a second: p50 %s, p99 "+
		"%s (goals 2 s and 4 s)", len(took), p50.Round(time.Millisecond), p99.Round(time.Millisecond))
	if p50 > 2*time.Second || p99 > 4*time.Second {
		t.Errorf("p50 %s, p99 %s", p50, p99)
	}
}
