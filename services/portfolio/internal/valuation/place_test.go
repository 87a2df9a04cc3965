package valuation_test

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// in returns what a wallet has of a token in a lending pool.
func in(kind valuation.PositionKind, h valuation.Holding) valuation.Holding {
	h.Place = valuation.Place{Protocol: "aave-v3", Market: "eip155:1:0xpool", Kind: kind}
	return h
}

func receipt(h valuation.Holding) valuation.Holding {
	h.IsReceipt = true
	return h
}

// lines are the positions as text, with their values and shares.
func lines(positions []valuation.Position) string {
	var out []string
	for _, p := range positions {
		out = append(out, fmt.Sprintf("%s %s %s %.2f", p.TokenID, p.Place.Kind, text(p.Value), p.Share))
	}
	return strings.Join(out, "\n")
}

// 60 in wallets and 40 supplied are assets of 100; 30 are owed, and the token that stands for the 40 is not counted.
func TestNetWorthIsAssetsLessLiabilities(t *testing.T) {
	v := of(t, hold("dai", "60", 0, "1"), in(valuation.Supplied, hold("usdc", "40", 0, "1")),
		in(valuation.Borrowed, hold("dai", "30", 0, "1")), receipt(hold("ausdc", "40", 0, "1")))
	if text(v.Collateral) != "0" {
		t.Errorf("what secures nothing is collateral: %s", text(v.Collateral))
	}
	if text(v.Total) != "70.00000000" || text(v.Assets) != "100.00000000" || text(v.Liabilities) != "30.00000000" {
		t.Errorf("the total is %s of %s less %s", text(v.Total), text(v.Assets), text(v.Liabilities))
	}
	const want = "dai  60.00000000 0.60\nusdc SUPPLIED 40.00000000 0.40\ndai BORROWED -30.00000000 0.00"
	if got := lines(v.Positions); got != want || !v.Complete() {
		t.Errorf("the positions are\n%s\nwant\n%s\nincomplete: %v", got, want, v.IncompleteReasons)
	}
	if got := lines(v.Receipts); got != "ausdc  40.00000000 0.00" || v.Unpriced+v.Unverified != 0 {
		t.Errorf("the receipts are %q, %d unpriced, %d unverified", got, v.Unpriced, v.Unverified)
	}
}

func TestATotalCanBeBelowZero(t *testing.T) {
	v := of(t, hold("a", "10", 0, "1"), in(valuation.Borrowed, hold("b", "25", 0, "1")))
	if text(v.Total) != "-15.00000000" || v.Positions[0].Share != 1 || v.Positions[1].Share != 0 {
		t.Errorf("the total is %s, the positions are\n%s", text(v.Total), lines(v.Positions))
	}
	v = of(t, in(valuation.Borrowed, hold("b", "25", 0, "1")))
	if text(v.Total) != "-25.00000000" || text(v.Assets) != "0" || v.Positions[0].Share != 0 {
		t.Errorf("with debts alone the total is %s of %s", text(v.Total), text(v.Assets))
	}
}

// A debt or a deposit whose price isn't known is never 0: the valuation says what is missing.
func TestAPositionWithoutAPriceIsUnpriced(t *testing.T) {
	for _, kind := range []valuation.PositionKind{valuation.Supplied, valuation.Borrowed, valuation.Claimable,
		valuation.Locked, valuation.Staked, valuation.Liquidity} {
		v := of(t, hold("a", "10", 0, "1"), in(kind, hold("b", "25", 0, "")))
		if v.Complete() || v.Unpriced != 1 || v.Positions[1].Value != nil || text(v.Total) != "10.00000000" {
			t.Errorf("%s: %s, reasons %q", kind, lines(v.Positions), v.IncompleteReasons)
		}
	}
}

func TestWhatIsNotKnownOfAMarketMakesAValuationIncomplete(t *testing.T) {
	markets := []valuation.Market{{Protocol: "aave-v3", ID: "eip155:1:0xpool", Missing: "the debts",
		Positions: []valuation.ProtocolPosition{
			{Holding: hold("usdc", "40", 0, "1"), Known: true, Kind: valuation.Supplied}}},
		{Protocol: "later", ID: "eip155:1:0xl", Complete: true, Positions: []valuation.ProtocolPosition{
			{Holding: hold("x", "7", 0, "1"), Known: true}}},
		{Protocol: "steth", ID: "eip155:1:0xs", Complete: true}}
	w := valuation.Wallet{Account: "w", Synced: true}
	for _, m := range markets {
		if what := m.Unknown(); what != "" {
			w.Unknown = append(w.Unknown, what)
		}
	}
	v, err := valuation.Compute([]valuation.Wallet{w}, valuation.InMarkets(markets), noon())
	if err != nil || text(v.Total) != "40.00000000" {
		t.Fatalf("what was last read is worth %s, %v", text(v.Total), err)
	}
	want := []string{"of wallet w, aave-v3 at eip155:1:0xpool could not be read: the debts",
		"of wallet w, later at eip155:1:0xl has a position of a kind that is not known"}
	if !slices.Equal(v.IncompleteReasons, want) || v.IncompleteWallets != 1 || v.Measurable() {
		t.Errorf("it is incomplete for %q", v.IncompleteReasons)
	}
}

// A token that nobody verified is outside of the portfolio, in a market too. A debt in one is named.
func TestADebtInATokenThatIsNotVerifiedMakesAValuationIncomplete(t *testing.T) {
	spam := hold("spam", "5", 0, "1000")
	spam.Verified = false
	markets := []valuation.Market{{Protocol: "aave-v3", Complete: true, Positions: []valuation.ProtocolPosition{
		{Holding: spam, Known: true, Kind: valuation.Supplied}}}}
	v := of(t, append(valuation.InMarkets(markets), hold("a", "10", 0, "1"))...)
	if !v.Complete() || v.Unverified != 1 || text(v.Total) != "10.00000000" {
		t.Errorf("a supply makes %s, %q", text(v.Total), v.IncompleteReasons)
	}
	markets[0].Positions[0].Kind = valuation.Borrowed
	v = of(t, append(valuation.InMarkets(markets), hold("a", "10", 0, "1"))...)
	want := []string{"a debt of SPAM in aave-v3 doesn't count: the token isn't verified"}
	if !slices.Equal(v.IncompleteReasons, want) ||
		v.Unverified != 1 || text(v.Total) != "10.00000000" {
		t.Errorf("a debt makes %s, %q", text(v.Total), v.IncompleteReasons)
	}
}

// Without decimals an amount has no value at any price. Nor has it once the token is known of another page.
func TestAPositionInAnUnknownTokenKeepsNoPrice(t *testing.T) {
	unknown := valuation.ProtocolPosition{Kind: valuation.Borrowed, Holding: valuation.Holding{TokenID: "x",
		Amount: integer("1000000"), Price: valuation.Price{UnpricedReason: valuation.ReasonUnknownToken}}}
	held := valuation.InMarkets([]valuation.Market{{Protocol: "p", Complete: true,
		Positions: []valuation.ProtocolPosition{unknown}}})
	known := held[0]
	known.Symbol, known.Decimals, known.Price = "X", 6, valuation.Price{Amount: "1"}
	a, err := valuation.Add(nil, append(held, known), noon())
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range []valuation.Assets{a, a.AsOf(nil, map[string]valuation.Price{"x": {Amount: "1"}}, noon())} {
		v, err := at.Value()
		if err != nil || text(v.Total) != "-1.00000000" || v.Unpriced != 1 ||
			v.Positions[1].Price.UnpricedReason != valuation.ReasonUnknownToken {
			t.Errorf("it is worth %s, %q, %v", text(v.Total), v.IncompleteReasons, err)
		}
	}
}

// held draws holdings and positions of three tokens, some without a price.
func held(r *rapid.T) (holdings []valuation.Holding) {
	kinds := []valuation.PositionKind{"", "", valuation.Supplied, valuation.Borrowed, valuation.Claimable,
		valuation.Staked}
	for range rapid.IntRange(0, 12).Draw(r, "holdings") {
		n := rapid.IntRange(0, 2).Draw(r, "token")
		price := []string{"0.333333333333333333", "1824.53", ""}[n]
		h := hold(fmt.Sprint(n), rapid.StringMatching("[1-9][0-9]{0,29}").Draw(r, "amount"), 18, price)
		h.Verified = rapid.IntRange(0, 4).Draw(r, "verified") > 0
		if kind := rapid.SampledFrom(kinds).Draw(r, "kind"); kind != "" {
			h = in(kind, h)
			h.Place.Market = rapid.SampledFrom([]string{"m", "n"}).Draw(r, "market")
		} else if rapid.IntRange(0, 3).Draw(r, "receipt") == 0 {
			h.IsReceipt = true
		}
		holdings = append(holdings, h)
	}
	return holdings
}

func TestTheLinesAddUpToTheTotal(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		holdings := held(r)
		v := of(t, holdings...)
		assets, liabilities, collateral, shares := new(big.Rat), new(big.Rat), new(big.Rat), 0.0
		for _, p := range v.Positions {
			if !p.Counted() {
				continue
			}
			value, _ := new(big.Rat).SetString(text(p.Value))
			if value.Sign() < 0 && !p.Place.Owed() || value.Sign() > 0 && p.Place.Owed() {
				t.Fatalf("%+v is worth %s", p, text(p.Value))
			}
			if shares += p.Share; p.Place.Owed() {
				liabilities.Sub(liabilities, value)
			} else {
				assets.Add(assets, value)
			}
			if p.Place.Collateral {
				collateral.Add(collateral, value)
			}
		}
		total := new(big.Rat).Sub(assets, liabilities)
		for _, of := range []struct {
			got  string
			want *big.Rat
		}{{text(v.Assets), assets}, {text(v.Liabilities), liabilities}, {text(v.Total), total},
			{text(v.Collateral), collateral}} {
			if got, ok := new(big.Rat).SetString(of.got); !ok || got.Cmp(of.want) != 0 {
				t.Fatalf("%s, want %s, of\n%s", of.got, of.want.FloatString(8), lines(v.Positions))
			}
		}
		if assets.Sign() > 0 && (shares < 0.999999 || shares > 1.000001) {
			t.Fatalf("the shares add up to %v", shares)
		}
		// Without the receipts nothing is different.
		without := of(t, slices.DeleteFunc(slices.Clone(holdings),
			func(h valuation.Holding) bool { return h.IsReceipt })...)
		if lines(without.Positions) != lines(v.Positions) || text(without.Total) != text(v.Total) {
			t.Fatalf("with receipts it is\n%s\nwithout\n%s", lines(v.Positions), lines(without.Positions))
		}
	})
}
