package snapshot

import (
	"context"
	"slices"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// memberOf returns the membership in an hour: an empty one before the first.
func (b *backfill) memberOf(hour time.Time) portfolio.Membership {
	m, ok := b.members.At(hour)
	if !ok {
		m = portfolio.Membership{Named: true, Empty: true}
	}
	return m
}

// empty reports whether the portfolio has no wallets in an hour.
func (b *backfill) empty(hour time.Time) bool { return b.memberOf(hour).Empty }

// hours returns up to maxListedHours hours that are to be read, oldest first.
func (b *backfill) hours(ctx context.Context) ([]time.Time, error) {
	if b.which == outOfDate {
		return b.store.OutOfDateHours(ctx, b.portfolio.ID, b.next, b.until, maxListedHours)
	}
	list, err := b.store.MissingHours(ctx, b.portfolio.ID, b.next, b.until, maxListedHours)
	if err != nil || b.which == missing {
		return list, err
	}
	var all []time.Time
	for h := b.next; h.Before(b.until) && len(all) < maxListedHours; h = h.Add(time.Hour) {
		if !b.empty(h) || slices.ContainsFunc(list, h.Equal) {
			all = append(all, h)
		}
	}
	return all, nil
}
