package history

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

const (
	// maxHoursPerSpan limits the hours of one span, and maxWalletHoursPerSpan its
	// hours times wallets: about as many as a page has rows.
	maxHoursPerSpan, maxWalletHoursPerSpan = 48, 2000
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

// List returns up to limit rows of what the owner's wallets held in the hours of
// [from, until), and the cursor of the next page, nil on the last. Both times are
// full hours. It reads what is missing until its time budget is used up; the page
// ends before the first hour that is still incomplete. If that is the first hour
// of the page, the error is the cause: that of BalanceReader.ReadAt, or
// errs.Exhausted (HISTORY_READ_UNDER_WAY). A page may be empty without being the
// last.
func (s *Service) List(ctx context.Context, owner uuid.UUID, from, until time.Time, after Cursor,
	limit int) ([]Row, *Cursor, error) {
	wallets, err := s.ownerWallets(ctx, owner)
	if err != nil || len(wallets.all) == 0 {
		return nil, nil, err
	}
	lock := s.limiter.lockOf(ctx, owner)
	defer lock.release()
	ends := newDeadlines(ctx)
	after = after.notBefore(from)
	start := time.Unix(after.Hour, 0).UTC()
	hour := start
	var page []Row
	var sofar progress
	read := func(ctx context.Context, sp span) spanBalances { return s.readSpan(ctx, wallets, lock, ends, sp) }
	price := func(ctx context.Context, sp span, balances spanBalances, continued bool) pricedSpan {
		return s.priceSpan(ctx, owner, lock, ends, sp, balances, continued)
	}
	ahead := newAheadReads(until, len(wallets.all), func(ctx context.Context, sp span) pricedSpan {
		return price(ctx, sp, read(ctx, sp), false)
	})
	defer ahead.end()
	least := minHours(len(wallets.all))
	for hour.Before(until) && len(page) <= limit {
		perHour := rowsPerHour(page, start, hour, least)
		if perHour*least > limit-len(page) {
			break // the next page starts with this hour
		}
		sp, priced, isAhead := ahead.next()
		balances, continued := priced.spanBalances, false
		if !isAhead {
			sp, continued = nextSpan(hour, until, after, len(wallets.all))
			balances = read(ctx, sp)
		}
		if balances.until.Equal(sp.until) {
			ahead.start(ctx, sp, limit-len(page), perHour)
		}
		if !isAhead {
			priced = price(ctx, sp, balances, continued)
		}
		completed, err := priced.complete(sofar)
		if err != nil && hour.Equal(start) {
			return nil, nil, err
		}
		if err != nil {
			break // the next page starts with this hour and returns the error
		}
		rows, err := s.rows(ctx, wallets, after, span{hour, completed.until}, completed.errors, limit+1-len(page))
		if err != nil {
			return nil, nil, err
		}
		page = append(page, rows...)
		sofar.saved = sofar.saved || completed.saved
		sofar.returned = sofar.returned || completed.until.After(hour)
		hour = completed.until
		if hour.Before(sp.until) {
			break
		}
	}
	switch {
	case len(page) > limit:
		return page[:limit], CursorAt(page[limit-1]), nil
	case !hour.Before(until):
		return page, nil, nil
	case hour.Equal(start):
		return page, &after, nil
	}
	return page, &Cursor{Hour: hour.Unix()}, nil
}

// nextSpan returns the span that starts with hour. continued says that earlier
// pages have returned rows of that hour; the span is this hour alone then, since
// its other rows may fill the page.
func nextSpan(hour, until time.Time, after Cursor, wallets int) (sp span, continued bool) {
	if after.Wallet != uuid.Nil && hour.Unix() == after.Hour {
		return spanFrom(hour, until, 1), true
	}
	return spanFrom(hour, until, maxHours(wallets)), false
}

// spanFrom returns the span of this many hours, or of fewer that end at until.
func spanFrom(hour, until time.Time, hours int) span {
	end := hour.Add(time.Duration(hours) * time.Hour)
	if end.After(until) {
		end = until
	}
	return span{hour, end}
}

// maxHours is how many hours a span has at most.
func maxHours(wallets int) int { return max(1, min(maxHoursPerSpan, maxWalletHoursPerSpan/wallets)) }

// minHours is for how many hours a page must have room left to go on with another span, which costs about as much for
// few hours as for many.
func minHours(wallets int) int { return max(1, maxHours(wallets)/4) }

// rowsPerHour is how many rows an hour of the page has, from start to hour; 0 while these are fewer than least.
func rowsPerHour(page []Row, start, hour time.Time, least int) int {
	hours := int(hour.Sub(start) / time.Hour)
	if hours < least {
		return 0
	}
	return (len(page) + hours - 1) / hours
}

// rows returns up to limit stored rows of a span, after the cursor, and among
// them a row with the error for each wallet's hour that can't be read.
func (s *Service) rows(ctx context.Context, wallets ownerWallets, after Cursor, sp span,
	failures map[WalletHour]string, limit int) ([]Row, error) {
	after = after.notBefore(sp.from)
	rows, err := s.store.Rows(ctx, wallets.owner, after, sp.until, limit)
	if err != nil {
		return nil, err
	}
	stored := map[WalletHour]bool{}
	for i, r := range rows {
		h := WalletHour{r.Wallet.ID, r.Hour.Unix()}
		stored[h] = true
		if q := r.Quote; q.Reason == "" && !q.At.IsZero() {
			rows[i].Quote.Stale = q.StaleAt(r.Hour, s.policy.Stale)
		}
		if text, failed := failures[h]; failed { // what is stored of it may lack balances
			rows[i].Wallet.Sync.State, rows[i].Wallet.Sync.Error = wallet.Failed, text
		}
	}
	for _, w := range wallets.all {
		for _, hour := range sp.hours() {
			h := WalletHour{w.ID, hour.Unix()}
			text, failed := failures[h]
			if !failed || stored[h] || !after.before(h) {
				continue
			}
			w.Sync = wallet.Sync{State: wallet.Failed, Error: text}
			rows = append(rows, Row{Hour: hour, Row: holding.Row{Wallet: w}})
		}
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(a.Hour.Compare(b.Hour), slices.Compare(a.Wallet.ID[:], b.Wallet.ID[:]))
	})
	return rows[:min(len(rows), limit)], nil
}
