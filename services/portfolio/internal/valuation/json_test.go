package valuation_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// The cache stores valuations as JSON, which must keep every digit.
func TestAValuationComesBackFromJSONExactly(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var holdings []valuation.Holding
		for i := range rapid.IntRange(0, 5).Draw(r, "holdings") {
			amount := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 33).Draw(r, "amount"))
			holdings = append(holdings, valuation.Holding{
				TokenID: fmt.Sprint(i), Symbol: rapid.String().Draw(r, "symbol"),
				Verified: rapid.Bool().Draw(r, "verified"),
				Decimals: rapid.Uint8().Draw(r, "decimals"), Amount: amount,
				Price: valuation.Price{Amount: rapid.SampledFrom(
					[]string{"", "0.1", "1824.53", "0.000000000000000000000123",
						"99999999999999999999.9999999999999999999"}).Draw(r, "price"),
					Time: time.Unix(rapid.Int64Range(0, 1<<33).Draw(r, "time"),
						rapid.Int64Range(0, 999_999_999).Draw(r, "nanoseconds")).UTC()},
			})
		}
		v, err := valuation.Compute([]valuation.Wallet{{Account: "w", Synced: rapid.Bool().Draw(r, "synced")}},
			holdings,
			noon().Add(123456789))
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		var back valuation.Valuation
		if err := json.Unmarshal(body, &back); err != nil {
			t.Fatal(err)
		}
		if a, b := whole(v), whole(back); a != b {
			t.Fatalf("\n%s came back as\n%s", a, b)
		}
	})
}

// whole returns everything of a valuation as text.
func whole(v valuation.Valuation) string {
	s := fmt.Sprintln(v.ValuationTime, text(v.Total), text(v.Assets), text(v.Liabilities), v.Unpriced,
		v.Unverified, v.Wallets, v.UnsyncedWallets,
		v.IncompleteWallets, v.StalePrices,
		len(v.IncompleteReasons), v.IncompleteReasons, v.Stale)
	for _, p := range slices.Concat(v.Positions, v.Receipts) {
		s += fmt.Sprintln(p.TokenID, p.Place, p.Symbol, p.Decimals, p.Verified, p.Amount, p.Price.Amount,
			p.Price.Source,
			p.Price.Time, p.Price.Stale, text(p.Value), p.Price.UnpricedReason, p.Share)
	}
	return s
}
