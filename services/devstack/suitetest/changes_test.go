package suitetest

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

// A watcher sees what a sync stored, and the next valuation has it, although the one before may be cached for a
// minute.
func TestASyncIsInTheNextValuation(t *testing.T) {
	t.Parallel()
	s := start(t, func(o *suite.Options) {
		o.Extra = map[string][]string{"portfolio": {"PURSER_CACHE_VALUATION_TTL=1m"}}
	})
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	stream, err := c.Holdings.WatchChanges(ctx, &walletv1.WatchChangesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next := func(kind walletv1.ChangeKind) *walletv1.Change {
		t.Helper()
		for {
			m, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			for _, change := range m.GetChanges() {
				if change.GetKind() == kind {
					return change
				}
			}
		}
	}
	if first, err := stream.Recv(); err != nil || first.GetCursor() == "" {
		t.Fatal(first, err)
	}
	value := func() *portfoliov1.Valuation {
		t.Helper()
		resp, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetValuation()
	}
	add := func(i int) (id string, block uint64) {
		t.Helper()
		created, err := c.Wallets.CreateWallet(ctx,
			&walletv1.CreateWalletRequest{Account: account(s, s.Chain.Holders()[i])})
		if err != nil {
			t.Fatal(err)
		}
		id = created.GetWallet().GetId()
		synced, err := c.Wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: id})
		if err != nil {
			t.Fatal(err)
		}
		return id, synced.GetWallet().GetSync().GetBlockNumber()
	}
	add(0)
	next(walletv1.ChangeKind_CHANGE_KIND_BALANCES_CHANGED)
	var before *portfoliov1.Valuation
	testkit.Eventually(t, 20*time.Second, func() bool { // until it is cached
		before = value()
		return value().GetValuationTime().AsTime().Equal(before.GetValuationTime().AsTime())
	})
	id, block := add(1)
	change := next(walletv1.ChangeKind_CHANGE_KIND_BALANCES_CHANGED)
	if change.GetWalletId() != id || change.GetBlockNumber() != block {
		t.Errorf("%v, want wallet %s at block %d", change, id, block)
	}
	told := time.Now()
	testkit.Eventually(t, 20*time.Second, func() bool {
		now := value()
		return now.GetTotal() != before.GetTotal() && len(now.GetIncompleteReasons()) == 0
	})
	testkit.Figure(t, "from the change to a valuation that has it: %s", time.Since(told).Round(time.Millisecond))
}
