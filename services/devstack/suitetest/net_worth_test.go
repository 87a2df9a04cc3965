package suitetest

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/devstack/suite"
)

// decimalsOf returns how many decimals each token of the chain has, by its id.
func decimalsOf(t *testing.T, hours []*walletv1.HistoricalHoldings, get func(id string) uint32) map[string]uint32 {
	t.Helper()
	decimals := map[string]uint32{}
	for _, h := range hours {
		for _, p := range h.GetPrices() {
			if _, ok := decimals[p.GetTokenId()]; !ok {
				decimals[p.GetTokenId()] = get(p.GetTokenId())
			}
		}
	}
	if len(decimals) < 4 {
		t.Fatalf("the tokens are %v", decimals)
	}
	return decimals
}

// worthOf is what a wallet owns and owes in an hour, by what wallet tells, without rounding, and of how many lines.
func worthOf(t *testing.T, h *walletv1.HistoricalHoldings, decimals map[string]uint32) (assets, owed,
	securing *big.Rat, lines int64) {
	t.Helper()
	prices := map[string]string{}
	for _, p := range h.GetPrices() {
		prices[p.GetTokenId()] = p.GetPrice()
	}
	assets, owed, securing = new(big.Rat), new(big.Rat), new(big.Rat)
	add := func(to *big.Rat, id, amount string) (priced bool) {
		price, priced := new(big.Rat).SetString(prices[id])
		base, ok := new(big.Int).SetString(amount, 10)
		if !ok {
			t.Fatalf("the amount of %s is %q", id, amount)
		}
		if priced {
			unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals[id])), nil)
			to.Add(to, price.Mul(price, new(big.Rat).SetFrac(base, unit)))
		}
		return priced
	}
	for _, w := range h.GetWallets() {
		for _, held := range w.GetHoldings() {
			if !held.GetReceipt() && add(assets, held.GetTokenId(), held.GetAmount()) {
				lines++
			}
		}
		for _, m := range w.GetPositions() {
			for _, p := range m.GetPositions() {
				to := assets
				if p.GetKind() == walletv1.PositionKind_POSITION_KIND_BORROWED {
					to = owed
				}
				if add(to, p.GetTokenId(), p.GetAmount()) {
					lines++
				}
				if p.GetCollateral() {
					add(securing, p.GetTokenId(), p.GetAmount())
				}
			}
		}
	}
	return assets, owed, securing, lines
}

// Each hour of a portfolio that lends, borrows and stakes is worth what wallet tells of it, tokens that stand for
// positions left out. The interest of a day on real contracts is no flow.
func TestEachHourIsWorthItsAssetsLessItsLiabilities(t *testing.T) {
	s := start(t, func(o *suite.Options) { o.Defi, o.History = true, 30*time.Hour })
	c := dial(t, s.Endpoints)
	ctx, _ := signIn(t, c)
	account := fmt.Sprintf("eip155:%d:%s", s.Chain.ChainID(), s.Chain.Cast().Alice.Address.Hex())
	made, err := c.Wallets.CreateWallet(ctx, &walletv1.CreateWalletRequest{Account: account})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: made.GetWallet().GetId()})
	if err != nil {
		t.Fatal(err)
	}
	end := s.Chain.Head().Time.Truncate(time.Hour).Add(-time.Hour)
	from := end.Add(-26 * time.Hour)
	for next := timestamppb.New(from); next != nil; {
		resp, err := c.Portfolios.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: next,
			EndTime: timestamppb.New(end)})
		if err != nil {
			t.Fatal(err)
		}
		next = resp.GetBackfill().GetNextStartTime()
	}
	listed, err := c.Portfolios.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PageSize: 500})
	if err != nil {
		t.Fatal(err)
	}
	stored := map[int64]*portfoliov1.Snapshot{}
	for _, snap := range listed.GetSnapshots() {
		stored[snap.GetBucketTime().AsTime().Unix()] = snap
	}
	hours, _ := readHistory(t, ctx, c, from, end, 1000)
	decimals := decimalsOf(t, hours, func(id string) uint32 {
		token, err := c.Tokens.GetToken(ctx, &walletv1.GetTokenRequest{TokenId: id})
		if err != nil {
			t.Fatal(err)
		}
		return token.GetToken().GetDecimals()
	})
	owing, quiet := 0, 0
	for i, h := range hours {
		at := h.GetHourTime().AsTime()
		snap := stored[at.Unix()]
		assets, owed, securing, lines := worthOf(t, h, decimals)
		rounding := new(big.Rat).SetFrac64(lines, 200_000_000)
		for name, pair := range map[string]struct {
			told string
			want *big.Rat
		}{"assets": {snap.GetAssets(), assets}, "liabilities": {snap.GetLiabilities(), owed},
			"collateral": {snap.GetCollateral(), securing},
			"total":      {snap.GetTotal(), new(big.Rat).Sub(assets, owed)}} {
			got, ok := new(big.Rat).SetString(pair.told)
			if !ok || got.Sub(got, pair.want).Abs(got).Cmp(rounding) > 0 {
				t.Errorf("%s: the %s are %q, want %s", at, name, pair.told, pair.want.FloatString(8))
			}
		}
		if owed.Sign() > 0 && securing.Sign() > 0 {
			owing++
		}
		if i > 0 && snap.GetNetFlow() == "0" && earned(h, hours[i-1]) {
			quiet++
		}
	}
	if owing < 20 || quiet < 3 {
		t.Errorf("of %d hours %d have debts, and %d have interest without a flow", len(hours), owing, quiet)
	}
}

// earned reports whether positions are others than in the hour before.
func earned(now, before *walletv1.HistoricalHoldings) bool {
	amounts := func(h *walletv1.HistoricalHoldings) (text string) {
		for _, m := range h.GetWallets()[0].GetPositions() {
			for _, p := range m.GetPositions() {
				text += p.GetAmount() + " "
			}
		}
		return text
	}
	return amounts(before) != "" && amounts(now) != amounts(before)
}
