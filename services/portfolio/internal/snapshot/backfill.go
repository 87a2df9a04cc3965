package snapshot

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Bounds of a backfill.
const (
	maxYears = 5
	// skew is how far a caller's clock may be ahead.
	skew = time.Minute
	// settled is how long an hour has to have begun: until then the chain may
	// still replace its block and the feed add to its prices.
	settled = 15 * time.Minute
	// backfillFor is how long one call reads history.
	backfillFor = 6 * time.Second
	// backfillReserve is the share of a caller's time that is kept back to store
	// what was read.
	backfillReserve = 4
	// pageHours and pagePositions are what is stored in one transaction; an hour
	// of more positions than that is one by itself.
	pageHours     = 500
	pagePositions = 10_000
)

// Hour is what an owner's wallets held when an hour began, with the prices of
// then.
type Hour struct {
	At       time.Time
	Wallets  []valuation.Wallet
	Holdings []valuation.Holding
}

// History reads what wallets held.
type History interface {
	// Hours visits the hours from first to last, oldest first and without a gap;
	// none of an owner who has no wallets. It returns the first hour that it
	// isn't done with: one not after last when an error, visit's too, kept it
	// from the rest, and without an error when ctx's deadline did.
	Hours(ctx context.Context, owner uuid.UUID, first, last time.Time, visit func(Hour) error) (time.Time, error)
}

// Progress is how far a backfill came.
type Progress struct {
	// Done is how many hours it is done with, Stored and Incomplete how many of
	// those it stored, and stored incomplete.
	Done, Stored, Incomplete int
	// Remaining is how many hours are left, Next the first of them; zero when
	// none is.
	Remaining int
	Next      time.Time
	// Newest that was stored; nil for none.
	Newest *Snapshot
}

// Backfill takes the snapshots of the hours that begin in [start, end), oldest
// first, as of those hours. The range ends before an hour that isn't settled.
// Hours that have a complete one are passed over, and nothing is read for them. It works for backfillFor at
// most, or three quarters
// of the time that ctx has; Progress says where to go on.
//
// An hour of which nothing could be valued, for want of balances or prices, is
// not stored as zero: it ends the call, and the message names it.
//
// What was stored stays. An error comes only from a call that stored nothing:
// one that did says how far it came, and the next one meets the error if it is
// still there. errs.Invalid for a range that breaks a rule; errs.Unavailable as
// of Take, and CHAIN_UNAVAILABLE; else what History answers.
func (s *Service) Backfill(ctx context.Context, p portfolio.Portfolio, start, end time.Time) (Progress, error) {
	first, until, err := s.hours(start, end)
	if err != nil {
		return Progress{}, err
	}
	b := &backfill{Service: s, p: p, next: first, until: until}
	err = b.run(ctx)
	progress := Progress{
		Done: hoursIn(first, b.next), Stored: b.stored, Incomplete: b.incomplete,
		Remaining: hoursIn(b.next, until), Newest: b.newest,
	}
	if progress.Remaining > 0 {
		progress.Next = b.next
	}
	if err != nil && (b.stored == 0 || ctx.Err() != nil) {
		return Progress{}, err
	}
	if err != nil {
		s.log.WarnContext(ctx, "backfill cut short", "portfolio", p.ID, "next", b.next, "error", err)
	}
	return progress, nil
}

// hours checks a range, and returns its first hour and the one after its last.
func (s *Service) hours(start, end time.Time) (first, until time.Time, err error) {
	now := s.now()
	switch {
	case start.IsZero() && !end.IsZero():
		return first, until, errs.Invalid("start_time", "must be set when end_time is")
	case end.IsZero():
		return first, until, errs.Invalid("end_time", "must be set when start_time is")
	case end.After(now.Add(skew)):
		return first, until, errs.Invalid("end_time", "must not be in the future")
	case !start.Before(end):
		return first, until, errs.Invalid("start_time", "must be before end_time")
	case start.Before(end.AddDate(-maxYears, 0, 0)):
		return first, until, errs.Invalid("start_time",
			fmt.Sprintf("must be at most %d years before end_time", maxYears))
	}
	if last := now.Add(-settled); end.After(last) {
		end = last
	}
	if first, until = ceil(start), ceil(end); first.After(until) {
		first = until
	}
	return first, until, nil
}

// ceil is the first hour that begins at or after t.
func ceil(t time.Time) time.Time {
	return t.UTC().Add(time.Hour - time.Nanosecond).Truncate(time.Hour)
}

func hoursIn(from, until time.Time) int { return int(until.Sub(from) / time.Hour) }

// backfill is one call of Backfill.
type backfill struct {
	*Service
	p     portfolio.Portfolio
	until time.Time
	// next is the first hour that isn't done, seen the first that isn't valued.
	next, seen time.Time

	page       []valuation.Valuation
	positions  int
	stored     int
	incomplete int
	newest     *Snapshot
}

func (b *backfill) run(ctx context.Context) error {
	limit := backfillFor
	if end, ok := ctx.Deadline(); ok {
		left := time.Until(end)
		limit = min(limit, left-left/backfillReserve)
	}
	reading, stop := context.WithTimeout(ctx, limit)
	defer stop()
	for b.next.Before(b.until) && reading.Err() == nil {
		missing, err := b.store.Missing(ctx, b.p.ID, b.next, b.until, pageHours)
		if err != nil {
			return err
		}
		end := b.until
		if len(missing) == pageHours {
			end = missing[pageHours-1].Add(time.Hour)
		}
		whole, err := b.read(ctx, reading, missing)
		if whole {
			b.seen = end
		}
		// What was read before an error is stored all the same.
		if flushErr := b.flush(ctx); flushErr != nil {
			return flushErr
		}
		if err != nil || !whole {
			return err
		}
	}
	return nil
}

// read values the hours that are missing, and reports whether that was all of
// them. It ends with the time for reading.
func (b *backfill) read(ctx, reading context.Context, missing []time.Time) (whole bool, err error) {
	b.seen = b.next
	for len(missing) > 0 {
		n := 1
		for n < len(missing) && missing[n].Equal(missing[n-1].Add(time.Hour)) {
			n++
		}
		last := missing[n-1]
		b.seen, err = b.history.Hours(reading, b.p.Owner, missing[0], last,
			func(h Hour) error { return b.visit(ctx, h) })
		if err != nil || !b.seen.After(last) {
			return false, err
		}
		missing = missing[n:]
	}
	return true, nil
}

// visit values an hour, and stores the page when it is full. A portfolio without
// wallets has no snapshot.
func (b *backfill) visit(ctx context.Context, h Hour) error {
	if len(h.Wallets) == 0 {
		return nil
	}
	v, err := valuation.Of(h.Wallets, h.Holdings, h.At)
	if err != nil {
		return err
	}
	if err := unseen(h, v); err != nil {
		return err
	}
	b.page, b.positions = append(b.page, v), b.positions+len(v.Positions)
	if b.positions < pagePositions {
		return nil
	}
	b.seen = h.At.Add(time.Hour)
	return b.flush(ctx)
}

// unseen refuses a zero, as blind does.
func unseen(h Hour, v valuation.Valuation) error {
	hour := h.At.Format(time.RFC3339)
	switch {
	case !v.Total.IsZero() || v.Complete():
		return nil
	case slices.ContainsFunc(h.Wallets, func(w valuation.Wallet) bool { return w.Failed || !w.Synced }):
		return errs.Unavailable("CHAIN_UNAVAILABLE", "what the wallets held at "+hour+" can't be read: "+v.Reasons[0])
	default:
		return errs.Unavailable("PRICES_UNAVAILABLE", "nothing that the portfolio held at "+hour+" could be priced")
	}
}

// flush stores the page; all hours before seen are done then.
func (b *backfill) flush(ctx context.Context) error {
	if len(b.page) > 0 {
		stored, err := b.store.SavePast(ctx, b.p, b.page)
		if err != nil {
			return err
		}
		for _, snap := range stored {
			b.stored++
			if !snap.Complete {
				b.incomplete++
			}
			b.newest = &snap
		}
	}
	b.page, b.positions, b.next = nil, 0, b.seen
	return nil
}
