package defi

import (
	"fmt"
	"math/big"
	"strings"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/decimal"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// RatioScale is the number of decimals of ratios.
const RatioScale = 12

// Reasons why a figure of a rate is unavailable, and a position unpriced.
const (
	ReasonNoRate         = "NO_RATE"
	ReasonRateInvalid    = "RATE_INVALID"
	ReasonRateOutOfRange = "RATE_OUT_OF_RANGE"
	ReasonUnknownKind    = "UNKNOWN_KIND"
)

// maxYearlyRate is the highest rate that is compounded: 10 is 1000 % a year, which becomes 2.2 million.
const maxYearlyRate = 10

// maxDecimal is how long a decimal of the wallet service may be: a number of 256 bits has 78 digits.
const maxDecimal = 100

// Position is a position with its value.
type Position struct {
	valuation.ProtocolPosition
	// UnitPrice is Price in the currency of the answer; "" when it is unknown.
	UnitPrice string
	// Value is not below 0, of a debt too; nil if and only if Unpriced is set.
	Value    *apd.Decimal
	Unpriced string
	// Rate is YearlyRate; nil for what is no decimal number of at least 0.
	Rate *apd.Decimal
	// APY is Rate, compounded each second. PastAPY is what the last 30 days would make of a year.
	APY, PastAPY Figure
}

// Counted reports whether the value is part of the sums.
func (p *Position) Counted() bool { return p.Value != nil && p.Verified }

// valuer values positions at a rate.
type valuer struct {
	rate   currency.Rate
	yields map[string]Figure // by yearly rate: a market has few
}

func (v *valuer) value(of valuation.ProtocolPosition) (Position, error) {
	p := Position{ProtocolPosition: of}
	p.Rate, p.APY = v.yield(of.YearlyRate)
	if p.UnitPrice = of.Price.Amount; of.Price.Known() && v.rate.Currency != valuation.Currency {
		usd, _, err := apd.NewFromString(of.Price.Amount)
		if err != nil {
			return p, fmt.Errorf("price of %s: %w", of.TokenID, err)
		}
		price, err := v.rate.ConvertPrice(usd)
		if err != nil {
			return p, err
		}
		p.UnitPrice = price.Text('f')
	}
	var err error
	if p.Value, p.Unpriced, err = v.worth(of); err != nil {
		return p, fmt.Errorf("value of %s: %w", of.TokenID, err)
	}
	return p, nil
}

// worth returns the value of a position, or why it has none.
func (v *valuer) worth(p valuation.ProtocolPosition) (*apd.Decimal, string, error) {
	if !p.Known {
		return nil, valuation.ReasonUnknownToken, nil
	}
	// As a holding: the same rules, the same reasons.
	held, err := valuation.Compute(nil, []valuation.Holding{p.Holding}, p.BlockTime)
	if err != nil {
		return nil, "", err
	}
	one := held.Positions[0]
	if one.Value == nil {
		return nil, one.Price.UnpricedReason, nil
	}
	if p.Kind == "" {
		return nil, ReasonUnknownKind, nil
	}
	value, err := v.rate.Convert(one.Value)
	return value, "", err
}

// TokenAmount returns the amount in whole tokens, exactly; "" when the decimals aren't known.
func (p *Position) TokenAmount() string {
	if !p.Known {
		return ""
	}
	return apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(p.Amount), -int32(p.Decimals)).Text('f')
}

// yield returns a yearly rate as it was told, and what it becomes when it is compounded each second.
func (v *valuer) yield(told string) (*apd.Decimal, Figure) {
	if told == "" {
		return nil, unavailable(ReasonNoRate)
	}
	rate := plainDecimal(told)
	if rate == nil {
		return nil, unavailable(ReasonRateInvalid)
	}
	if rate.Cmp(apd.New(maxYearlyRate, 0)) > 0 {
		return rate, unavailable(ReasonRateOutOfRange)
	}
	apy, ok := v.yields[told]
	if !ok {
		apy = compounded(rate)
		v.yields[told] = apy
	}
	return rate, apy
}

// secondsPerYear are those of 365 days.
const secondsPerYear = 365 * 24 * 60 * 60

// compounded returns (1 + rate/n)^n - 1 for the n seconds of a year, rounded half to even to RatioScale decimals.
func compounded(rate *apd.Decimal) Figure {
	// The power multiplies the relative error of one step, 1e-60, by at most 2n.
	ctx := decimal.Context(60)
	n, one, d := apd.New(secondsPerYear, 0), apd.New(1, 0), new(apd.Decimal)
	ed := apd.MakeErrDecimal(ctx)
	ed.Quo(d, rate, n)
	ed.Add(d, d, one)
	ed.Pow(d, d, n)
	ed.Sub(d, d, one)
	ed.Quantize(d, d, -RatioScale)
	if ed.Err() != nil {
		return unavailable(ReasonRateOutOfRange)
	}
	return Figure{Value: d}
}

// plainDecimal returns a number that is written as digits with at most one point; nil for anything else, such as a
// sign, an exponent, NaN, or more than maxDecimal characters.
func plainDecimal(text string) *apd.Decimal {
	whole, part, hasPoint := strings.Cut(text, ".")
	if len(text) > maxDecimal || whole == "" || hasPoint && part == "" ||
		strings.Trim(whole+part, "0123456789") != "" {
		return nil
	}
	n, ok := new(big.Int).SetString(whole+part, 10)
	if !ok {
		return nil
	}
	return apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(n), -int32(len(part)))
}
