package suitetest

import (
	"fmt"
	"testing"
	"time"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/prices"
	"github.com/purserhq/purser/services/devstack/suite"
)

// With chainlink as the first source the suite values by the feeds on its own chain, as
// PURSER_PRICE_SOURCES=chainlink,… does for `make run`; what they don't have, the next source has.
func TestASuiteIsPricedByTheFeedsOnItsChain(t *testing.T) {
	s := start(t, func(o *suite.Options) {
		o.Extra = map[string][]string{"wallet": {"PURSER_PRICE_SOURCES=chainlink,llama,coingecko,imported"}}
	})
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	addWallet(t, ctx, c, account(s, s.Chain.Holders()[0]))
	ether := fmt.Sprintf("eip155:%d/slip44:60", s.Chain.ChainID())
	got, err := c.Prices.GetPrices(ctx, &walletv1.GetPricesRequest{TokenIds: []string{ether, "EUR"}})
	if err != nil {
		t.Fatal(err)
	}
	for i, symbol := range []string{"ETH", "EUR"} {
		p := got.GetPrices()[i]
		want, _ := prices.PriceAt(symbol, p.GetPriceTime().AsTime())
		if p.GetSource() != "chainlink" || p.GetStale() || rat(t, p.GetPrice()).Cmp(rat(t, want)) != 0 ||
			!p.GetPriceTime().AsTime().Equal(p.GetPriceTime().AsTime().Truncate(time.Hour)) {
			t.Errorf("%s: %v, want %s", symbol, p, want)
		}
	}
	v, err := c.Portfolios.GetValuation(ctx, &portfoliov1.GetValuationRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if v.GetValuation().GetTotal() == "" || len(v.GetValuation().GetPositions()) == 0 {
		t.Fatalf("%v", v)
	}
	for _, p := range v.GetValuation().GetPositions() {
		if p.GetVerified() && p.GetPriceSource() != "chainlink" {
			t.Errorf("%s is valued by %s", p.GetSymbol(), p.GetPriceSource())
		}
	}
}
