package gains

import (
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Token is what is known of a token.
type Token struct {
	Symbol   string
	Decimals uint8
	// Ignored: it looks like an advertisement, and its balance isn't read.
	Ignored bool
}

// TokenHour is an hour of a token, by the Unix time of its start.
type TokenHour struct {
	Token string
	Hour  int64
}

func hourOf(token string, at time.Time) TokenHour {
	return TokenHour{token, at.UTC().Truncate(time.Hour).Unix()}
}

// Price is that of a token at the start of an hour.
type Price struct {
	USD   string // empty when it isn't known
	Stale bool
	// Unread: it isn't stored yet.
	Unread bool
}

// values implements Worth by the prices and rates of hours.
type values struct {
	tokens map[string]Token
	prices map[TokenHour]*Price
	rates  map[int64]currency.Rate
}

// stale is how many hours of tokens have a price or a rate that was stale.
func (v *values) stale() (n int) {
	for hour, price := range v.prices {
		if rate := v.rates[hour.Hour]; price.USD != "" && rate.Known() && (price.Stale || rate.Stale) {
			n++
		}
	}
	return n
}

// Of implements Worth.
func (v *values) Of(token string, at time.Time, amount *big.Int) (*big.Int, string) {
	hour := hourOf(token, at)
	price := v.prices[hour]
	switch {
	case price == nil:
		return nil, valuation.ReasonNoPrice
	case price.Unread:
		return nil, valuation.ReasonSourceUnavailable
	case price.USD == "":
		return nil, valuation.ReasonNoPrice
	}
	rate := v.rates[hour.Hour]
	if !rate.Known() {
		return nil, ReasonRate
	}
	value, err := worth(amount, v.tokens[token].Decimals, price.USD, rate)
	if err != nil || value == nil {
		return nil, valuation.ReasonOutOfRange
	}
	return value, ""
}

// maxValue is 10^valuation.MaxDigits in units of 10^-8.
var maxValue = new(big.Int).Exp(big.NewInt(10), big.NewInt(38), nil)

// worth is what an amount is worth at a price and a rate, in units of 10^-8; nil for maxValue or more.
func worth(amount *big.Int, decimals uint8, price string, rate currency.Rate) (*big.Int, error) {
	usd, err := valuation.Worth(amount, decimals, price)
	if err != nil {
		return nil, err
	}
	limit := apd.New(1, 30)
	if usd.Cmp(limit) >= 0 {
		return nil, nil //nolint:nilnil // it is out of range
	}
	value, err := rate.Convert(usd)
	if err != nil {
		return nil, err
	}
	if value.Exponent != -valuation.Scale {
		return nil, fmt.Errorf("a value of %s has not %d decimals", value, valuation.Scale)
	}
	units := value.Coeff.MathBigInt()
	if value.Negative {
		units.Neg(units)
	}
	if units.CmpAbs(maxValue) >= 0 {
		return nil, nil //nolint:nilnil // it is out of range
	}
	return units, nil
}

// Unpriced is a value that isn't known.
type Unpriced struct {
	Token  string
	Hour   time.Time
	Reason string
}

// Fix says what would mend it.
func (u Unpriced) Fix(currency string) string {
	at := u.Hour.UTC().Format(time.RFC3339)
	switch u.Reason {
	case ReasonUnmatched:
		return "sync the wallet that it came from, or import what it sent (TransactionService.ImportTransactions)"
	case ReasonRate:
		return "import a price of " + currency + " of " + at + " or shortly before (PriceService.ImportPrices)"
	case valuation.ReasonSourceUnavailable:
		return "call again: the price was not read yet"
	case valuation.ReasonOutOfRange:
		return "the amount or the price is impossible; import a right price of " + u.Token + " of " + at +
			" or shortly before (PriceService.ImportPrices)"
	default:
		return "import a price of " + u.Token + " of " + at + " or shortly before (PriceService.ImportPrices)"
	}
}

// unpriced are the values that events lack, by token and time, each once.
func unpriced(events map[string][]Event) (out []Unpriced) {
	seen := map[Unpriced]bool{}
	for _, of := range events {
		for i := range of {
			e := &of[i]
			u := Unpriced{Token: e.Token, Hour: e.Time.UTC().Truncate(time.Hour), Reason: e.Reason}
			if e.Reason != "" && !seen[u] {
				seen[u] = true
				out = append(out, u)
			}
		}
	}
	slices.SortFunc(out, func(a, b Unpriced) int {
		if c := strings.Compare(a.Token, b.Token); c != 0 {
			return c
		}
		if c := a.Hour.Compare(b.Hour); c != 0 {
			return c
		}
		return strings.Compare(a.Reason, b.Reason)
	})
	return out
}
