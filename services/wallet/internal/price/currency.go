package price

import (
	"slices"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/wallet/internal/token"
)

// USD is the currency of every stored price, ISO 4217.
const USD = "USD"

// Currencies are those besides USD that have a price, by their codes of ISO 4217. Prices
// are stored under the codes as those of tokens are under their ids.
func Currencies() []string { return []string{"CHF", "EUR", "GBP", "JPY"} }

// IsCurrency reports whether an id is that of a currency besides USD.
func IsCurrency(id string) bool { return slices.Contains(Currencies(), id) }

// CurrencyToken is a currency as the sources are asked for it.
func CurrencyToken(code string) token.Token { return token.Token{ID: code, Symbol: code, Name: code} }

// Rate is the price of one unit of a currency, or the reason why it has none.
type Rate struct {
	// Currency is its code, or the id of a token.
	Currency string
	Price
	Reason Reason
}

// RateOf returns the rate of the currency that a quote is of.
func RateOf(q Quote) Rate {
	r := Rate{Currency: q.TokenID, Price: q.Price}
	switch {
	case q.Reason == SourceUnavailable:
		r.Reason = RateUnavailable
	case q.Reason != "":
		r.Reason = NoRate
	case q.Stale:
		r.Reason = RateStale
	}
	return r
}

// quotientDigits is how many significant digits a converted price has: those of
// IEEE 754's decimal128.
const quotientDigits = 34

// In returns the value of a price in the currency of a rate: divided, and rounded half to
// even to 34 significant digits and 40 decimal places. It is false for a result that is
// out of a price's range.
func (p Price) In(r Rate) (string, bool) {
	ctx := apd.BaseContext.WithPrecision(quotientDigits)
	ctx.Rounding = apd.RoundHalfEven
	quotient := new(apd.Decimal)
	if _, err := ctx.Quo(quotient, decimal(p.Value), decimal(r.Value)); err != nil {
		return "", false
	}
	if quotient.Exponent < -maxDigits {
		// With as many digits as there are places for: what was rounded once can't be rounded again.
		digits := quotient.NumDigits() + int64(quotient.Exponent) + maxDigits
		if digits < 1 {
			return "", false
		}
		ctx.Precision = uint32(digits)
		if _, err := ctx.Quo(quotient, decimal(p.Value), decimal(r.Value)); err != nil {
			return "", false
		}
	}
	value, err := Parse(quotient.Text('f'))
	return value, err == nil
}

// FarApart reports whether two values differ by more than a percentage of the lower one.
func FarApart(a, b string, percent int) bool {
	low, high := inOrder(decimal(a), decimal(b))
	limit := new(apd.Decimal)
	// The values have at most 80 digits (Parse), so nothing is rounded.
	exact := apd.BaseContext.WithPrecision(4 * maxDigits)
	if _, err := exact.Mul(limit, low, apd.New(int64(100+percent), -2)); err != nil {
		return false
	}
	return high.Cmp(limit) > 0
}

func inOrder(a, b *apd.Decimal) (low, high *apd.Decimal) {
	if a.Cmp(b) > 0 {
		return b, a
	}
	return a, b
}
