package currency_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

func decimal(t *testing.T, text string) *apd.Decimal {
	t.Helper()
	d, _, err := apd.NewFromString(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestAValueIsDividedOnceAndRoundedHalfToEven(t *testing.T) {
	for _, tc := range []struct{ usd, rate, want string }{
		{"100", "1.0842", "92.23390518"},
		{"0.00000001", "2", "0.00000000"},   // a tie: half of a unit
		{"0.00000003", "2", "0.00000002"},   // a tie: one and a half units
		{"-0.00000003", "2", "-0.00000002"}, // a flow that went out
		{"-0.00000005", "2", "-0.00000002"},
		{"1", "0.0067", "149.25373134"},
		{"123456789012345678901234567890.12345678", "3", "41152263004115226300411522630.04115226"},
	} {
		got, err := currency.Rate{Currency: "EUR", Price: tc.rate}.Convert(decimal(t, tc.usd))
		if err != nil || got.Text('f') != tc.want {
			t.Errorf("%s at %s is %s, want %s (%v)", tc.usd, tc.rate, got, tc.want, err)
		}
	}
	if _, err := (currency.Rate{Currency: "EUR"}).Convert(decimal(t, "1")); err == nil {
		t.Error("a value was converted without a rate")
	}
}

// Of any holdings at any rate the values add up to the total, and the total is the converted one.
func TestAValuationAddsUpInEveryCurrency(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		var held []valuation.Holding
		for i := range 1 + random.IntN(12) {
			h := valuation.Holding{TokenID: fmt.Sprint(i), Symbol: "T", Decimals: uint8(random.IntN(19)),
				Verified: random.IntN(5) > 0, Amount: big.NewInt(random.Int64N(1_000_000_000_000))}
			if random.IntN(6) > 0 {
				h.Price = valuation.Price{Amount: fmt.Sprintf("%d.%05d", random.IntN(100), random.IntN(100_000))}
			}
			switch random.IntN(6) {
			case 0, 1:
				h.Place = valuation.Place{Protocol: "p", Kind: valuation.Borrowed}
			case 2:
				h.Place = valuation.Place{Protocol: "p", Kind: valuation.Supplied, Collateral: true}
			}
			held = append(held, h)
		}
		usd, err := valuation.Compute(nil, held, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		before := slices.Clone(usd.Positions)
		rate := currency.Rate{Currency: "EUR", Price: fmt.Sprintf("%d.%06d", random.IntN(3), 1+random.IntN(999_999))}
		got, err := rate.Valuation(usd)
		if err != nil {
			t.Fatal(err)
		}
		want, err := rate.Convert(usd.Total)
		if err != nil || got.Total.Cmp(want) != 0 {
			t.Fatalf("the total is %s, want %s (%v)", got.Total, want, err)
		}
		collateral, err := rate.Convert(usd.Collateral)
		if err != nil || got.Collateral.Cmp(collateral) != 0 {
			t.Fatalf("the collateral is %s, want %s (%v)", got.Collateral, collateral, err)
		}
		sum, owed, exact := new(big.Rat), new(big.Rat), new(big.Rat)
		for i, p := range got.Positions {
			if (p.Value == nil) != (before[i].Value == nil) || p.Share != before[i].Share {
				t.Fatalf("%+v was %+v", p, before[i])
			}
			if p.Counted() {
				v, _ := new(big.Rat).SetString(p.Value.Text('f'))
				sum.Add(sum, v)
				if p.Place.Owed() {
					owed.Sub(owed, v)
				}
				if v.Sign() < 0 != p.Place.Owed() && v.Sign() != 0 {
					t.Fatalf("%s of %q is worth %s", p.TokenID, p.Place.Kind, p.Value)
				}
			}
		}
		if exact.SetString(got.Liabilities.Text('f')); owed.Cmp(exact) != 0 {
			t.Fatalf("the debts add up to %s, the liabilities are %s", owed.FloatString(8), got.Liabilities)
		}
		if exact.SetString(got.Assets.Text('f')); exact.Cmp(new(big.Rat).Add(sum, owed)) != 0 || exact.Sign() < 0 {
			t.Fatalf("the assets are %s", got.Assets)
		}
		exact.SetString(got.Total.Text('f'))
		if sum.Cmp(exact) != 0 {
			t.Fatalf("the values add up to %s, the total is %s", sum.FloatString(8), got.Total)
		}
		if !slices.EqualFunc(usd.Positions, before, func(a, b valuation.Position) bool { return a.Value == b.Value }) {
			t.Fatal("the valuation in US dollars was changed") // it may be one of a cache
		}
	}
}

// Where all positions are dust, rounding can take more than the largest has. No value is below 0 for that.
func TestRoundingTakesNoMoreThanAPositionHas(t *testing.T) {
	var held []valuation.Holding
	for i := range 5 {
		held = append(held, valuation.Holding{TokenID: fmt.Sprint(i), Symbol: "T", Verified: true,
			Amount: big.NewInt(1), Price: valuation.Price{Amount: "0.00000101"}})
	}
	usd, err := valuation.Compute(nil, held, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	got, err := currency.Rate{Currency: "EUR", Price: "200"}.Valuation(usd) // 0.505 units each, 2.525 together
	if err != nil || got.Total.Text('f') != "0.00000003" {
		t.Fatal(got.Total, err)
	}
	var values []string
	for _, p := range got.Positions {
		values = append(values, p.Value.Text('f'))
	}
	want := []string{"0.00000000", "0.00000000", "0.00000001", "0.00000001", "0.00000001"}
	if !slices.Equal(values, want) {
		t.Errorf("the values are %q, want %q", values, want)
	}
}

func TestAStaleRateMakesAValuationIncomplete(t *testing.T) {
	usd := valuation.Valuation{Total: decimal(t, "10"), Assets: decimal(t, "10"), Liabilities: decimal(t, "0")}
	got, err := currency.Rate{Currency: "JPY", Price: "0.0067", Stale: true}.Valuation(usd)
	if err != nil || got.Complete() || !usd.Complete() {
		t.Errorf("incomplete because of %q, %v", got.IncompleteReasons, err)
	}
}

func TestWhatIsNoCurrencyIsRefused(t *testing.T) {
	for _, code := range []string{"", "USD", "EUR", "GBP", "CHF", "JPY", "eip155:1/slip44:60"} {
		if err := currency.Check("currency", code); err != nil {
			t.Errorf("%q: %v", code, err)
		}
	}
	for _, code := range []string{"eur", "SEK", "€", "eip155:1", "/", "a/b:c", " EUR"} {
		if err := currency.Check("currency", code); err == nil {
			t.Errorf("%q is taken", code)
		}
	}
}
