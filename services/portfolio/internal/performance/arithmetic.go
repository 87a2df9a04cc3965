package performance

import (
	"fmt"
	"math"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/decimal"
)

// Digits of decimals: sums of money are exact as long as they have no more than
// sumDigits, and quotients and products are rounded to growthDigits.
const (
	sumDigits    = 80
	growthDigits = 40
	// lessOne rounds to this many decimals, which removes the rounding errors of up to 10^9 products.
	lessOneDecimals = 30
)

func contextOf(digits uint32) *apd.Context {
	c := decimal.Context(digits)
	c.MinExponent, c.MaxExponent = -5000, 5000
	return c
}

var (
	sums    = contextOf(sumDigits)
	growths = contextOf(growthDigits)
)

// arithmetic computes with decimals, and keeps the first error: the results are
// undefined after one.
type arithmetic struct{ err error }

func (a *arithmetic) note(c apd.Condition, err error, exact bool) {
	switch {
	case a.err != nil:
	case err != nil:
		a.err = fmt.Errorf("performance: %w", err)
	case exact && c.Inexact():
		a.err = fmt.Errorf("performance: a sum of more than %d digits", sumDigits)
	}
}

// add and sub are exact.
func (a *arithmetic) add(x, y *apd.Decimal) *apd.Decimal {
	out := new(apd.Decimal)
	c, err := sums.Add(out, x, y)
	a.note(c, err, true)
	return out
}

func (a *arithmetic) sub(x, y *apd.Decimal) *apd.Decimal {
	out := new(apd.Decimal)
	c, err := sums.Sub(out, x, y)
	a.note(c, err, true)
	return out
}

// times is exact.
func (a *arithmetic) times(x *apd.Decimal, n int64) *apd.Decimal {
	out := new(apd.Decimal)
	c, err := sums.Mul(out, x, apd.New(n, 0))
	a.note(c, err, true)
	return out
}

// mul and quo are rounded to growthDigits.
func (a *arithmetic) mul(x, y *apd.Decimal) *apd.Decimal {
	out := new(apd.Decimal)
	c, err := growths.Mul(out, x, y)
	a.note(c, err, false)
	return out
}

func (a *arithmetic) quo(x, y *apd.Decimal) *apd.Decimal {
	out := new(apd.Decimal)
	c, err := growths.Quo(out, x, y)
	a.note(c, err, false)
	return out
}

// lessOne returns a growth less 1. What rounding left of a growth of exactly 1 is not in it: it has 30 decimals.
func (a *arithmetic) lessOne(growth *apd.Decimal) *apd.Decimal {
	out := a.sub(growth, apd.New(1, 0))
	if out.Exponent < -lessOneDecimals && growth.Cmp(apd.New(2, 0)) < 0 {
		c, err := sums.Quantize(out, out, -lessOneDecimals)
		a.note(c, err, false)
	}
	return out
}

// toFloat returns the float64 nearest to a figure without a unit.
func (a *arithmetic) toFloat(x *apd.Decimal) float64 {
	f, err := x.Float64()
	if math.IsInf(f, 0) { // beyond the range, which is no error
		return f
	}
	a.note(0, err, false)
	return f
}

// fraction returns a decimal as a figure.
func (a *arithmetic) fraction(x *apd.Decimal) Ratio {
	f := a.toFloat(x)
	if math.IsInf(f, 0) {
		return Ratio{Unavailable: ReasonOutOfRange}
	}
	return Ratio{Figure: f}
}
