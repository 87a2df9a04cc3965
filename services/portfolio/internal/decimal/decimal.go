// Package decimal rounds half to even, as every figure of the service is rounded.
package decimal

import (
	"math/big"

	"github.com/cockroachdb/apd/v3"
)

// Context returns a new context of that many significant digits that rounds half to even. Exponents have the range of
// apd.BaseContext.
func Context(digits uint32) *apd.Context {
	c := apd.BaseContext.WithPrecision(digits)
	c.Rounding = apd.RoundHalfEven
	return c
}

// HalfEven returns a / b, rounded half to even; b must be above 0. It changes neither.
func HalfEven(a, b *big.Int) *big.Int {
	floor, rest := new(big.Int).DivMod(a, b, new(big.Int)) // rest is not below 0
	half := rest.Lsh(rest, 1).Cmp(b)
	if half > 0 || half == 0 && floor.Bit(0) == 1 {
		floor.Add(floor, big.NewInt(1))
	}
	return floor
}
