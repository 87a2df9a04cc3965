package valuation_test

import (
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func integer(text string) *big.Int {
	n, ok := new(big.Int).SetString(text, 10)
	if !ok {
		panic(text)
	}
	return n
}

const maxUint256 = "115792089237316195423570985008687907853269984665640564039457584007913129639935"

// hold is a verified holding.
func hold(id, amount string, decimals uint8, price string) valuation.Holding {
	return valuation.Holding{TokenID: id, Symbol: strings.ToUpper(id), Decimals: decimals, Verified: true,
		Amount: integer(amount), Price: valuation.Price{Amount: price, Source: "test", Time: noon()}}
}

func of(t testing.TB, holdings ...valuation.Holding) valuation.Valuation {
	t.Helper()
	v, err := valuation.Compute([]valuation.Wallet{{Account: "w", Synced: true}}, holdings, noon())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func text(d *apd.Decimal) string {
	if d == nil {
		return "-"
	}
	return d.Text('f')
}

func TestValuesAreExact(t *testing.T) {
	for _, tc := range []struct{ name, amount, price, want string }{
		{"one and a half ether", "1500000000000000000", "1824.53", "2736.79500000"},
		{"a price past a float's digits", "1000000000000000000", "0.1234567890123456789", "0.12345679"},
		{"nothing is worth nothing", "0", "1824.53", "0.00000000"},
		{"half of the last digit goes to the even one below", "1000000000000000000", "0.000000005", "0.00000000"},
		{"half of the last digit goes to the even one above", "1000000000000000000", "0.000000015", "0.00000002"},
		{"a bit more than half goes up", "1000000000000000000", "0.0000000050000000001", "0.00000001"},
		{"a bit less than half goes down", "1000000000000000000", "0.0000000149999999999", "0.00000001"},
		{"far less than half goes down", "1", "0.01", "0.00000000"},
		{"nines roll over", "1000000000000000000", "9.999999999", "10.00000000"},
		{"just below the bound", "1000000000000000000", "999999999999999999999999999999.99999999",
			"999999999999999999999999999999.99999999"},
		{"at the bound", "1000000000000000000", "1000000000000000000000000000000", "-"},
		{"all there is at a huge price", maxUint256, "1" + strings.Repeat("0", 39), "-"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := of(t, hold("a", tc.amount, 18, tc.price))
			p := v.Positions[0]
			if text(p.Value) != tc.want {
				t.Errorf("value %s, want %s", text(p.Value), tc.want)
			}
			if out := p.Value == nil; out != (p.Price.UnpricedReason == valuation.ReasonOutOfRange) ||
				out == v.Complete() ||
				out == p.Counted() {
				t.Errorf("position %+v, complete %v", p, v.Complete())
			}
		})
	}
}

func TestDecimalsFrom0To255(t *testing.T) {
	for decimals, want := range map[uint8]string{0: "-", 50: "2315841784746323908471419700.17375816",
		70: "23158417.84746324", 255: "0.00000000"} {
		if v := of(t, hold("a", maxUint256, decimals, "2")); text(v.Positions[0].Value) != want {
			t.Errorf("%d decimals: %s, want %s", decimals, text(v.Positions[0].Value), want)
		}
	}
}

func TestAmountsOfOneTokenAreAddedUpPast256Bits(t *testing.T) {
	v := of(t, hold("a", maxUint256, 70, "1"), hold("b", "5", 0, "1"), hold("a", maxUint256, 70, "1"))
	if len(v.Positions) != 2 {
		t.Fatalf("%d positions", len(v.Positions))
	}
	want := new(big.Int).Lsh(integer(maxUint256), 1)
	if got := v.Positions[0]; got.Amount.Cmp(want) != 0 || text(got.Value) != "23158417.84746324" ||
		text(v.Total) != "23158422.84746324" {
		t.Errorf("amount %s, value %s, total %s", got.Amount, text(got.Value), text(v.Total))
	}
	first := hold("a", "1", 0, "1")
	of(t, first, hold("a", "1", 0, "1"))
	if first.Amount.Int64() != 1 {
		t.Error("the caller's amount was changed")
	}
}

func TestAPositionWithoutAPriceIsNotCounted(t *testing.T) {
	scam := hold("scam", "1000", 0, "1000000")
	scam.Verified = false
	silent := hold("silent", "7", 0, "")
	unavailable := hold("unavailable", "7", 0, "")
	unavailable.Price.UnpricedReason = "SOURCE_UNAVAILABLE"
	unpricedScam := hold("unpriced-scam", "7", 0, "")
	unpricedScam.Verified = false
	v := of(t, scam, silent, hold("a", "3", 0, "2"), unavailable, unpricedScam)
	if text(v.Total) != "6.00000000" || v.Unpriced != 2 || v.Unverified != 2 || v.Complete() {
		t.Errorf("total %s, %d unpriced, %d unverified, complete %v", text(v.Total), v.Unpriced, v.Unverified,
			v.Complete())
	}
	if all := strings.Join(v.IncompleteReasons, "; "); len(v.IncompleteReasons) != 2 ||
		!strings.Contains(all, "SILENT is unpriced: NO_PRICE") ||
		!strings.Contains(all, "UNAVAILABLE is unpriced: SOURCE_UNAVAILABLE") {
		t.Errorf("reasons %q", v.IncompleteReasons)
	}
	for _, p := range v.Positions {
		if counted := p.TokenID == "a"; p.Counted() != counted || (p.Share == 1) != counted ||
			!counted && p.Share != 0 {
			t.Errorf("%s: counted %v, share %v", p.TokenID, p.Counted(), p.Share)
		}
		if !p.Price.Known() && (p.Value != nil || p.Price.UnpricedReason == "") {
			t.Errorf("%s without a price: value %s, reason %q", p.TokenID, text(p.Value), p.Price.UnpricedReason)
		}
	}
	if got := text(v.UnpricedShare()); got != "0.666666666667" { // two of three
		t.Errorf("the unpriced share is %s", got)
	}
	if got := text(of(t, scam, hold("a", "3", 0, "2")).UnpricedShare()); got != "0.000000000000" {
		t.Errorf("the unpriced share is %s, want 0", got)
	}
	// Spam alone leaves a valuation complete.
	if v := of(t, scam, unpricedScam); !v.Complete() || !v.Total.IsZero() || v.UnpricedShare() != nil {
		t.Errorf("spam alone: %v, %s, %v", v.IncompleteReasons, text(v.Total), v.UnpricedShare())
	}
}

func TestAPriceThatOneOfTwoReadingsKnewCounts(t *testing.T) {
	unknown := hold("a", "1", 0, "")
	unknown.Price.UnpricedReason = "SOURCE_UNAVAILABLE"
	known := hold("a", "2", 0, "5")
	for _, order := range [][]valuation.Holding{{unknown, known}, {known, unknown}} {
		v := of(t, order...)
		if p := v.Positions[0]; text(v.Total) != "15.00000000" || !v.Complete() || p.Price.UnpricedReason != "" ||
			p.Price.Source != "test" {
			t.Errorf("total %s, position %+v", text(v.Total), p)
		}
	}
}

func TestWhatKeepsAValuationFromBeingComplete(t *testing.T) {
	stale := hold("a", "1", 0, "1")
	stale.Price.Stale = true
	for _, tc := range []struct {
		name    string
		wallets []valuation.Wallet
		holding valuation.Holding
		reason  string
	}{
		{"nothing", []valuation.Wallet{{Account: "w", Synced: true}}, hold("a", "1", 0, "1"), ""},
		{"a wallet that was never synced", []valuation.Wallet{{Account: "w", Synced: true}, {Account: "x"}},
			hold("a", "1", 0, "1"), "wallet x was never synced"},
		{"a wallet whose last sync failed", []valuation.Wallet{{Account: "x", Synced: true, SyncFailed: true}},
			hold("a", "1", 0, "1"), "the last sync of wallet x failed"},
		{"a stale price", []valuation.Wallet{{Account: "w", Synced: true}}, stale, "the price of A is stale"},
		{"a wallet that was not wholly readable",
			[]valuation.Wallet{{Account: "x", Synced: true, SyncTime: noon(), SyncError: "not readable: T1"}},
			hold("a", "1", 0, "1"), "the last sync of wallet x was incomplete: not readable: T1"},
		{"a wallet whose last sync failed and says why",
			[]valuation.Wallet{{Account: "x", Synced: true, SyncTime: noon(), SyncFailed: true,
				SyncError: "no node answers"}}, hold("a", "1", 0, "1"), "the last sync of wallet x failed"},
		{"a wallet synced a day ago is nothing",
			[]valuation.Wallet{{Account: "x", Synced: true, SyncTime: noon().Add(-valuation.MaxBalanceAge)}},
			hold("a", "1", 0, "1"), ""},
		{"a wallet synced longer ago", []valuation.Wallet{{Account: "w", Synced: true, SyncTime: noon()},
			{Account: "x", Synced: true, SyncTime: noon().Add(-valuation.MaxBalanceAge - time.Second)}},
			hold("a", "1", 0, "1"), "wallet x was last synced at 2026-02-28T11:59:59Z"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v, err := valuation.Compute(tc.wallets, []valuation.Holding{tc.holding}, noon())
			if err != nil || v.Complete() != (tc.reason == "") ||
				strings.Join(v.IncompleteReasons, ";") != tc.reason ||
				text(v.Total) != "1.00000000" {
				t.Errorf("reasons %q, total %s, %v", v.IncompleteReasons, text(v.Total), err)
			}
		})
	}
}

func TestMalformedHoldingsAreRefused(t *testing.T) {
	none := hold("a", "1", 0, "1")
	none.Amount = nil
	for name, h := range map[string]valuation.Holding{
		"no amount": none, "an amount below zero": hold("a", "-1", 0, "1"),
		"a negative price": hold("a", "1", 0, "-1"),
		"NaN":              hold("a", "1", 0, "NaN"), "infinity": hold("a", "1", 0, "Infinity"),
		"words": hold("a", "1", 0, "one"),
	} {
		if v, err := valuation.Compute(nil, []valuation.Holding{h}, noon()); err == nil {
			t.Errorf("%s: %+v", name, v)
		}
	}
}

func TestPositionsAreOrderedByValue(t *testing.T) {
	scam := hold("a-scam", "1", 0, "1000")
	scam.Verified = false
	v := of(t, scam, hold("c", "1", 0, "5"), hold("unpriced", "1", 0, ""), hold("b", "1", 0, "5"),
		hold("z", "1", 0, "50"), hold("zero", "0", 0, "5"))
	want := []string{"z", "b", "c", "zero", "a-scam", "unpriced"}
	order := func(v valuation.Valuation) (ids []string) {
		for _, p := range v.Positions {
			ids = append(ids, p.TokenID)
		}
		return ids
	}
	if !slices.Equal(order(v), want) {
		t.Errorf("order %v", order(v))
	}
	mixed := slices.Clone(v.Positions)
	slices.Reverse(mixed)
	back, err := valuation.Assets{At: noon(), Positions: mixed}.Value()
	if err != nil || !slices.Equal(order(back), want) || back.Total.Cmp(v.Total) != 0 || back.Unpriced != 1 ||
		back.Unverified != 1 {
		t.Errorf("restored %v, total %s, %v", order(back), text(back.Total), err)
	}
}

// halfEven rounds to Scale decimals with math/big.Rat, independently of apd.
func halfEven(r *big.Rat) *big.Int {
	scaled := new(big.Rat).Mul(r, new(big.Rat).SetInt64(1e8))
	q, m := new(big.Int).QuoRem(scaled.Num(), scaled.Denom(), new(big.Int))
	switch new(big.Int).Lsh(m, 1).Cmp(scaled.Denom()) {
	case 1:
		q.Add(q, big.NewInt(1))
	case 0:
		q.Add(q, new(big.Int).And(q, big.NewInt(1)))
	}
	return q
}

func TestValuesTotalsAndSharesAgreeWithBigRationals(t *testing.T) {
	limit := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(30), nil))
	rapid.Check(t, func(r *rapid.T) {
		n := rapid.IntRange(0, 8).Draw(r, "holdings")
		var holdings []valuation.Holding
		amounts, prices := map[string]*big.Int{}, map[string]*big.Rat{}
		for range n {
			id := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(r, "token")
			amount := new(big.Int).SetBytes(rapid.SliceOfN(rapid.Byte(), 0, 32).Draw(r, "amount"))
			if amounts[id] == nil {
				amounts[id], prices[id] = new(big.Int), new(big.Rat)
			}
			amounts[id].Add(amounts[id], amount)
			// A token has one price and one number of decimals.
			decimals := map[string]uint8{"a": 0, "b": 18, "c": 77, "d": 255}[id]
			price := map[string]string{"a": "0.0000000000000000000000000000000000000005",
				"b": "1824.530000000000000001", "c": "12345678901234567890", "d": "0.5"}[id]
			prices[id].SetString(price)
			prices[id].Quo(prices[id], new(big.Rat).SetInt(
				new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals)), nil)))
			holdings = append(holdings, valuation.Holding{TokenID: id, Decimals: decimals, Verified: true,
				Amount: amount, Price: valuation.Price{Amount: price}})
		}
		v, err := valuation.Compute(nil, holdings, noon())
		if err != nil {
			r.Fatal(err)
		}
		total, shares := new(big.Int), 0.0
		for _, p := range v.Positions {
			exact := new(big.Rat).Mul(new(big.Rat).SetInt(amounts[p.TokenID]), prices[p.TokenID])
			if exact.Cmp(limit) >= 0 {
				if p.Value != nil || p.Price.UnpricedReason != valuation.ReasonOutOfRange {
					r.Fatalf("%s is worth %s: %+v", p.TokenID, exact.FloatString(10), p)
				}
				continue
			}
			want := halfEven(exact)
			got, ok := new(big.Rat).SetString(text(p.Value))
			if !ok || got.Cmp(new(big.Rat).SetFrac(want, big.NewInt(1e8))) != 0 || p.Value.Exponent != -8 {
				r.Fatalf("%s: value %s, want %se-8", p.TokenID, text(p.Value), want)
			}
			total.Add(total, want)
			shares += p.Share
		}
		if got, ok := new(big.Rat).SetString(text(v.Total)); !ok ||
			got.Cmp(new(big.Rat).SetFrac(total, big.NewInt(1e8))) != 0 {
			r.Fatalf("total %s, want %se-8", text(v.Total), total)
		}
		if total.Sign() > 0 && math.Abs(shares-1) > 1e-9 || total.Sign() == 0 && shares != 0 {
			r.Fatalf("shares sum to %v", shares)
		}
	})
}
