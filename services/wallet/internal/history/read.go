package history

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

const (
	// most is how many balances of one hour are read at once, so that an hour
	// is done well within the budget.
	most = 2000
	// together is how many hours are read at once.
	together = 8
	// keeping bounds the write of what was read, which is made even when the
	// caller has gone.
	keeping = 3 * time.Second
)

// read reads and keeps what is missing of [from, until), and notes in had what
// is known then, and in failed what can't be.
func (c *call) read(ctx context.Context, from, until time.Time, had map[Key]bool) (failed map[Key]string, err error) {
	failed = map[Key]string{}
	byChain := map[uint64][]wallet.Wallet{}
	for _, w := range c.wallets {
		byChain[w.Account.Chain] = append(byChain[w.Account.Chain], w)
	}
	var failures []error
	for _, chain := range slices.Sorted(maps.Keys(byChain)) {
		tokens := c.tokens[chain]
		for some := range slices.Chunk(byChain[chain], max(1, most/max(1, len(tokens)))) {
			if err := c.readAll(ctx, chain, some, missing(some, from, until, had), had, failed); err != nil {
				failures = append(failures, err)
				break
			}
		}
	}
	if len(failures) > 0 {
		return failed, failures[0]
	}
	return failed, nil
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

// readAll reads the hours a few at a time: of those that can't be had nothing is
// kept, so that a call must be done with some of them, or none would ever be.
func (c *call) readAll(ctx context.Context, chain uint64, wallets []wallet.Wallet, times []time.Time, had map[Key]bool, failed map[Key]string) error {
	for some := range slices.Chunk(times, together) {
		if c.reading.Err() != nil {
			return nil
		}
		if err := c.readSome(ctx, chain, wallets, some, had, failed); err != nil {
			return err
		}
	}
	return nil
}

func (c *call) readSome(ctx context.Context, chain uint64, wallets []wallet.Wallet, times []time.Time, had map[Key]bool, failed map[Key]string) error {
	holders := make([]common.Address, len(wallets))
	for i, w := range wallets {
		holders[i] = w.Account.Address
	}
	tokens := c.tokens[chain]
	readings, failure := c.chains.ReadAt(c.reading, chain, times, holders, tokens)
	if errors.Is(failure, context.DeadlineExceeded) || errors.Is(failure, context.Canceled) {
		failure = nil // what was read until then is kept
	}
	now := c.now()
	var entries []Entry
	for i, r := range readings {
		for j, w := range wallets {
			k := Key{w.ID, times[i].Unix()}
			switch {
			case had[k]:
			case len(r.Amounts) == len(wallets) && len(r.Amounts[j]) == len(tokens):
				e := Entry{Kept: Kept{Key: k, Tokens: len(tokens), ReadAt: now}, Block: r.Block}
				e.Balances, e.Unread = balances(tokens, r.Amounts[j])
				entries = append(entries, e)
			case r.Failed != "":
				failed[k] = r.Failed
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keeping)
	defer cancel()
	if err := c.store.Keep(ctx, entries); err != nil {
		return err
	}
	for _, e := range entries {
		had[e.Key] = true
	}
	for k := range failed {
		had[k] = true
	}
	return failure
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
// the time for it was up.
func (c *call) price(ctx context.Context, from, until time.Time) (bool, error) {
	now := c.now()
	wanted, err := c.store.Wanted(ctx, c.owner, from, until, now.Add(-again))
	if err != nil || len(wanted) == 0 {
		return err == nil, err
	}
	if c.reading.Err() != nil {
		return false, nil
	}
	if err := c.turn(); err != nil {
		return false, err
	}
	tokens := map[string]token.Token{}
	begin, end := wanted[0].Hour, wanted[0].Hour
	for _, w := range wanted {
		tokens[w.Token.ID] = w.Token
		if w.Hour.Before(begin) {
			begin = w.Hour
		}
		if w.Hour.After(end) {
			end = w.Hour
		}
	}
	begin = begin.Add(-c.stale).Truncate(time.Hour)
	points, err := c.prices.History(c.reading, slices.Collect(maps.Values(tokens)), begin, int(end.Sub(begin)/time.Hour)+1)
	if err != nil {
		if c.reading.Err() != nil {
			return false, ctx.Err()
		}
		c.log.WarnContext(ctx, "price source failed", "error", err)
		return true, nil // they are told as unavailable, and asked for again
	}
	quotes := make([]price.Quote, len(wanted))
	for i, w := range wanted {
		quotes[i] = last(points[w.Token.ID], w.Hour, c.stale)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keeping)
	defer cancel()
	return true, c.store.KeepPrices(ctx, wanted, quotes, now)
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
