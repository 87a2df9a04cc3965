package snapshot

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/timerange"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Limits of a backfill.
const (
	// maxRangeYears is the longest range of one call.
	maxRangeYears = 5
	// minHourAge is how long ago an hour has to have begun. Before that the chain may
	// still replace the block that the balances are read at, and the feed may still
	// add to the prices.
	minHourAge = 15 * time.Minute
	// readBudget is how long one call reads history, and readShare the share of the
	// caller's time that it may take at most; the rest is for storing what was read.
	readBudget = 6 * time.Second
	readShare  = 0.75
	// maxListedHours is how many missing hours are listed at a time.
	maxListedHours = 5000
	// maxBatchHours and maxBatchPositions limit what one transaction stores. An hour
	// with more positions than that is a batch of its own.
	maxBatchHours     = 500
	maxBatchPositions = 10_000
)

// HourHoldings is what an owner's wallets held when an hour began, at the prices of
// that time.
type HourHoldings struct {
	Time     time.Time
	Wallets  []valuation.Wallet
	Holdings []valuation.Holding
	// SameAmounts: the amounts are those of the hour that was visited before. Holdings is empty then, and Prices has
	// the prices of the hour, by token id.
	SameAmounts bool
	Prices      map[string]valuation.Price
}

// HistoryReader reads what wallets held.
type HistoryReader interface {
	// ReadHours calls visit with the hours from first to last, both included, oldest
	// first and without a gap. It calls it for no hour if the owner has no wallets.
	//
	// It returns the first hour that it did not finish, which is after last when it
	// finished all. It stops early with an error, which can be visit's, and without
	// one when ctx's deadline is reached.
	ReadHours(ctx context.Context, owner uuid.UUID, first, last time.Time,
		visit func(HourHoldings) error) (time.Time, error)
}

// BackfillProgress is how far a call of Backfill came.
type BackfillProgress struct {
	// Done is how many hours are done: stored, skipped or without wallets.
	Done int
	// Stored is how many snapshots were stored, and Incomplete how many of those are
	// incomplete.
	Stored, Incomplete int
	// Skipped is how many hours were not stored because a wallet's chain has no node, and the
	// others held nothing of value.
	Skipped int
	// Remaining is how many hours of the range are not done, and NextStart the first
	// of them; zero when none is.
	Remaining int
	NextStart time.Time
	// Newest is the newest snapshot that was stored; nil if none was.
	Newest *Snapshot
}

// Backfill takes the snapshots of the hours that begin in [start, end), oldest
// first, from the balances and prices of those hours. The range ends before the
// first hour that began less than minHourAge ago.
//
// It skips hours that have a complete snapshot. It works for at most readBudget, or
// readShare of the time that ctx has left if that is less: the progress says where
// to continue.
//
// An hour whose total would be zero only because balances or prices are missing is
// not stored: it ends the call, and the message names it.
//
// What was stored stays. An error is returned only by a call that stored nothing: a
// call that stored something returns its progress, and the next one returns the
// error if its cause persists. The error is errs.Invalid for a range that breaks a
// rule, errs.Unavailable as for Take or with CHAIN_UNAVAILABLE, or what the
// HistoryReader returns.
func (s *Service) Backfill(ctx context.Context, p portfolio.Portfolio, start,
	end time.Time) (BackfillProgress, error) {
	return s.fill(ctx, p, start, end, missing)
}

// Recompute is Backfill that, if all, also reads the hours of complete snapshots again and
// replaces these, except by incomplete ones, at the prices that the wallet service has of them now.
func (s *Service) Recompute(ctx context.Context, p portfolio.Portfolio, start, end time.Time,
	all bool) (BackfillProgress, error) {
	if all {
		return s.fill(ctx, p, start, end, everyHour)
	}
	return s.fill(ctx, p, start, end, missing)
}

// selection says which hours of a range are read.
type selection int

const (
	missing   selection = iota // and those whose snapshot is out of date or incomplete
	everyHour                  // also those that have a complete one
	outOfDate                  // those whose snapshot is out of date, and no others
)

// fill takes the snapshots of a range, see Backfill.
func (s *Service) fill(ctx context.Context, p portfolio.Portfolio, start, end time.Time,
	which selection) (BackfillProgress, error) {
	first, until, err := s.backfillHours(timerange.Range{Start: start, End: end})
	if err != nil {
		return BackfillProgress{}, err
	}
	b := &backfill{Service: s, portfolio: p, which: which, next: first, until: until, budget: readBudget}
	err = b.run(ctx)
	progress := BackfillProgress{
		Done: hoursBetween(first, b.next), Stored: b.stored, Incomplete: b.incomplete, Skipped: b.skipped,
		Remaining: hoursBetween(b.next, until), Newest: b.newest,
	}
	if progress.Remaining > 0 {
		progress.NextStart = b.next
	}
	if err != nil && (b.stored == 0 || ctx.Err() != nil) {
		return BackfillProgress{}, err
	}
	if err != nil {
		s.log.WarnContext(ctx, "backfill cut short", "portfolio", p.ID, "next", b.next, "error", err)
	}
	return progress, nil
}

// backfillHours checks a range and returns its first hour and the hour after its
// last.
func (s *Service) backfillHours(r timerange.Range) (first, until time.Time, err error) {
	now := s.now()
	rules := timerange.Rules{Required: true, Now: now, Skew: timerange.ClockSkew, MaxYears: maxRangeYears}
	if err := r.Check(rules); err != nil {
		return first, until, err
	}
	if newest := now.Add(-minHourAge); r.End.After(newest) {
		r.End = newest
	}
	first, until = r.Hours()
	return first, until, nil
}

func hoursBetween(from, until time.Time) int { return int(until.Sub(from) / time.Hour) }

// backfill is the state of one call of Backfill.
type backfill struct {
	*Service
	portfolio portfolio.Portfolio
	which     selection
	budget    time.Duration // of reading
	members   portfolio.Memberships
	last      []valuation.Wallet // of the hour before, whose digest was right
	until     time.Time          // the hour after the last
	next      time.Time          // the first hour that is not done
	// valuedUntil is the first hour that is not in batch: with the batch all hours
	// before it are done.
	valuedUntil time.Time

	held           []valuation.Holding // in the last hour that was read, by all wallets of the owner
	assets         valuation.Assets    // of that hour and the portfolio
	batch          []valuation.Assets
	batchPositions int

	refused    error // why an hour was not stored, which ends the backfill
	stored     int
	incomplete int
	skipped    int
	newest     *Snapshot
}

func (b *backfill) run(ctx context.Context) error {
	reading, stop := deadline.Share(ctx, readShare, b.budget)
	defer stop()
	if !b.next.Before(b.until) {
		return nil
	}
	var err error
	if b.members, err = b.holdings.Memberships(ctx, b.portfolio, b.next, b.until); err != nil {
		return err
	}
	for b.next.Before(b.until) && reading.Err() == nil {
		hours, err := b.hours(ctx)
		if err != nil {
			return err
		}
		end := b.until
		if len(hours) == maxListedHours {
			end = hours[maxListedHours-1].Add(time.Hour)
		}
		all, err := b.read(ctx, reading, hours)
		if all {
			b.valuedUntil = end
		}
		// What was read before an error is stored all the same.
		if storeErr := b.storeBatch(ctx); storeErr != nil {
			return storeErr
		}
		if err != nil || !all {
			return err
		}
	}
	return nil
}

// read values these hours, and reports whether it did so for all of them. It
// reads until reading is done, and stores with ctx.
func (b *backfill) read(ctx, reading context.Context, missing []time.Time) (all bool, err error) {
	b.valuedUntil = b.next
	for len(missing) > 0 {
		n := 1 // hours without a gap, which all have wallets or have none
		for n < len(missing) && missing[n].Equal(missing[n-1].Add(time.Hour)) &&
			b.empty(missing[n]) == b.empty(missing[0]) {
			n++
		}
		last := missing[n-1]
		if b.empty(last) { // there is nothing to read
			for _, h := range missing[:n] {
				assets, err := b.memberOf(h).Assets(nil, nil, h)
				if err != nil {
					return false, err
				}
				if err := b.addAssets(ctx, assets); err != nil {
					return false, err
				}
			}
			b.valuedUntil, missing = last.Add(time.Hour), missing[n:]
			continue
		}
		b.valuedUntil, err = b.history.ReadHours(reading, b.portfolio.Owner, missing[0], last,
			func(h HourHoldings) error { return b.addHour(ctx, h) })
		if err != nil || !b.valuedUntil.After(last) {
			return false, err
		}
		missing = missing[n:]
	}
	return true, nil
}

// addHour values an hour that was read. An hour of an owner without wallets has no
// snapshot.
func (b *backfill) addHour(ctx context.Context, h HourHoldings) error {
	if len(h.Wallets) == 0 {
		return nil
	}
	m := b.memberOf(h.Time)
	if !m.Named && m.Digest != "" && !slices.EqualFunc(h.Wallets, b.last, sameWallet) {
		if portfolio.Digest(h.Wallets) != m.Digest {
			return errs.Unavailable("WALLET_UNAVAILABLE", "the wallets changed while their history was read")
		}
		b.last = h.Wallets
	}
	if h.SameAmounts && b.assets.Membership == m.Number {
		b.assets = b.assets.AsOf(m.Members(h.Wallets), h.Prices, h.Time)
		return b.addAssets(ctx, b.assets)
	}
	if h.SameAmounts {
		b.held = slices.Clone(b.held)
		for i := range b.held {
			b.held[i].Price = valuation.PriceOf(h.Prices, b.held[i].TokenID, b.held[i].Price)
		}
	} else {
		b.held = h.Holdings
	}
	var err error
	if b.assets, err = m.Assets(h.Wallets, b.held, h.Time); err != nil {
		return err
	}
	return b.addAssets(ctx, b.assets)
}

func sameWallet(a, b valuation.Wallet) bool { return a.ID == b.ID }

// addAssets adds an hour to the batch, and stores that when it is full.
func (b *backfill) addAssets(ctx context.Context, assets valuation.Assets) error {
	b.batch, b.batchPositions = append(b.batch, assets), b.batchPositions+len(assets.Positions)
	if len(b.batch) < maxBatchHours && b.batchPositions < maxBatchPositions {
		return nil
	}
	b.valuedUntil = assets.At.Add(time.Hour)
	return b.storeBatch(ctx)
}

// rejectUnknownZeroAt is rejectUnknownZero for an hour of the past.
func rejectUnknownZeroAt(v valuation.Valuation) error {
	hour := v.ValuationTime.Format(time.RFC3339)
	switch {
	case !isZero(v) || v.Complete():
		return nil
	case v.UnsyncedWallets+v.FailedWallets > 0:
		return errs.Unavailable("CHAIN_UNAVAILABLE",
			"what the wallets held at "+hour+" can't be read: "+v.IncompleteReasons[0])
	default:
		return errs.Unavailable("PRICES_UNAVAILABLE", "nothing that the portfolio held at "+hour+" has a price")
	}
}

// storeBatch stores the batch and starts a new one. All hours before valuedUntil
// are done then. An hour that must not be stored ends it: those before are.
func (b *backfill) storeBatch(ctx context.Context) error {
	if b.refused != nil {
		return b.refused
	}
	values, refusedAt, refused := b.valueBatch(ctx)
	if len(values) > 0 {
		save := b.store.SaveBackfilled
		if b.which == everyHour {
			save = b.store.ReplaceHours
		}
		stored, err := save(ctx, b.portfolio, values)
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
	if refused != nil {
		b.refused, b.valuedUntil = refused, refusedAt
	}
	b.batch, b.batchPositions, b.next = nil, 0, b.valuedUntil
	return refused
}

// valueBatch values the batch at the prices of its hours, up to an hour that must not be
// stored, for which it returns the error. It passes over hours of which nothing is known
// because some of the wallets can't be read for want of a node, and all hours that must
// not be stored where others are to be replaced.
func (b *backfill) valueBatch(ctx context.Context) (values []valuation.Valuation, refusedAt time.Time, err error) {
	if len(b.batch) == 0 {
		return nil, refusedAt, nil
	}
	adopt := b.store.AdoptPrices
	if b.which == everyHour {
		adopt = b.store.MendPrices
	}
	if err := adopt(ctx, b.batch); err != nil {
		return nil, b.batch[0].At, err
	}
	for _, assets := range b.batch {
		v, err := assets.Value()
		if err != nil {
			return values, assets.At, err
		}
		switch err := rejectUnknownZeroAt(v); {
		case err == nil:
			values = append(values, v)
		case b.which == outOfDate, v.Unpriced == 0 && v.UnreadableWallets > 0 &&
			v.UnreadableWallets == v.UnsyncedWallets+v.FailedWallets && v.UnreadableWallets < v.Wallets:
			b.skipped++
		default:
			return values, assets.At, err
		}
	}
	return values, refusedAt, nil
}
