package console_test

import (
	"testing"
	"time"

	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/console"
)

// An open page shows another value as soon as it is told: it asks for new data only once an hour here.
func TestTheValueIsLiveInABrowser(t *testing.T) {
	s := startStage(t, func(o *console.Options) { o.Refresh = time.Hour })
	b := openBrowser(t, s.console.URL())
	b.shows("#value", "Now")
	before := b.text("#total")[0]
	holder := s.Chain.Holders()[0]
	if _, err := s.Chain.Fund(t.Context(), holder, chain.Native(), uint256.NewInt(5e18)); err != nil {
		t.Fatal(err)
	}
	if err := s.Chain.Mine(t.Context()); err != nil {
		t.Fatal(err)
	}
	wallets, err := s.clients.Wallets.ListWallets(s.user, &walletv1.ListWalletsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range wallets.GetWallets() {
		_, err := s.clients.Wallets.SyncWallet(s.user, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
		if err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, pageTimeout, func() bool {
		now := b.text("#total")
		return len(now) == 1 && now[0] != before
	})
	if got := b.loggedErrors(); len(got) > 0 {
		t.Errorf("the browser logged errors: %q", got)
	}
}
