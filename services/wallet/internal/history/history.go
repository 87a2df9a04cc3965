// Package history tells what wallets held at the start of past hours, and what
// it was worth then.
//
// It promises: balances are those of the last block at or before the hour, and
// prices the last ones at or before it; what was read once is kept and not read
// again; an hour that can't be had is told with the reason, and is never zero
// and never skipped; of an owner's history one call at a time reads what is
// missing, in a time that is bounded, and what it has read stays when it ends
// early; it has read something then, or it tells what there is: a price that
// did not come in time as unavailable.
//
// Limits: while Redis is away, it is one call at a time and process. An hour
// that was read within a quarter of an hour after it began is read again later,
// since a reorg could have changed it.
package history

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/sync"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

const (
	// budget is how long one call reads what is missing.
	budget = 4 * time.Second
	// window is how many hours are looked at together, and pairs how many hours
	// of wallets: about what a page has room for, since each page looks anew.
	window, pairs = 48, 2000
	// Settled is the age at which a block changes no more.
	Settled = 15 * time.Minute
	// again is when what was not to be had is asked for once more.
	again = 10 * time.Minute
)

// Reading is what a chain said of one moment.
type Reading struct {
	// Block is the last one at or before the moment; zero when the chain had
	// not begun.
	Block sync.Block
	// Amounts in base units by the holders and tokens asked for, nil where a
	// token could not be read. No Amounts: the moment was not read.
	Amounts [][]*uint256.Int
	// Failed is why there is nothing of this moment, fit for a caller; "" when
	// it was read, or not tried to the end.
	Failed string
}

// Chains reads balances of the past; package chain does it over JSON-RPC.
type Chains interface {
	// ReadAt asks for all balances at each of the times, which rise. When it
	// fails, or ctx ends, what was read until then is returned with the error:
	// errs.FailedPrecondition (CHAIN_NOT_CONFIGURED), errs.Unavailable
	// (CHAIN_UNAVAILABLE). A moment that Failed does so for every holder.
	ReadAt(ctx context.Context, chain uint64, times []time.Time, holders []common.Address,
		tokens []token.Token) ([]Reading, error)
}

// Prices are sources of past prices; package llama is one.
type Prices interface {
	// History returns the prices that it has about each of hours hours, in
	// order of their times, by token id. A token without an entry was not asked
	// for to the end; with an error, or when ctx ends, what was had until then
	// is returned.
	History(ctx context.Context, tokens []token.Token, from time.Time, hours int) (map[string][]price.Quote, error)
}

// Key names an hour of a wallet.
type Key struct {
	Wallet uuid.UUID
	Hour   int64 // Unix time of its start
}

// Kept is what is known of an hour of a wallet.
type Kept struct {
	Key
	// Tokens is how many the chain had when it was read.
	Tokens int
	// Unread are the tokens that could not be read; "" for none.
	Unread string
	ReadAt time.Time
}

// Entry is an hour of a wallet to be kept.
type Entry struct {
	Kept
	Block sync.Block
	// Balances above zero, by token id.
	Balances map[string]uint256.Int
}

// Wanted is a price that is needed.
type Wanted struct {
	Token token.Token
	Hour  time.Time
}

// Store keeps the history. Every reading takes the owner.
type Store interface {
	// All returns the owner's wallets by id.
	All(ctx context.Context, owner uuid.UUID) ([]wallet.Wallet, error)
	// Kept returns what is known of [from, until).
	Kept(ctx context.Context, owner uuid.UUID, from, until time.Time) ([]Kept, error)
	// Keep stores entries over what was known; those of wallets that are gone
	// are passed over.
	Keep(ctx context.Context, entries []Entry) error
	// Wanted returns the tokens held in [from, until) without a price that is
	// known for good, and not asked for since recently.
	Wanted(ctx context.Context, owner uuid.UUID, from, until, recently time.Time) ([]Wanted, error)
	// KeepPrices stores the prices of these hours, in the same order; one
	// without is noted as asked for.
	KeepPrices(ctx context.Context, hours []Wanted, quotes []price.Quote, askedAt time.Time) error
	// Rows returns up to limit rows before until and after the cursor, in one
	// statement. A price is Reason price.NoPrice when there was none, and
	// price.SourceUnavailable when it is not known.
	Rows(ctx context.Context, owner uuid.UUID, after Cursor, until time.Time, limit int) ([]Row, error)
}

// Row is a holding of a wallet at the start of an hour, or the wallet alone.
type Row struct {
	Hour time.Time
	holding.Row
}

// Cursor is where a page ended.
type Cursor struct {
	Hour   int64 // Unix time
	Wallet uuid.UUID
	Token  string
}

// Within reports whether c is in an hour of [from, until), as one that was given
// out is.
func (c Cursor) Within(from, until time.Time) bool {
	return c.Hour >= from.Unix() && c.Hour < until.Unix() && c.Hour%int64(time.Hour/time.Second) == 0
}

// before reports whether c comes before the first row of a wallet in an hour.
func (c Cursor) before(k Key) bool {
	return c.Hour < k.Hour || c.Hour == k.Hour && bytes.Compare(c.Wallet[:], k.Wallet[:]) < 0
}

// Service reads history. It is safe for concurrent use.
type Service struct {
	store  Store
	tokens sync.Tokens
	chains Chains
	prices Prices
	turns  *turns
	stale  time.Duration
	log    *slog.Logger
	now    func() time.Time
}

// NewService returns the rules. A price older than stale before an hour is none
// of it.
func NewService(s Store, t sync.Tokens, c Chains, p Prices, l Locks, stale time.Duration, log *slog.Logger,
	now func() time.Time) *Service {
	return &Service{store: s, tokens: t, chains: c, prices: p, turns: newTurns(l, log), stale: stale, log: log,
		now: now}
}

// Bounds of a range.
const maxYears = 5

// first is the year before which no EVM chain was.
const first = 2015

// Hours are those that begin in [start, end), from the first to before the
// last. The error is errs.Invalid.
func (s *Service) Hours(start, end time.Time) (from, until time.Time, err error) {
	switch {
	case !start.Before(end):
		err = errs.Invalid("start_time", "must be before end_time")
	case start.Year() < first:
		err = errs.Invalid("start_time", fmt.Sprintf("must be in %d or later", first))
	case end.After(s.now()):
		err = errs.Invalid("end_time", "must not be in the future")
	case start.AddDate(maxYears, 0, 0).Before(end):
		err = errs.Invalid("end_time", fmt.Sprintf("must be at most %d years after start_time", maxYears))
	}
	return ceil(start), ceil(end), err
}

// ceil is the first full hour at or after t.
func ceil(t time.Time) time.Time {
	t = t.UTC()
	if full := t.Truncate(time.Hour); !full.Equal(t) {
		return full.Add(time.Hour)
	}
	return t
}

// Of returns up to limit rows of what the owner's wallets held in the hours of
// [from, until), and the cursor of the next page, nil on the last. It reads
// what is missing for as long as there is time; the page ends before what is
// not known then. The error is Chains.ReadAt's errs.Unavailable, or errs.Exhausted
// (HISTORY_READ_UNDER_WAY), when there is nothing before what is missing.
func (s *Service) Of(ctx context.Context, owner uuid.UUID, from, until time.Time, after Cursor, limit int) ([]Row,
	*Cursor, error) {
	c, err := s.call(ctx, owner)
	if err != nil {
		return nil, nil, err
	}
	defer c.end()
	if len(c.wallets) == 0 {
		return nil, nil, nil
	}
	if after.Hour < from.Unix() {
		after = Cursor{Hour: from.Unix()}
	}
	begun := time.Unix(after.Hour, 0).UTC()
	hour := begun
	span := time.Duration(max(1, min(window, pairs/len(c.wallets)))) * time.Hour
	var rows []Row
	for hour.Before(until) && len(rows) <= limit {
		end := hour.Add(span)
		begins := after.Wallet == uuid.Nil || !hour.Equal(begun)
		if !begins { // the rest of an hour may fill the page
			end = hour.Add(time.Hour)
		}
		if end.After(until) {
			end = until
		}
		reached, failed, err := c.cover(ctx, hour, end, !begins)
		if err != nil && hour.Equal(begun) {
			return nil, nil, err
		}
		if err != nil {
			break // the next page meets it again, at its start
		}
		some, err := c.rows(ctx, after, hour, reached, failed, limit+1-len(rows))
		if err != nil {
			return nil, nil, err
		}
		rows = append(rows, some...)
		c.told = c.told || reached.After(hour)
		hour = reached
		if reached.Before(end) {
			break
		}
	}
	switch {
	case len(rows) > limit:
		return rows[:limit], cursorOf(rows[limit-1]), nil
	case hour.Before(until):
		if hour.Equal(begun) {
			return rows, &after, nil
		}
		return rows, &Cursor{Hour: hour.Unix()}, nil
	}
	return rows, nil, nil
}

func cursorOf(r Row) *Cursor {
	c := &Cursor{Hour: r.Hour.Unix(), Wallet: r.Wallet.ID}
	if r.Balance != nil {
		c.Token = r.Balance.Token.ID
	}
	return c
}
