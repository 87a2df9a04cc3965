package price

import (
	"slices"
	"time"

	"github.com/cockroachdb/apd/v3"
)

const (
	// maxJump is the factor by which a price may differ from another of its token of
	// about the same time. Coins have lost nine tenths of their worth in a day; a
	// factor of a thousand is a mistake of the feed, such as of the decimals.
	maxJump = 1000
	// jumpWindow is for how long a price is compared with an earlier one. A price that
	// stays for longer is believed.
	jumpWindow = 24 * time.Hour
	// jumpNeighbors is how many prices before and after one it is compared with.
	jumpNeighbors = 3
)

// JumpsFrom reports whether p is so far from an earlier price of the token, of at most
// jumpWindow before, that it is a mistake of the feed.
func (p Price) JumpsFrom(earlier Price) bool {
	if earlier.Value == "" || p.At.Sub(earlier.At) > jumpWindow {
		return false
	}
	return farApart(p.Value, earlier.Value)
}

// WithoutJumps returns the prices of a token, which are in order of their times,
// without those that are far from the median of their neighbors. Of fewer than three
// prices nobody can tell which is the mistake.
func WithoutJumps(prices []Price) []Price {
	if len(prices) < 3 {
		return prices
	}
	values := make([]*apd.Decimal, len(prices))
	for i, p := range prices {
		values[i] = decimal(p.Value)
	}
	if !apart(slices.MinFunc(values, (*apd.Decimal).Cmp), slices.MaxFunc(values, (*apd.Decimal).Cmp)) {
		return prices // the medians are between these
	}
	kept := make([]Price, 0, len(prices))
	for i, p := range prices {
		near := values[max(0, i-jumpNeighbors):min(len(prices), i+jumpNeighbors+1)]
		if !apart(inOrder(values[i], median(near))) {
			kept = append(kept, p)
		}
	}
	return kept
}

// median of values, the lower one of two.
func median(values []*apd.Decimal) *apd.Decimal {
	sorted := slices.SortedFunc(slices.Values(values), (*apd.Decimal).Cmp)
	return sorted[(len(sorted)-1)/2]
}

// farApart reports whether one of two values is more than maxJump times the other.
func farApart(a, b string) bool { return apart(inOrder(decimal(a), decimal(b))) }

// apart reports whether the higher one of two numbers is more than maxJump times the lower one.
func apart(low, high *apd.Decimal) bool {
	limit := new(apd.Decimal)
	// The values have at most 80 digits (Parse), so nothing is rounded.
	if _, err := apd.BaseContext.WithPrecision(4*maxDigits).Mul(limit, low, apd.New(maxJump, 0)); err != nil {
		return false
	}
	return high.Cmp(limit) > 0
}

// decimal is the number of a value that Parse has returned, zero for another text.
func decimal(text string) *apd.Decimal {
	d, _, err := apd.NewFromString(text)
	if err != nil {
		return new(apd.Decimal)
	}
	return d
}
