package holdings_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
)

// lending is a wallet that holds 1 of x and has supplied an amount of it, of which nothing is missing, or this.
func lending(id, supplied, missing string) *walletv1.WalletHoldings {
	w := walletOf(id, holdingOf("x", "1", 6))
	w.Positions = []*walletv1.MarketPositions{{WalletId: id, Protocol: "aave-v3", Market: "m", Complete: missing == "",
		Missing: missing, Positions: []*walletv1.Position{{Kind: walletv1.PositionKind_POSITION_KIND_SUPPLIED,
			TokenId: "x", Amount: supplied}, {Kind: walletv1.PositionKind_POSITION_KIND_BORROWED, TokenId: "nobody's",
			Amount: "5"}}}}
	return w
}

// In an hour that has only changes, a wallet has the positions of the last hour that tells of it.
func TestPastHoursHaveThePositionsOfTheirWallets(t *testing.T) {
	second := hourOf(2)
	second.OnlyChanges, second.Prices = true, hourOf(1, lending("a", "7", "")).GetPrices()
	third := hourOf(3, lending("a", "8", "its debts"))
	third.OnlyChanges = true
	third.Prices = append(third.Prices, &walletv1.Price{TokenId: "nobody's", Price: "1000000"})
	a := &fakeHistory{serve: func(_ context.Context, n int) (*walletv1.ListHistoricalHoldingsResponse, error) {
		if n == 0 {
			return historyPage(true, hourOf(1, lending("a", "7", ""), lending("b", "2", "")), second), nil
		}
		return historyPage(false, third), nil
	}}
	var got []string
	_, _, err := hours(t.Context(), a, func(h snapshot.HourHoldings) error {
		for _, w := range h.Wallets {
			got = append(got, fmt.Sprint(h.Time.Hour(), w.ID, len(w.Unknown), h.SameAmounts))
		}
		for _, v := range h.Holdings {
			got = append(got, fmt.Sprint(v.Place.Kind, v.Amount, v.Price.Amount, v.Price.UnpricedReason))
		}
		return nil
	})
	const want = `1a0 false, 1b0 false, SUPPLIED75, BORROWED5UNKNOWN_TOKEN, 15, SUPPLIED25, BORROWED5UNKNOWN_TOKEN, ` +
		`15, 2a0 true, 2b0 true, 3a1 false, 3b0 false, SUPPLIED85, BORROWED5UNKNOWN_TOKEN, 15, SUPPLIED25, ` +
		`BORROWED5UNKNOWN_TOKEN, 15`
	if got := strings.Join(got, ", "); err != nil || got != want {
		t.Errorf("read\n%s\nwant\n%s\n%v", got, want, err)
	}
}
