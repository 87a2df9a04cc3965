// Package currency converts values in US dollars to another currency: euro, pound sterling, Swiss franc, yen, or any
// token that has a price.
//
// It promises:
//   - A value is converted by one division, rounded half to even to valuation.Scale decimals; in Go and in SQL
//     (in_currency) alike.
//   - A valuation in another currency adds up: the values of its positions are its total, exactly. The largest takes
//     what rounding leaves.
//   - Values of the past are converted with the rate of their hour: the last price of the currency at or before its
//     start. A rate is read once and stored for everybody, and does not change then.
//   - Without a rate there is no value. It is never taken for 1 or 0.
package currency

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/decimal"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// ReasonUnavailable is why there is no figure where a rate is unknown. It is also why a rate is unknown that the
// wallet service was not asked for; other reasons of rates are its own.
const ReasonUnavailable = "RATE_UNAVAILABLE"

// Rate is what one unit of a currency is worth.
type Rate struct {
	// Currency is a code of ISO 4217 or the CAIP-19 id of a token.
	Currency string
	// Price in US dollars, a decimal number above 0; "" when it is unknown.
	Price  string
	Source string
	Time   time.Time
	Stale  bool
	// Reason why it is unknown, a code; "" for a known one.
	Reason string
}

// USD is the rate of US dollars, in which everything is stored.
func USD() Rate { return Rate{Currency: valuation.Currency, Price: "1"} }

// Known reports whether there is a rate.
func (r Rate) Known() bool { return r.Price != "" }

// IsUSD reports whether a request's currency is US dollars, which "" is too.
func IsUSD(currency string) bool { return currency == "" || currency == valuation.Currency }

// Check returns errs.Invalid on field for what is no currency. Whether a token of that id has a price is the wallet
// service's to say.
func Check(field, currency string) error {
	switch currency {
	case "", valuation.Currency, "EUR", "GBP", "CHF", "JPY":
		return nil
	}
	if IsTokenID(currency) && len(currency) <= 160 {
		return nil
	}
	return errs.Invalid(field, Rule+", "+errs.Given(currency))
}

// IsTokenID reports whether a text has the shape of a CAIP-19 id, for example "eip155:1/slip44:60".
func IsTokenID(text string) bool {
	chain, asset, ok := strings.Cut(text, "/")
	return ok && strings.Contains(chain, ":") && strings.Contains(asset, ":")
}

// Rule of a request's currency.
const Rule = `must be USD, EUR, GBP, CHF, JPY or the CAIP-19 id of a token that has a price, for example ` +
	`"eip155:1/slip44:60"`

// Convert returns a value of US dollars in the rate's currency.
func (r Rate) Convert(value *apd.Decimal) (*apd.Decimal, error) {
	if value == nil || r.Currency == valuation.Currency {
		return value, nil
	}
	amount, ok := new(big.Rat).SetString(value.Text('f'))
	price, priced := new(big.Rat).SetString(r.Price)
	if !ok || !priced || price.Sign() <= 0 {
		return nil, fmt.Errorf("convert %s at a rate of %q", value, r.Price)
	}
	amount.Quo(amount, price)
	amount.Mul(amount, new(big.Rat).SetInt(scale))
	units := decimal.HalfEven(amount.Num(), amount.Denom())
	return apd.NewWithBigInt(new(apd.BigInt).SetMathBigInt(units), -valuation.Scale), nil
}

var scale = new(big.Int).Exp(big.NewInt(10), big.NewInt(valuation.Scale), nil)

// priceDigits is how many significant digits a converted price has, as in the wallet service.
const priceDigits = 34

// Valuation returns a valuation of US dollars in the rate's currency. A stale rate makes it incomplete.
func (r Rate) Valuation(v valuation.Valuation) (valuation.Valuation, error) {
	if r.Currency == valuation.Currency {
		return v, nil
	}
	var err error
	if v.Total, err = r.Convert(v.Total); err != nil {
		return v, err
	}
	if v.Liabilities, err = r.Convert(v.Liabilities); err != nil {
		return v, err
	}
	if v.Assets, err = valuation.Sum(v.Total, v.Liabilities); err != nil {
		return v, err
	}
	if v.Collateral, err = r.Convert(v.Collateral); err != nil {
		return v, err
	}
	if v.Positions, err = r.positions(v.Positions); err != nil {
		return v, err
	}
	if v.Receipts, err = r.positions(v.Receipts); err != nil {
		return v, err
	}
	if err := addUp(v.Positions, v.Assets, false); err != nil {
		return v, err
	}
	if err := addUp(v.Positions, new(apd.Decimal).Neg(v.Liabilities), true); err != nil {
		return v, err
	}
	if r.Stale {
		v.IncompleteReasons = append(v.IncompleteReasons[:len(v.IncompleteReasons):len(v.IncompleteReasons)],
			"the rate of "+r.Currency+" is stale")
	}
	return v, nil
}

// positions returns positions in the rate's currency.
func (r Rate) positions(in []valuation.Position) ([]valuation.Position, error) {
	positions := make([]valuation.Position, len(in))
	for i, p := range in {
		if p.Price.Known() {
			usd, _, err := apd.NewFromString(p.Price.Amount)
			if err != nil {
				return nil, fmt.Errorf("convert a price: %w", err)
			}
			price, err := r.ConvertPrice(usd)
			if err != nil {
				return nil, err
			}
			p.Price.Amount = price.Text('f')
		}
		var err error
		if p.Value, err = r.Convert(p.Value); err != nil {
			return nil, err
		}
		positions[i] = p
	}
	return positions, nil
}

// addUp changes the values of the assets, or of the debts, that count, so that they add up to sum: the largest takes
// what rounding leaves. Positions are in the order of their values.
func addUp(positions []valuation.Position, sum *apd.Decimal, owed bool) (err error) {
	var of []*valuation.Position
	left := new(apd.Decimal).Set(sum)
	for i := range positions {
		p := &positions[i]
		if !p.Counted() || p.Place.Owed() != owed {
			continue
		}
		of = append(of, p)
		if left, err = valuation.Subtract(left, p.Value); err != nil {
			return err
		}
	}
	if owed {
		slices.Reverse(of)
	}
	for _, p := range of {
		if left.IsZero() {
			break
		}
		changed, err := valuation.Sum(p.Value, left)
		if err != nil {
			return err
		}
		left = new(apd.Decimal)
		if changed.Sign() != 0 && changed.Negative != owed { // of dust alone: the next one takes the rest
			left, changed = changed, apd.New(0, -valuation.Scale)
		}
		p.Value = changed
	}
	return nil
}

// ConvertPrice returns a price in US dollars in the rate's currency, rounded half to even to 34 significant digits.
func (r Rate) ConvertPrice(usd *apd.Decimal) (*apd.Decimal, error) {
	if r.Currency == valuation.Currency {
		return usd, nil
	}
	ctx := decimal.Context(priceDigits)
	rate, _, err := apd.NewFromString(r.Price)
	if err != nil {
		return nil, fmt.Errorf("convert a price: %w", err)
	}
	quotient := new(apd.Decimal)
	if _, err := ctx.Quo(quotient, usd, rate); err != nil {
		return nil, fmt.Errorf("convert a price: %w", err)
	}
	return quotient, nil
}
