package history

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	gosync "sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"
	"golang.org/x/sync/errgroup"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

const (
	// most is how many balances of one hour are read at once, so that it is done
	// well within the budget.
	most = 2000
	// together is how many moments are read at once.
	together = 8
	// keeping bounds the write of what was read, which is made even when the
	// caller has gone.
	keeping = 3 * time.Second
)

// part is a chain's wallets, or some of them, that are read together.
type part struct {
	chain   uint64
	wallets []wallet.Wallet
}

func (c *call) parts() (parts []part) {
	byChain := map[uint64][]wallet.Wallet{}
	for _, w := range c.wallets {
		byChain[w.Account.Chain] = append(byChain[w.Account.Chain], w)
	}
	for _, chain := range slices.Sorted(maps.Keys(byChain)) {
		for some := range slices.Chunk(byChain[chain], max(1, most/max(1, len(c.tokens[chain])))) {
			parts = append(parts, part{chain, some})
		}
	}
	return parts
}

// reader reads what is missing.
type reader struct {
	*call
	until time.Time

	mu     gosync.Mutex
	had    map[Key]bool
	failed map[Key]string
	away   map[uint64]error // of chains that are not asked again
}

// read reads and keeps what is missing of [from, until), and notes in had what
// is known then, and returns what can't be.
//
// It goes through all wallets a few hours at a time: of an hour that can't be
// had nothing is kept, so that a call must be done with one, or none ever would
// be.
func (c *call) read(ctx context.Context, from, until time.Time, had map[Key]bool) (map[Key]string, error) {
	parts := c.parts()
	r := &reader{call: c, until: until, had: had, failed: map[Key]string{}, away: map[uint64]error{}}
	for times := range slices.Chunk(missing(c.wallets, from, until, had), max(1, together/len(parts))) {
		var all errgroup.Group
		all.SetLimit(together)
		for _, p := range parts {
			all.Go(func() error { return r.part(ctx, p, times) })
		}
		if err := all.Wait(); err != nil {
			return r.failed, err
		}
	}
	for _, p := range parts {
		if err := r.away[p.chain]; err != nil {
			return r.failed, err
		}
	}
	return r.failed, nil
}

// missing are the hours in which one of the wallets is not known.
func missing(wallets []wallet.Wallet, from, until time.Time, had map[Key]bool) (times []time.Time) {
	for hour := from; hour.Before(until); hour = hour.Add(time.Hour) {
		if slices.ContainsFunc(wallets, func(w wallet.Wallet) bool { return !had[Key{w.ID, hour.Unix()}] }) {
			times = append(times, hour)
		}
	}
	return times
}

// part reads and keeps some hours of a part.
func (r *reader) part(ctx context.Context, p part, times []time.Time) error {
	r.mu.Lock()
	times = slices.DeleteFunc(slices.Clone(times), func(t time.Time) bool {
		return len(missing(p.wallets, t, t.Add(time.Hour), r.had)) == 0
	})
	skip := len(times) == 0 || r.away[p.chain] != nil || r.reading.Err() != nil
	r.mu.Unlock()
	if skip {
		return nil
	}
	holders := make([]common.Address, len(p.wallets))
	for i, w := range p.wallets {
		holders[i] = w.Account.Address
	}
	readings, failure := r.chains.ReadAt(r.reading, p.chain, times, holders, r.tokens[p.chain])
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, reading := range readings {
		if reading.Failed != "" {
			r.lose(p.chain, times[i], reading.Failed)
		}
	}
	if e := errs.As(failure); e != nil && e.Kind == errs.KindFailedPrecondition {
		for hour := times[0]; hour.Before(r.until); hour = hour.Add(time.Hour) {
			r.lose(p.chain, hour, e.Message)
		}
	} else if failure != nil && r.reading.Err() == nil { // else what was read until then is kept
		r.away[p.chain] = failure
	}
	return r.keep(ctx, p, times, readings)
}

// lose notes that an hour can't be had of any wallet of a chain.
func (r *reader) lose(chain uint64, hour time.Time, why string) {
	for _, w := range r.wallets {
		if k := (Key{w.ID, hour.Unix()}); w.Account.Chain == chain && !r.had[k] {
			r.had[k], r.failed[k] = true, why
		}
	}
}

// keep keeps what was read.
func (r *reader) keep(ctx context.Context, p part, times []time.Time, readings []Reading) error {
	tokens, now := r.tokens[p.chain], r.now()
	var entries []Entry
	for i, reading := range readings {
		for j, w := range p.wallets {
			k := Key{w.ID, times[i].Unix()}
			if r.had[k] || len(reading.Amounts) != len(p.wallets) || len(reading.Amounts[j]) != len(tokens) {
				continue
			}
			e := Entry{Kept: Kept{Key: k, Tokens: len(tokens), ReadAt: now}, Block: reading.Block}
			e.Balances, e.Unread = balances(tokens, reading.Amounts[j])
			entries = append(entries, e)
		}
	}
	if len(entries) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keeping)
	defer cancel()
	if err := r.store.Keep(ctx, entries); err != nil {
		return err
	}
	r.kept = true
	for _, e := range entries {
		r.had[e.Key] = true
	}
	return nil
}

// balances are the amounts above zero by token id, and the tokens that could
// not be read, in words.
func balances(tokens []token.Token, amounts []*uint256.Int) (map[string]uint256.Int, string) {
	held := map[string]uint256.Int{}
	var unread []string
	for i, t := range tokens {
		switch a := amounts[i]; {
		case a == nil:
			unread = append(unread, t.Symbol)
		case !a.IsZero():
			held[t.ID] = *a
		}
	}
	if len(unread) > 0 {
		return held, "not readable: " + strings.Join(unread, ", ")
	}
	return held, ""
}

// price has the prices of [from, until) kept that can be had. It is false when
// the time for it was up and the next call gets on: this one has kept something,
// or has other hours to tell. Else those that are not known are told as
// unavailable, so that a feed that hangs keeps nobody from the balances.
func (c *call) price(ctx context.Context, from, until time.Time) (bool, error) {
	now := c.now()
	wanted, err := c.store.Wanted(ctx, c.owner, from, until, now.Add(-again))
	if err != nil || len(wanted) == 0 {
		return err == nil, err
	}
	if c.pricing.Err() != nil {
		return !c.kept && !c.told, ctx.Err()
	}
	if err := c.turn(c.pricing); err != nil {
		return false, err
	}
	tokens := map[string]token.Token{}
	begin, end := wanted[0].Hour, wanted[len(wanted)-1].Hour
	for _, w := range wanted {
		tokens[w.Token.ID] = w.Token
	}
	begin = begin.Add(-c.stale).Truncate(time.Hour)
	points, failure := c.prices.History(c.pricing, slices.Collect(maps.Values(tokens)), begin,
		int(end.Sub(begin)/time.Hour)+1)
	late := c.pricing.Err() != nil
	wanted = slices.DeleteFunc(wanted, func(w Wanted) bool {
		_, asked := points[w.Token.ID]
		return !asked
	})
	if err := c.keepPrices(ctx, wanted, points, now); err != nil || ctx.Err() != nil {
		return false, errors.Join(err, ctx.Err())
	}
	if failure != nil && late && (len(wanted) > 0 || c.told) {
		return false, nil // the next call asks for the rest
	}
	if failure != nil {
		c.log.WarnContext(ctx, "price source failed", "error", failure)
	}
	return true, nil // those not had are told as unavailable, and asked for again
}

func (c *call) keepPrices(ctx context.Context, wanted []Wanted, points map[string][]price.Quote,
	askedAt time.Time) error {
	quotes := make([]price.Quote, len(wanted))
	for i, w := range wanted {
		quotes[i] = last(points[w.Token.ID], w.Hour, c.stale)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keeping)
	defer cancel()
	return c.store.KeepPrices(ctx, wanted, quotes, askedAt)
}

// last is the newest of the quotes, which are in order, at or before t; none
// when that is older than stale.
func last(quotes []price.Quote, t time.Time, stale time.Duration) price.Quote {
	for _, q := range slices.Backward(quotes) {
		if q.At.After(t) {
			continue
		}
		if t.Sub(q.At) <= stale {
			return q
		}
		break
	}
	return price.Quote{}
}
