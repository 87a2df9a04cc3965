package valuation_test

import (
	"math/big"
	"testing"

	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// A value is the exact product, rounded half to even to 8 decimals: compared with fractions.
func FuzzWorth(f *testing.F) {
	f.Add("1", uint8(18), "1.5")
	f.Add("115792089237316195423570985008687907853269984665640564039457584007913129639935", uint8(0), "0.000000015")
	f.Add("5", uint8(9), "1")
	f.Add("1", uint8(255), "1e255")
	f.Add("7", uint8(0), "-1")
	f.Fuzz(func(t *testing.T, amount string, decimals uint8, price string) {
		units, ok := new(big.Int).SetString(amount, 10)
		if !ok || units.Sign() < 0 || units.BitLen() > 256+32 || len(price) > 60 {
			return // no amount that a wallet has, or price that a source has
		}
		got, err := valuation.Worth(units, decimals, price)
		if err != nil {
			return
		}
		unit, ok := new(big.Rat).SetString(price)
		value, ok2 := new(big.Rat).SetString(got.Text('f'))
		if !ok || !ok2 || unit.Sign() < 0 {
			t.Fatalf("%s of %d decimals at %q is worth %s", amount, decimals, price, got)
		}
		exact := new(big.Rat).SetFrac(units, new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(decimals)), nil))
		off := new(big.Rat).Sub(exact.Mul(exact, unit), value)
		if off.Abs(off).Cmp(big.NewRat(1, 200_000_000)) > 0 {
			t.Errorf("%s of %d decimals at %q is worth %s, off by %s", amount, decimals, price, got,
				off.FloatString(12))
		}
	})
}
