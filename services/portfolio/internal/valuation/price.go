package valuation

import (
	"cmp"
	"fmt"
	"math/big"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/decimal"
)

// MaxDigits is how many digits a position's value may have before the point: 1e30 most likely comes from a broken
// price, and the position is unpriced, with ReasonOutOfRange.
const MaxDigits = 30

// Reasons why a position is unpriced. ReasonSourceUnavailable is one of the wallet
// service; it passes, as the others don't.
const (
	ReasonNoPrice           = "NO_PRICE"
	ReasonOutOfRange        = "VALUE_OUT_OF_RANGE"
	ReasonSourceUnavailable = "SOURCE_UNAVAILABLE"
)

// Price of one whole token.
type Price struct {
	// Amount in Currency, a decimal number; empty when the price is unknown.
	Amount string
	Source string
	Time   time.Time
	// Stale when it is older than the wallet service allows.
	Stale bool
	// UnpricedReason is why a holding has no price, or a position no value: a code
	// such as NO_PRICE. It is empty for one that has.
	UnpricedReason string
}

// Known reports whether there is a price.
func (p Price) Known() bool { return p.Amount != "" }

// PriceOf returns the price of a token, which had another before. One whose decimals aren't known keeps none.
func PriceOf(prices map[string]Price, tokenID string, before Price) Price {
	if before.UnpricedReason == ReasonUnknownToken {
		return before
	}
	return prices[tokenID]
}

// BetterThan reports whether p says more than another price of the same time. In order: a fresh price, a stale one,
// the statement of a source that it has none, and that no source could be asked.
func (p Price) BetterThan(other Price) bool { return p.rank() > other.rank() }

func (p Price) rank() int {
	switch {
	case p.Known() && !p.Stale:
		return 3
	case p.Known():
		return 2
	case p.UnpricedReason != ReasonSourceUnavailable:
		return 1
	default:
		return 0
	}
}

// setValue computes the value of a position, or sets why it has none.
func setValue(c *apd.Context, p *Position) error {
	if !p.Price.Known() {
		p.Price.UnpricedReason = cmp.Or(p.Price.UnpricedReason, ReasonNoPrice)
		return nil
	}
	exact, err := exactValue(p.Amount, p.Decimals, p.Price.Amount)
	if err != nil {
		return fmt.Errorf("price of %s: %w", p.TokenID, err)
	}
	if !exact.IsZero() && exact.NumDigits()+int64(exact.Exponent) > MaxDigits {
		p.Price.UnpricedReason = ReasonOutOfRange
		return nil
	}
	if p.Value, err = round(c, exact); err != nil {
		return fmt.Errorf("round the value of %s: %w", p.TokenID, err)
	}
	if p.Place.Owed() && !p.Value.IsZero() {
		p.Value.Negative = true
	}
	p.Price.UnpricedReason = ""
	return nil
}

// Worth returns what an amount of base units is worth at a price of a whole token,
// rounded as values are.
func Worth(amount *big.Int, decimals uint8, price string) (*apd.Decimal, error) {
	exact, err := exactValue(amount, decimals, price)
	if err != nil {
		return nil, err
	}
	return round(decimalContext(), exact)
}

// exactValue is an exact product of two integers; the exponent is applied afterwards.
func exactValue(amount *big.Int, decimals uint8, price string) (*apd.Decimal, error) {
	unit, cond, err := apd.NewFromString(price)
	if err != nil || cond.Any() || unit.Form != apd.Finite || unit.Sign() < 0 {
		return nil, fmt.Errorf("%q, must be a decimal number and not below 0", price)
	}
	coeff := new(apd.BigInt).SetMathBigInt(amount)
	coeff.Mul(coeff, &unit.Coeff)
	return apd.NewWithBigInt(coeff, unit.Exponent-int32(decimals)), nil
}

func round(c *apd.Context, exact *apd.Decimal) (*apd.Decimal, error) {
	value := new(apd.Decimal)
	_, err := c.Quantize(value, exact, -Scale)
	return value, err
}

// decimalContext has room for sums of many values of MaxDigits.
func decimalContext() *apd.Context {
	c := decimal.Context(80)
	c.MinExponent, c.MaxExponent = -2000, 2000
	return c
}

// Sum returns a + b, exactly.
func Sum(a, b *apd.Decimal) (*apd.Decimal, error) {
	d := new(apd.Decimal)
	_, err := decimalContext().Add(d, a, b)
	return d, err
}

// SumOf returns a valuation with these valued positions, and their sums.
func SumOf(positions []Position) (v Valuation, err error) {
	v = Valuation{Total: new(apd.Decimal), Assets: new(apd.Decimal), Liabilities: new(apd.Decimal),
		Collateral: new(apd.Decimal), Positions: positions}
	for _, p := range positions {
		switch {
		case !p.Counted():
			continue
		case p.Place.Owed():
			v.Liabilities, err = Subtract(v.Liabilities, p.Value)
		default:
			v.Assets, err = Sum(v.Assets, p.Value)
		}
		if err == nil && p.Place.Collateral {
			v.Collateral, err = Sum(v.Collateral, p.Value)
		}
		if err != nil {
			return v, err
		}
	}
	v.Total, err = Subtract(v.Assets, v.Liabilities)
	return v, err
}

// Subtract returns a - b, exactly.
func Subtract(a, b *apd.Decimal) (*apd.Decimal, error) {
	d := new(apd.Decimal)
	_, err := decimalContext().Sub(d, a, b)
	return d, err
}
