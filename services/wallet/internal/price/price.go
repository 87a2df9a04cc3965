// Package price says what tokens and currencies are worth.
//
// It promises: a price that is not known is unavailable and never zero; a price
// comes with its source and the source's own time; while the sources fail the
// last known price is returned, and marked once it is stale; a price that is a
// thousand times another one of its token's day is not used, unless two sources
// agree about it; a price is converted only by a rate that is known and not stale. No
// float ever carries a price.
package price

import (
	"errors"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Price of one whole token, or of one unit of a currency. The zero value is no price.
type Price struct {
	// Value in USD, a decimal number without exponent, above zero.
	Value  string
	Source string
	// At is the source's own time of the price.
	At time.Time
	// GoodFor is for how long after At the source states that the price holds, such as
	// the heartbeat of a feed on chain; 0 where it states nothing.
	GoodFor time.Duration `json:",omitempty"`
	// Other is the price of another source that differs from this one by more than the
	// limit; nil for none.
	Other *Other `json:",omitempty"`
}

// Other is a price that was not used.
type Other struct {
	Value  string
	Source string
	At     time.Time
}

// Reason why a token has no price.
type Reason string

// The reasons.
const (
	UnknownToken      Reason = "UNKNOWN_TOKEN"
	NoPrice           Reason = "NO_PRICE"
	SourceUnavailable Reason = "SOURCE_UNAVAILABLE"
	// NoRate, RateStale and RateUnavailable are about the rate of the currency that was
	// asked for.
	NoRate          Reason = "NO_RATE"
	RateStale       Reason = "RATE_STALE"
	RateUnavailable Reason = "RATE_UNAVAILABLE"
	// OutOfRange: the converted price has more digits than a price may have.
	OutOfRange Reason = "OUT_OF_RANGE"
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
