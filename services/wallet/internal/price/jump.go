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
	kept := make([]Price, 0, len(prices))
	for i, p := range prices {
		near := prices[max(0, i-jumpNeighbors):min(len(prices), i+jumpNeighbors+1)]
		if !farApart(p.Value, median(near)) {
			kept = append(kept, p)
		}
	}
	return kept
}

// median of the values of prices, the lower one of two.
func median(prices []Price) string {
	sorted := slices.Clone(prices)
	slices.SortFunc(sorted, func(a, b Price) int { return decimal(a.Value).Cmp(decimal(b.Value)) })
	return sorted[(len(sorted)-1)/2].Value
}

// farApart reports whether one of two values is more than maxJump times the other.
func farApart(a, b string) bool {
	low, high := inOrder(decimal(a), decimal(b))
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
