package price

import (
	"errors"
	"slices"
	"time"
)

// Policy is how old prices may be.
type Policy struct {
	// Refresh is the age at which a price is fetched anew.
	Refresh time.Duration `env:"REFRESH" envDefault:"30s"`
	// Stale is the age, by the source's own time, above which a price is marked as stale.
	Stale time.Duration `env:"STALE" envDefault:"2h"`
	// Bridge is the age up to which an earlier price stands in at a past hour whose own price the source lacks. It is
	// marked as stale when it is older than Stale at that hour.
	Bridge time.Duration `env:"BRIDGE" envDefault:"24h"`
	// CompareEvery is how often the price of a token is compared with those of the sources
	// that it is not of; never when 0.
	CompareEvery time.Duration `env:"COMPARE_EVERY" envDefault:"5m"`
	// Disagreement is by how many percent of the lower one the prices of two sources may
	// differ.
	Disagreement int `env:"DISAGREEMENT_PERCENT" envDefault:"5"`
}

// Validate reports the first error in p.
func (p Policy) Validate() error {
	if p.Refresh < time.Second || p.Stale <= p.Refresh {
		return errors.New("PURSER_PRICE_REFRESH must be at least 1s, and PURSER_PRICE_STALE above it")
	}
	if p.Bridge < p.Stale || p.Bridge > maxBridge {
		return errors.New("PURSER_PRICE_BRIDGE must be at least PURSER_PRICE_STALE, and at most 168h")
	}
	if p.CompareEvery != 0 && p.CompareEvery < p.Refresh {
		return errors.New("PURSER_PRICE_COMPARE_EVERY must be 0, or at least PURSER_PRICE_REFRESH")
	}
	if p.Disagreement < 1 || p.Disagreement > maxDisagreement {
		return errors.New("PURSER_PRICE_DISAGREEMENT_PERCENT must be 1 to 10000")
	}
	return nil
}

// maxDisagreement, in percent, is below the factor at which prices are not believed.
const maxDisagreement = 10_000

// maxBridge bounds how far back is asked for what a past hour lacks.
const maxBridge = 7 * 24 * time.Hour

// StaleAt reports whether the price is old at t: older than its source states that it holds, be that less than maxAge
// or more, or older than maxAge where the source states nothing.
func (p Price) StaleAt(t time.Time, maxAge time.Duration) bool {
	if p.GoodFor > 0 {
		maxAge = p.GoodFor
	}
	return t.Sub(p.At) > maxAge
}

// LastAt returns the last of the prices, which are in order of their times, that is at or before t. It returns false
// when there is none, or it is older than maxAge and than its source states that it holds: a price that is stale by
// its source's own statement may still stand in for a missing one.
func LastAt(prices []Price, t time.Time, maxAge time.Duration) (Price, bool) {
	for _, p := range slices.Backward(prices) {
		if !p.At.After(t) {
			return p, t.Sub(p.At) <= max(maxAge, p.GoodFor)
		}
	}
	return Price{}, false
}

// isFreshAt reports whether the last of the prices, which are in order of their times, at
// or before t is not stale then.
func isFreshAt(prices []Price, t time.Time, stale time.Duration) bool {
	last, ok := LastAt(prices, t, stale)
	return ok && !last.StaleAt(t, stale)
}
