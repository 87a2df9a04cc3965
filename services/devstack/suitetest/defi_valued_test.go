package suitetest

import (
	"context"
	"math/big"
	"testing"

	"github.com/ethereum/go-ethereum/ethclient"

	"github.com/purserhq/purser/proto/client"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/chain"
	"github.com/purserhq/purser/services/devstack/suite"
)

// checkValued holds portfolio's DefiService against the lending pool of the chain at a block, and its sums against
// each other. So many positions there are.
func checkValued(ctx context.Context, t *testing.T, s *suite.Suite, c *client.Clients,
	block uint64, positions int) {
	t.Helper()
	node, err := ethclient.Dial(s.Chain.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	number := func(text string) *big.Rat {
		r, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%q is no number", text)
		}
		return r
	}
	wad := big.NewInt(1_000_000_000_000_000_000)
	var told *big.Rat
	for _, m := range s.Chain.Markets() {
		if m.Name == chain.LendingPoolName {
			data := contracts{node, t}.call("LendingPool", m.Address, block, "getUserAccountData",
				s.Chain.Cast().Alice.Address)
			told = new(big.Rat).SetFrac(data[5].(*big.Int), wad)
		}
	}
	health, err := c.Defi.GetHealth(ctx, &portfoliov1.GetHealthRequest{})
	if err != nil || len(health.GetAccounts()) != 1 {
		t.Fatal(health, err)
	}
	a := health.GetAccounts()[0]
	if got := number(a.GetHealthFactor().GetValue()); got.Cmp(told) != 0 ||
		health.GetLowest().GetHealthFactor().GetValue() != a.GetHealthFactor().GetValue() {
		t.Errorf("the health is told as %s, and the lowest as %s: the pool says %s", got.FloatString(18),
			health.GetLowest().GetHealthFactor().GetValue(), told.FloatString(18))
	}
	// Of one account: 12 places of its health.
	if got := number(health.GetAggregate().GetHealthFactor().GetValue()); got.Cmp(told) > 0 ||
		new(big.Rat).Sub(told, got).Cmp(big.NewRat(1, 1_000_000_000_000)) >= 0 {
		t.Errorf("in all it is %s", got.FloatString(18))
	}
	if len(a.GetDistances()) < 2 || a.GetAllCollateralFall().GetValue() == "" {
		t.Errorf("the distances are %v and %v", a.GetAllCollateralFall(), a.GetDistances())
	}
	held, err := c.Defi.GetPositions(ctx, &portfoliov1.GetPositionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	net, count := new(big.Rat), 0
	for _, m := range held.GetMarkets() {
		for _, p := range m.GetPositions() {
			count++
			value := number(p.GetValue())
			if p.GetKind() == portfoliov1.PositionKind_POSITION_KIND_BORROWED {
				value.Neg(value)
			}
			net.Add(net, value)
		}
	}
	if count != positions || number(held.GetTotal().GetNet()).Cmp(net) != 0 ||
		held.GetTotal().GetUnpricedCount() != 0 {
		t.Errorf("%d positions are worth %s: the total is %v", count, net.FloatString(8), held.GetTotal())
	}
	parts, err := c.Defi.GetProtocolBreakdown(ctx, &portfoliov1.GetProtocolBreakdownRequest{})
	if err != nil {
		t.Fatal(err)
	}
	sum := new(big.Rat)
	for _, p := range parts.GetProtocols() {
		sum.Add(sum, number(p.GetWorth().GetNet()))
	}
	if sum.Cmp(number(parts.GetTotal().GetNet())) != 0 {
		t.Errorf("the protocols sum to %s of %v", sum.FloatString(8), parts.GetTotal())
	}
}
