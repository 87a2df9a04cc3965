package kpi

import (
	"fmt"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/decimal"
)

// arithmetic has room for sums of values and for ratios of them. Its first error stays.
type arithmetic struct{ err error }

func decimals() *apd.Context { return decimal.Context(120) }

func (a *arithmetic) sub(x, y *apd.Decimal) *apd.Decimal {
	d := new(apd.Decimal)
	a.note(decimals().Sub(d, x, y))
	return d
}

func (a *arithmetic) add(x, y *apd.Decimal) *apd.Decimal {
	d := new(apd.Decimal)
	a.note(decimals().Add(d, x, y))
	return d
}

// ratio returns x / y, rounded. y is not 0.
func (a *arithmetic) ratio(x, y *apd.Decimal) *apd.Decimal {
	q, d := new(apd.Decimal), new(apd.Decimal)
	a.note(decimals().Quo(q, x, y))
	a.note(decimals().Quantize(d, q, -RatioScale))
	return d
}

func (a *arithmetic) note(c apd.Condition, err error) {
	if err != nil && a.err == nil {
		a.err = fmt.Errorf("arithmetic: %s: %w", c, err)
	}
}
