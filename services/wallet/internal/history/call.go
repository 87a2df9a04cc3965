package history

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/sync"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// call is one call of Of.
type call struct {
	*Service
	owner   uuid.UUID
	wallets []wallet.Wallet
	tokens  map[uint64][]token.Token // by chain
	// reading ends when balances that are missing are to be read no more, and
	// pricing, a while later, when prices are.
	reading context.Context //nolint:containedctx // it ends before the call's own
	pricing context.Context //nolint:containedctx // so does it
	stop    context.CancelFunc
	release func() // the owner's turn; nil before it is had
	kept    bool   // this call has read something that stays
	told    bool   // and has hours to tell
}

func (s *Service) call(ctx context.Context, owner uuid.UUID) (*call, error) {
	wallets, err := s.store.All(ctx, owner)
	if err != nil {
		return nil, err
	}
	c := &call{Service: s, owner: owner, wallets: wallets, tokens: map[uint64][]token.Token{}}
	for _, w := range wallets {
		if _, done := c.tokens[w.Account.Chain]; done {
			continue
		}
		if c.tokens[w.Account.Chain], err = sync.ListTokens(ctx, s.tokens, w.Account.Chain); err != nil {
			return nil, err
		}
	}
	limit := budget
	if end, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(end)/2)
	}
	var stopReading, stopPricing context.CancelFunc
	c.pricing, stopPricing = context.WithTimeout(ctx, limit+limit/2)
	c.reading, stopReading = context.WithTimeout(ctx, limit)
	c.stop = func() { stopReading(); stopPricing() }
	return c, nil
}

// end gives the owner's turn back.
func (c *call) end() {
	c.stop()
	if c.release != nil {
		c.release()
	}
}

// turn takes the owner's turn to read what is missing.
func (c *call) turn(ctx context.Context) (err error) {
	if c.release == nil {
		c.release, err = c.turns.take(ctx, c.owner)
	}
	return err
}

// cover sees to it that the hours of [from, until) are known, up to the one
// that it returns, and returns why those can't be had that failed. Prices that
// an earlier page has had are not asked for unless there are new balances.
func (c *call) cover(ctx context.Context, from, until time.Time, priced bool) (reached time.Time,
	failed map[Key]string, err error) {
	kept, err := c.store.Kept(ctx, c.owner, from, until)
	if err != nil {
		return from, nil, err
	}
	had := map[Key]bool{}
	counts := map[uuid.UUID]int{}
	for _, w := range c.wallets {
		counts[w.ID] = len(c.tokens[w.Account.Chain])
	}
	now := c.now()
	for _, k := range kept {
		if k.good(counts[k.Wallet], now) {
			had[k.Key] = true
		}
	}
	var why error
	if c.reached(from, until, had).Before(until) && c.reading.Err() == nil {
		if why = c.turn(c.reading); why == nil {
			failed, why = c.read(ctx, from, until, had)
		}
	}
	reached = c.reached(from, until, had)
	if !reached.After(from) {
		return from, nil, why
	}
	if priced && !c.kept {
		return reached, failed, nil
	}
	if priced, err = c.price(ctx, from, reached); err != nil || !priced {
		return from, nil, err
	}
	return reached, failed, nil
}

// good reports whether what is known need not be read again: a chain has had
// no more tokens since, and all of them could be read.
func (k Kept) good(tokens int, now time.Time) bool {
	return k.Tokens >= tokens && !k.ReadAt.Before(time.Unix(k.Hour, 0).Add(Settled)) &&
		(k.Unread == "" || now.Sub(k.ReadAt) < again)
}

// reached is the first hour of which something is missing.
func (c *call) reached(from, until time.Time, had map[Key]bool) time.Time {
	for hour := from; hour.Before(until); hour = hour.Add(time.Hour) {
		for _, w := range c.wallets {
			if !had[Key{w.ID, hour.Unix()}] {
				return hour
			}
		}
	}
	return until
}

// rows returns the rows of [from, until), with those that failed among them.
func (c *call) rows(ctx context.Context, after Cursor, from, until time.Time, failed map[Key]string, limit int) ([]Row,
	error) {
	if after.Hour < from.Unix() {
		after = Cursor{Hour: from.Unix()}
	}
	rows, err := c.store.Rows(ctx, c.owner, after, until, limit)
	if err != nil {
		return nil, err
	}
	there := map[Key]bool{}
	for i, r := range rows {
		k := Key{r.Wallet.ID, r.Hour.Unix()}
		there[k] = true
		if why, lost := failed[k]; lost { // what is kept of it is not all of it
			rows[i].Wallet.Sync = wallet.Sync{State: wallet.Failed, Block: r.Wallet.Sync.Block, At: r.Wallet.Sync.At,
				Error: why}
		}
	}
	for _, k := range slices.Collect(maps.Keys(failed)) {
		if there[k] || k.Hour >= until.Unix() || !after.before(k) {
			continue
		}
		i := slices.IndexFunc(c.wallets, func(w wallet.Wallet) bool { return w.ID == k.Wallet })
		w := c.wallets[i]
		w.Sync = wallet.Sync{State: wallet.Failed, Error: failed[k]}
		rows = append(rows, Row{Hour: time.Unix(k.Hour, 0).UTC(), Row: holding.Row{Wallet: w}})
	}
	slices.SortStableFunc(rows, func(a, b Row) int {
		return cmp.Or(a.Hour.Compare(b.Hour), slices.Compare(a.Wallet.ID[:], b.Wallet.ID[:]))
	})
	return rows[:min(len(rows), limit)], nil
}
