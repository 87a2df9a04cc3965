// Package price says what tokens are worth.
//
// It promises: a price that is not known is unavailable and never zero; a price
// comes with its source and the source's own time; while the source fails the
// last known price is returned, and marked once it is stale; a price that is a
// thousand times another one of its token's day is not used. No float ever carries a
// price.
package price

import (
	"errors"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Currency of every price, ISO 4217.
const Currency = "USD"

// Price of one whole token. The zero value is no price.
type Price struct {
	// Value in Currency, a decimal number without exponent, above zero.
	Value  string
	Source string
	// At is the source's own time of the price.
	At time.Time
}

// Reason why a token has no price.
type Reason string

// The reasons.
const (
	UnknownToken      Reason = "UNKNOWN_TOKEN"
	NoPrice           Reason = "NO_PRICE"
	SourceUnavailable Reason = "SOURCE_UNAVAILABLE"
)

// Quote is a token's price, or the reason why it has none.
type Quote struct {
	TokenID string
	Price          // zero when Reason is set
	Reason  Reason `json:",omitempty"`
	// Stale: the price is older than Policy.Stale. It depends on the time of the
	// reading and is not cached.
	Stale bool `json:"-"`
}

// maxDigits is how many digits a price may have on either side of the point.
const maxDigits = 40

// Parse reads a price as a source writes it, and returns it without exponent. It
// is an error unless it is a finite number above zero with at most 40 digits
// before and 40 after the point.
func Parse(text string) (string, error) {
	if len(text) > 2*maxDigits+8 {
		return "", errors.New("price is too long")
	}
	d, cond, err := apd.NewFromString(text)
	if err != nil || cond.Any() || d.Form != apd.Finite {
		return "", errors.New("price is not a finite number")
	}
	if d.Sign() <= 0 {
		return "", errors.New("price is not above zero")
	}
	d.Reduce(d)
	if d.Exponent < -maxDigits || int64(d.Exponent)+d.NumDigits() > maxDigits {
		return "", errors.New("price is out of range")
	}
	return d.Text('f'), nil
}
