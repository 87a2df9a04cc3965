package price_test

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/wallet/internal/price"
)

func in(value, rate string) (string, bool) {
	return price.Price{Value: value}.In(price.Rate{Price: price.Price{Value: rate}})
}

func TestPricesAreConvertedExactly(t *testing.T) {
	for _, tc := range []struct{ value, rate, want string }{ // "" for out of range
		{"2853.55", "1", "2853.55"},
		{"108", "1.08", "100"},
		{"1", "3", "0.3333333333333333333333333333333333"},
		{"2", "3", "0.6666666666666666666666666666666667"},
		{"1", "0.0067", "149.2537313432835820895522388059701"},
		{"0.0000000001", "3", "0.0000000000333333333333333333333333333333"},   // 40 places
		{"0.0000031", "250.75", "0.0000000123629112662013958125623130608175"}, // not rounded twice
		{"5", "5", "1"},
		{"1" + strings.Repeat("0", 39), "0.1", ""},
		{"0." + strings.Repeat("0", 39) + "1", "1" + strings.Repeat("0", 30), ""}, // it would be 0
	} {
		got, ok := in(tc.value, tc.rate)
		if got != tc.want || ok != (tc.want != "") {
			t.Errorf("%s at %s is %q, %t; want %q", tc.value, tc.rate, got, ok, tc.want)
		}
	}
}

// Held against rational numbers: never further from the exact quotient than half a unit of
// the last of 34 digits, or of 40 places.
func TestConvertedPricesAreWithinHalfAUnit(t *testing.T) {
	number := rapid.Custom(func(t *rapid.T) string {
		digits := rapid.StringMatching(`[1-9][0-9]{0,25}`).Draw(t, "digits")
		places := rapid.IntRange(0, 30).Draw(t, "places")
		if places >= len(digits) {
			return "0." + strings.Repeat("0", places-len(digits)) + digits
		}
		return digits[:len(digits)-places] + "." + digits[len(digits)-places:] + "0"
	})
	rapid.Check(t, func(t *rapid.T) {
		value, err1 := price.Parse(number.Draw(t, "value"))
		rate, err2 := price.Parse(number.Draw(t, "rate"))
		if err1 != nil || err2 != nil {
			t.Fatal(err1, err2)
		}
		v, _ := new(big.Rat).SetString(value)
		r, _ := new(big.Rat).SetString(rate)
		exact := new(big.Rat).Quo(v, r)
		text, ok := in(value, rate)
		if !ok {
			low, _ := new(big.Rat).SetString("1e-40")
			high, _ := new(big.Rat).SetString("1e40")
			if exact.Cmp(low) > 0 && exact.Cmp(high) < 0 {
				t.Fatalf("%s / %s is said to be out of range", value, rate)
			}
			return
		}
		got, _ := new(big.Rat).SetString(text)
		off := new(big.Rat).Sub(got, exact)
		off.Abs(off)
		relative, _ := new(big.Rat).SetString("5e-34")
		limit := new(big.Rat).Mul(exact, relative)
		if place, _ := new(big.Rat).SetString("5e-41"); place.Cmp(limit) > 0 {
			limit = place
		}
		if off.Cmp(limit) > 0 {
			t.Fatalf("%s / %s = %s, off by %s", value, rate, text, off.FloatString(60))
		}
	})
}

func TestARateThatIsUnknownOrOldIsNoRate(t *testing.T) {
	known := price.Price{Value: "1.08", Source: "test", At: time.Unix(0, 0)}
	for _, tc := range []struct {
		quote price.Quote
		want  price.Reason
	}{
		{price.Quote{Price: known}, ""},
		{price.Quote{Price: known, Stale: true}, price.RateStale},
		{price.Quote{Reason: price.NoPrice}, price.NoRate},
		{price.Quote{Reason: price.UnknownToken}, price.NoRate},
		{price.Quote{Reason: price.SourceUnavailable}, price.RateUnavailable},
	} {
		if got := price.RateOf(tc.quote).Reason; got != tc.want {
			t.Errorf("%+v: %s", tc.quote, got)
		}
	}
}

func TestFarApart(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{{"100", "105", false}, {"105", "100", false}, {"100", "105.0000000001", true}, {"0.5", "1000000", true},
		{"1", "1", false}} {
		if got := price.FarApart(tc.a, tc.b, 5); got != tc.want {
			t.Errorf("%s and %s: %t", tc.a, tc.b, got)
		}
	}
}
