package decimal_test

import (
	"math/big"
	"testing"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/decimal"
)

func TestHalvesAreRoundedToTheEvenNeighbour(t *testing.T) {
	for _, tc := range []struct{ a, b, want int64 }{
		{0, 3, 0}, {1, 3, 0}, {2, 3, 1}, {1, 2, 0}, {3, 2, 2}, {5, 2, 2}, {7, 2, 4}, {7, 1, 7},
		{-1, 3, 0}, {-2, 3, -1}, {-1, 2, 0}, {-3, 2, -2}, {-5, 2, -2}, {-7, 2, -4}, {-7, 1, -7},
	} {
		a, b := big.NewInt(tc.a), big.NewInt(tc.b)
		if got := decimal.HalfEven(a, b); got.Int64() != tc.want || a.Int64() != tc.a || b.Int64() != tc.b {
			t.Errorf("%d / %d is %s, want %d", tc.a, tc.b, got, tc.want)
		}
	}
	for text, want := range map[string]string{"0.125": "0.12", "0.135": "0.14", "0.1251": "0.13", "-0.125": "-0.12"} {
		exact, _, err := apd.NewFromString(text)
		if err != nil {
			t.Fatal(err)
		}
		got := new(apd.Decimal)
		if _, err := decimal.Context(2).Round(got, exact); err != nil || got.String() != want {
			t.Errorf("%s is %s, %v; want %s", text, got, err, want)
		}
	}
}
