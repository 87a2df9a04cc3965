package snapshot

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Limits of a run of the job that adopts changed prices.
const (
	followTimeout  = time.Minute      // of reading the feed of changes
	adoptTimeout   = 2 * time.Minute  // of comparing prices
	repriceTimeout = 4 * time.Minute  // of valuing snapshots anew
	maxChanges     = 100              // that are read from the store at a time
	maxChangeHours = 2000             // of one token that are compared at a time
	undecidedRetry = 10 * time.Minute // after which prices are compared again that wallet could not tell
	maxRepriced    = 200              // portfolios that are read from the store at a time
)

// PriceChange is hours of a token, or of a currency, whose prices are others than before at the wallet service, or may
// be.
type PriceChange struct {
	TokenID string
	// From is the first hour, and Until the one after the last.
	From, Until time.Time
	// Due is when to compare the prices; it tells whether the change was noted again meanwhile.
	Due time.Time
}

// ReplacedBlocks says that balances on a chain are others than before, or may be, since it has other blocks (a reorg).
type ReplacedBlocks struct {
	// Chain by its CAIP-2 id.
	Chain string
	// Since is the time of the last block that is the same, and Until that of the notice.
	Since, Until time.Time
}

// Changes of what snapshots were made of.
type Changes struct {
	Prices   []PriceChange
	Replaced []ReplacedBlocks
}

// HourPrice is the price of a token at the start of an hour.
type HourPrice struct {
	Hour  time.Time
	Price valuation.Price
}

// PriceFeed tells which prices of the past changed, and which blocks.
type PriceFeed interface {
	// Follow calls visit with the changes after a cursor, and the cursor after them, until there are no more
	// for now. An empty cursor is the present one. errs.FailedPrecondition (CURSOR_EXPIRED) for a cursor whose next
	// changes are not kept any more; errs.Unavailable (WALLET_UNAVAILABLE), or visit's error.
	Follow(ctx context.Context, cursor string, visit func(Changes, string) error) error
	// Hours calls visit with the prices of the hours that begin in [from, until), in order, some at a time.
	// errs.NotFound for a token that is not known any more; errs.Unavailable, or visit's error.
	Hours(ctx context.Context, tokenID string, from, until time.Time, visit func([]HourPrice) error) error
}

// PriceChangeStore keeps which changes of prices are to be adopted, and adopts them.
type PriceChangeStore interface {
	// PriceCursor returns the cursor that was noted last; "" at first.
	PriceCursor(ctx context.Context) (string, error)
	// NotePriceChanges stores changes together with the cursor after them.
	NotePriceChanges(ctx context.Context, changes []PriceChange, cursor string, at time.Time) error
	// Outdate has the snapshots taken again of the portfolios that ever held a token on a chain, those whose balances
	// may be of replaced blocks. Doing it twice is doing it once more.
	Outdate(ctx context.Context, r ReplacedBlocks) error
	// DuePriceChanges returns up to limit changes that are due at a time, those first that waited longest.
	DuePriceChanges(ctx context.Context, at time.Time, limit int) ([]PriceChange, error)
	// HeldHours returns the stretches of a change's hours in which any portfolio holds the token, in order, and the
	// token as positions know it, under each of its names.
	HeldHours(ctx context.Context, c PriceChange) (held []PriceChange, as []valuation.Position, err error)
	// MendPrices is that of Store.
	MendPrices(ctx context.Context, hours []valuation.Assets) error
	// SpreadPrices has the portfolios that hold the token look for snapshots that have older prices of it than the
	// hours of a change, and forgets the rates of these hours where it serves as a currency.
	SpreadPrices(ctx context.Context, c PriceChange) error
	// PriceChangeDone forgets the hours of a change before next, and has the others looked at when that is due.
	PriceChangeDone(ctx context.Context, c PriceChange, next, due time.Time) error

	// DueForReprice returns up to limit portfolios after an id, in the order of their ids, of one of shards shards of
	// their owners, that look for such snapshots.
	DueForReprice(ctx context.Context, shard, shards int, after uuid.UUID, limit int) ([]portfolio.Portfolio, error)
	// Reprice values some of these snapshots of a portfolio at the prices of now, from the amounts that they have. It
	// returns how many, and whether there may be more.
	Reprice(ctx context.Context, p portfolio.Portfolio) (repriced int, more bool, err error)
}

// PriceFollower has changes of prices reach the snapshots that are stored, and has those taken again whose blocks a
// chain has replaced. It is safe for concurrent use.
//
// It promises: what changed while it was away is adopted later, as long as the wallet service keeps its changes; a
// snapshot changes if it holds the token in one of the hours, and no other does; its amounts stay, and no chain is
// read. What is stored of changes is bounded by their stretches of hours, and a run by its time: the next goes on.
type PriceFollower struct {
	store PriceChangeStore
	feed  PriceFeed
	log   *slog.Logger
	now   func() time.Time
}

// NewPriceFollower returns the follower. The contexts that it is called with are to carry a token of this service.
func NewPriceFollower(s PriceChangeStore, f PriceFeed, log *slog.Logger, now func() time.Time) *PriceFollower {
	return &PriceFollower{store: s, feed: f, log: log, now: now}
}

// Follow notes what changed since the last call, and adopts what is due. It must not run twice at a time.
func (f *PriceFollower) Follow(ctx context.Context) error {
	if err := f.note(ctx); err != nil {
		// What was noted before is adopted all the same.
		f.log.WarnContext(ctx, "changes of prices are not followed: the next run goes on", "error", err)
	}
	adopting, stop := context.WithTimeout(ctx, adoptTimeout)
	defer stop()
	for {
		due, err := f.store.DuePriceChanges(ctx, f.now(), maxChanges)
		if err != nil || len(due) == 0 {
			return err
		}
		for _, c := range due {
			err := f.adopt(adopting, c)
			if ctx.Err() == nil && adopting.Err() != nil {
				return nil
			}
			if err != nil {
				f.log.WarnContext(ctx, "changed prices of a token are not adopted", "token", c.TokenID, "error", err)
				if err := f.store.PriceChangeDone(ctx, c, c.From, f.now().Add(undecidedRetry)); err != nil {
					return err
				}
			}
		}
	}
}

// note reads the feed of changes from where it was read to.
func (f *PriceFollower) note(ctx context.Context) error {
	cursor, err := f.store.PriceCursor(ctx)
	if err != nil {
		return err
	}
	reading, stop := context.WithTimeout(ctx, followTimeout)
	defer stop()
	noted := false
	err = f.feed.Follow(reading, cursor, func(changes Changes, next string) error {
		noted = true
		for _, r := range changes.Replaced {
			f.log.InfoContext(ctx, "a chain has replaced blocks: snapshots of their time are taken again",
				"chain", r.Chain, "since", r.Since, "until", r.Until)
			if err := f.store.Outdate(ctx, r); err != nil {
				return err
			}
		}
		return f.store.NotePriceChanges(ctx, changes.Prices, next, f.now())
	})
	if noted && ctx.Err() == nil && reading.Err() != nil {
		return nil // the next run goes on
	}
	if e := errs.As(err); e != nil && (e.Reason == "CURSOR_EXPIRED" || e.Kind == errs.KindInvalid) {
		f.log.WarnContext(ctx, "changes of prices were missed: RecomputeSnapshots with all takes them", "error", err)
		return f.store.NotePriceChanges(ctx, nil, "", f.now())
	}
	return err
}

// adopt makes the prices of the first hours of a change those of wallet.
func (f *PriceFollower) adopt(ctx context.Context, c PriceChange) error {
	part := c
	if last := c.From.Add(maxChangeHours * time.Hour); part.Until.After(last) {
		part.Until = last
	}
	held, as, err := f.store.HeldHours(ctx, part)
	if err != nil {
		return err
	}
	undecided := false
	for _, stretch := range held {
		err := f.feed.Hours(ctx, c.TokenID, stretch.From, stretch.Until, func(prices []HourPrice) error {
			var hours []valuation.Assets
			for _, p := range prices {
				if p.Price.UnpricedReason == valuation.ReasonSourceUnavailable {
					undecided = true
					continue
				}
				positions := make([]valuation.Position, len(as))
				for i, position := range as {
					position.Price = p.Price
					positions[i] = position
				}
				hours = append(hours, valuation.Assets{At: p.Hour, Positions: positions})
			}
			return f.store.MendPrices(ctx, hours)
		})
		if errs.Is(err, errs.KindNotFound) {
			break // wallet tells no price of the token any more
		}
		if err != nil {
			return err
		}
	}
	if err := f.store.SpreadPrices(ctx, part); err != nil {
		return err
	}
	if undecided {
		return f.store.PriceChangeDone(ctx, c, c.From, f.now().Add(undecidedRetry))
	}
	return f.store.PriceChangeDone(ctx, c, part.Until, f.now())
}

// Reprice values the snapshots of one shard of portfolios that have older prices than their hours.
func (f *PriceFollower) Reprice(ctx context.Context, shard, shards int) error {
	limited, stop := context.WithTimeout(ctx, repriceTimeout)
	defer stop()
	total := 0
	defer func() {
		if total > 0 {
			f.log.InfoContext(ctx, "snapshots repriced", "shard", shard, "snapshots", total)
		}
	}()
	for after := uuid.Nil; ; {
		due, err := f.store.DueForReprice(ctx, shard, shards, after, maxRepriced)
		if err != nil || len(due) == 0 {
			return err
		}
		for _, p := range due {
			for more := true; more; {
				var n int
				n, more, err = f.store.Reprice(limited, p)
				total += n
				if limited.Err() != nil {
					return ctx.Err()
				}
				if err != nil { // of one portfolio, which stops no other
					f.log.WarnContext(ctx, "snapshots of a portfolio are not repriced", "portfolio", p.ID,
						"error", err)
					break
				}
			}
			after = p.ID
		}
	}
}
