package history

import (
	"context"
	"time"

	"github.com/google/uuid"
)

const (
	// maxHoursPerSpan limits the hours of one span, and maxSparseHours those of an owner whose past is read by
	// changes.
	maxHoursPerSpan, maxSparseHours = 48, 168
	// maxPagePrices is how many prices the hours of a page have together at most, unless a single one has more.
	maxPagePrices = 3000
)

// span is the hours that start in [from, until); both are full hours.
type span struct{ from, until time.Time }

// hours returns the hours of the span, in order.
func (s span) hours() []time.Time {
	var hours []time.Time
	for hour := s.from; hour.Before(s.until); hour = hour.Add(time.Hour) {
		hours = append(hours, hour)
	}
	return hours
}

// progress is what a call has done so far, in the spans before the present one.
type progress struct {
	saved    bool // balances were stored
	returned bool // hours are on the page
}

// List returns a page of what the owner's wallets held in the hours of [from, until), with up to limit rows, and the
// cursor of the next page, nil on the last. Both times are full hours. It reads what is missing until its time budget
// is used up; the page ends before the first hour that is still incomplete. If that is the first hour
// of the page, the error is the cause: that of BalanceReader.ReadAt, or
// errs.Exhausted (HISTORY_READ_UNDER_WAY). A page may be empty without being the
// last.
func (s *Service) List(ctx context.Context, owner uuid.UUID, from, until time.Time, after Cursor,
	limit int) (Page, *Cursor, error) {
	wallets, err := s.ownerWallets(ctx, owner)
	if err != nil || len(wallets.all) == 0 {
		return Page{}, nil, err
	}
	lock := s.limiter.lockOf(ctx, owner)
	defer lock.release()
	ends := newDeadlines(ctx)
	after = after.notBefore(from)
	start := time.Unix(after.Hour, 0).UTC()
	hour := start
	page := newPageBuilder(wallets, after, limit, s.policy.Stale)
	var sofar progress
	read := func(ctx context.Context, sp span) spanBalances { return s.readSpan(ctx, wallets, lock, ends, sp) }
	price := func(ctx context.Context, sp span, balances spanBalances, continued bool) pricedSpan {
		return s.priceSpan(ctx, owner, lock, ends, sp, balances, continued)
	}
	ahead := newAheadReads(until, wallets.spanHours(), func(ctx context.Context, sp span) pricedSpan {
		return price(ctx, sp, read(ctx, sp), false)
	})
	defer ahead.end()
	minimum := minHours(wallets.spanHours())
	for hour.Before(until) && page.next == nil {
		perHour := page.rowsPerHour(minimum)
		if perHour*minimum > page.room() {
			break // the next page starts with this hour
		}
		sp, priced, isAhead := ahead.next()
		balances, continued := priced.spanBalances, false
		if !isAhead {
			sp, continued = nextSpan(hour, until, after, wallets.spanHours())
			balances = read(ctx, sp)
		}
		// What a page of many balances has room for is known only when it is full, and half of a week that is read by
		// its changes is not worth much: it is not read ahead.
		if balances.until.Equal(sp.until) && wallets.spanHours() == maxHoursPerSpan {
			ahead.start(ctx, sp, page.room(), perHour)
		}
		if !isAhead {
			priced = price(ctx, sp, balances, continued)
		}
		completed, err := priced.complete(sofar)
		if err != nil && hour.Equal(start) {
			return Page{}, nil, err
		}
		if err != nil {
			break // the next page starts with this hour and returns the error
		}
		listed := spanFrom(hour, completed.until, page.room()+1) // each hour has a row at least
		past, err := s.store.Past(ctx, owner, listed.from, listed.until)
		if err != nil {
			return Page{}, nil, err
		}
		page.add(past, listed, completed.errors)
		sofar.saved = sofar.saved || completed.saved
		sofar.returned = sofar.returned || completed.until.After(hour)
		hour = completed.until
		if hour.Before(sp.until) {
			break
		}
	}
	switch {
	case page.next != nil:
		return page.page, page.next, nil
	case !hour.Before(until):
		return page.page, nil, nil
	case hour.Equal(start):
		return page.page, &after, nil
	}
	return page.page, &Cursor{Hour: hour.Unix()}, nil
}

// nextSpan returns the span that starts with hour. continued says that earlier
// pages have returned rows of that hour; the span is this hour alone then, since
// its other rows may fill the page. What is read by changes ends with the frame.
func nextSpan(hour, until time.Time, after Cursor, hours int) (sp span, continued bool) {
	if after.Wallet != uuid.Nil && hour.Unix() == after.Hour {
		return spanFrom(hour, until, 1), true
	}
	if end := FrameEnd(hour); hours == maxSparseHours && end.Before(until) {
		until = end // so the pages of a frame read it once
	}
	return spanFrom(hour, until, hours), false
}

// spanFrom returns the span of this many hours, or of fewer that end at until.
func spanFrom(hour, until time.Time, hours int) span {
	end := hour.Add(time.Duration(hours) * time.Hour)
	if end.After(until) {
		end = until
	}
	return span{hour, end}
}

// spanHours is how many hours a span has at most.
func (w ownerWallets) spanHours() int {
	for chain := range w.tokens {
		if w.sparse(chain) {
			return maxSparseHours
		}
	}
	return maxHoursPerSpan
}

// minHours is for how many hours a page must have room left to go on with another span of up to this many, which
// costs about as much for few hours as for many.
func minHours(spanHours int) int { return spanHours / 4 }
