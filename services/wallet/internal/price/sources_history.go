package price

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/token"
)

// History implements PastFeed by the feeds that have a past, in their order. A feed is
// asked for the tokens that those before it lack prices of; its prices are used where
// those before it have none that is fresh.
func (s *Sources) History(ctx context.Context, tokens []token.Token, from time.Time,
	hours int) (map[string][]Price, error) {
	out := map[string][]Price{}
	var failed error
	left := tokens
	for _, f := range s.feeds {
		past, ok := f.Feed.(PastFeed)
		if !ok || len(left) == 0 || ctx.Err() != nil {
			continue
		}
		found, err := past.History(ctx, left, from, hours)
		if err != nil {
			failed = cmp.Or(failed, fmt.Errorf("%s: %w", f.Name, err))
			s.metrics.failed(ctx, f.Name)
		}
		var open []token.Token
		for _, t := range left {
			if prices, read := found[t.ID]; read {
				out[t.ID] = merged(out[t.ID], WithoutJumps(prices), s.policy.Stale)
			}
			if !s.covers(out[t.ID], from, hours) {
				open = append(open, t)
			}
		}
		left = open
	}
	if len(left) == 0 {
		return out, nil
	}
	if failed = cmp.Or(failed, ctx.Err()); failed != nil {
		for _, t := range left {
			if len(out[t.ID]) == 0 {
				delete(out, t.ID) // it is not known to have none
			}
		}
	}
	return out, failed
}

// merged returns the prices of two feeds, in order of their times: those of the second
// only where the first has no fresh one.
func merged(first, second []Price, stale time.Duration) []Price {
	if len(first) == 0 {
		return append([]Price{}, second...)
	}
	out := slices.Clone(first)
	for _, p := range second {
		if !isFreshAt(first, p.At, stale) {
			out = append(out, p)
		}
	}
	slices.SortStableFunc(out, func(a, b Price) int { return a.At.Compare(b.At) })
	return out
}

// covers reports whether every hour of a range has a fresh price, without those hours at
// its beginning that are there only for what is older.
func (s *Sources) covers(prices []Price, from time.Time, hours int) bool {
	end := from.Add(time.Duration(hours) * time.Hour)
	hour := from.Add(s.policy.Stale)
	if !hour.Before(end) {
		hour = end.Add(-time.Hour)
	}
	for ; hour.Before(end); hour = hour.Add(time.Hour) {
		if !isFreshAt(prices, hour, s.policy.Stale) {
			return false
		}
	}
	return true
}
