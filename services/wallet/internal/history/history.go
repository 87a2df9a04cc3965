// Package history lists what wallets held at the start of past hours, and what
// each token was worth then. Balances and prices that are missing are read on
// request and stored.
//
// It promises: balances are those of the last block at or before the hour, and
// prices the last ones at or before it, marked if they are stale then, and none if
// they are older than may be bridged; what was
// read is stored and not read again; an hour that can't be read is returned with
// the error, and is neither skipped nor zero, and a chain that can't be read doesn't
// hold up the others; one call at a time reads an owner's
// missing hours, within a bounded time, and what it has read is stored when it
// ends early; every call either stores something or returns hours, if necessary
// with prices that are unavailable, so that repeated calls reach the last page.
//
// Of an owner with up to maxDense balances on a chain every hour is read in full. With
// more, the past is read by its changes (sparse.go): all balances at points that are at
// most maxPointGap hours apart, and between two points a token's balance where a
// Transfer event of it names the wallet, and where two readings differ by another amount
// than the events between them, in halves until the hour of the change is found. What
// has no events, the native coins, is read every few hours too (coinGap), and so is
// everything, once a day, while the nodes give no events. A balance is wrong only
// if it changed without an event and returned to the same amount between two readings.
// Amounts and pages are by change for every owner.
//
// What wallets had in the markets of protocols is read in each hour, since it grows by the block. A market whose
// contract was not there yet is left out.
//
// Limits: without Redis, "one call at a time" holds within a process only. An
// hour that was read before its block was final, or without some of its tokens,
// is read again later.
package history

import (
	"context"
	"log/slog"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// Reading is what a chain's node answered about one time.
type Reading struct {
	// Block is the last one at or before the time; zero if the chain began later.
	Block block.Block
	// Amounts in base units by holder and token, nil for a token that could not
	// be read. Without Amounts the time was not read.
	Amounts [][]*uint256.Int
	// Error says why the balances of this time can't be read, fit for a caller;
	// "" if they were read, or were not tried.
	Error string
}

// BalanceReader reads balances of the past; package chain does it over JSON-RPC.
type BalanceReader interface {
	// ReadAt returns a reading of all balances for each of the times, which are
	// in order. If it fails or ctx ends, the readings made until then are
	// returned with the error: errs.FailedPrecondition (CHAIN_NOT_CONFIGURED),
	// errs.Unavailable (CHAIN_UNAVAILABLE). A Reading's Error holds for every
	// holder.
	// Without holders and tokens it only finds the blocks.
	ReadAt(ctx context.Context, chain uint64, times []time.Time, holders []common.Address,
		tokens []token.Token) ([]Reading, error)
	// Transfers returns the Transfer events of the holders in the blocks from one number
	// to another, both included. An event from one holder to another is there for each.
	Transfers(ctx context.Context, chain uint64, holders []common.Address, from, to uint64) ([]Transfer, error)
}

// Transfer is a Transfer event as a holder sees it.
type Transfer struct {
	Holder, Contract common.Address
	Amount           uint256.Int
	Out              bool // from the holder, otherwise to it
	At               time.Time
}

// Positions reads what holders had in markets of protocols; *defi.Service does.
type Positions interface {
	// Markets is how many markets of a chain are read.
	Markets(chain uint64) int
	// ReadPast returns the readings of a chain's markets at a past block, by holder in their order, without those of
	// markets that were not there yet. What can't be read is missing in them. The error is that of ctx. Readings of
	// the same holders share calls.
	ReadPast(ctx context.Context, chain uint64, at block.Block, holders []common.Address,
		calls *defi.Calls) ([][]defi.Reading, error)
}

// PriceSource has past prices; package llama is one.
type PriceSource interface {
	// History returns the prices of this many hours from a time on, by token id,
	// in order of their times. A token that the source has no price of has an
	// empty entry. If it fails or ctx ends, what was read until then is returned
	// with the error; tokens that were not read have no entry.
	History(ctx context.Context, tokens []token.Token, from time.Time, hours int) (map[string][]price.Price, error)
}

// WalletHour is an hour of a wallet.
type WalletHour struct {
	Wallet uuid.UUID
	Hour   int64 // Unix time of its start
}

// Record says how a wallet's hour was read.
type Record struct {
	WalletHour
	// AssetCount is how many tokens and markets of the chain were known when it was read.
	AssetCount int
	// Unread names the tokens that could not be read; "" for none.
	Unread string
	// MarketsUnread: something is Missing in the positions.
	MarketsUnread bool
	ReadAt        time.Time
}

// HourBalances is a wallet's hour with its balances.
type HourBalances struct {
	Record
	Chain uint64
	Block block.Block
	// Balances above zero, by token id.
	Balances map[string]uint256.Int
	// Positions are those of the markets in which it had any, or of which something is missing; nil where none were
	// asked for.
	Positions []defi.Reading
}

// TokenHour is an hour of a token.
type TokenHour struct {
	Token token.Token
	Hour  time.Time
}

// HourPrice is the price of a token at an hour; zero when the source has none.
type HourPrice struct {
	TokenHour
	price.Price
}

// Store has the history. Reads take the owner: the rows of other owners are not
// found.
type Store interface {
	// Wallets returns the owner's wallets by id.
	Wallets(ctx context.Context, owner uuid.UUID) ([]wallet.Wallet, error)
	// Records returns those of the hours in [from, until) that were read.
	Records(ctx context.Context, owner uuid.UUID, from, until time.Time) ([]Record, error)
	// SaveBalances stores hours, and replaces those that are stored. Deleted
	// wallets are skipped.
	SaveBalances(ctx context.Context, hours []HourBalances) error
	// MissingPrices returns the tokens held in [from, until) that have no final
	// price, by hour, skipping those that were requested at or after
	// requestedSince. A price is final if it was fetched long enough after its hour
	// that the source adds no later price for it.
	MissingPrices(ctx context.Context, owner uuid.UUID, from, until, requestedSince time.Time) ([]TokenHour, error)
	// SavePrices stores prices. A price the source doesn't have is stored as
	// missing, and never replaces a stored price.
	SavePrices(ctx context.Context, prices []HourPrice, fetchedAt time.Time) error
	// Past returns what is stored of the hours in [from, until), as of one moment.
	Past(ctx context.Context, owner uuid.UUID, from, until time.Time) (Past, error)
}

// Cursor is the last row of a page, or, without a Wallet, an hour that the next
// page begins with.
type Cursor struct {
	Hour   int64 // Unix time
	Wallet uuid.UUID
	Token  string
}

// Within reports whether c is of a full hour in [from, until), like every cursor
// of this range.
func (c Cursor) Within(from, until time.Time) bool {
	return c.Hour >= from.Unix() && c.Hour < until.Unix() && c.Hour%int64(time.Hour/time.Second) == 0
}

// notBefore returns c, or the start of hour if c is before it.
func (c Cursor) notBefore(hour time.Time) Cursor {
	if c.Hour < hour.Unix() {
		return Cursor{Hour: hour.Unix()}
	}
	return c
}

// Service lists history. It is safe for concurrent use.
type Service struct {
	store  Store
	tokens token.Lister
	chains BalanceReader
	// positions is nil where none are read.
	positions Positions
	prices    PriceSource
	limiter   *ownerLimiter
	policy    price.Policy
	log       *slog.Logger
	now       func() time.Time
}

// NewService returns a Service. A price that is more than Policy.Bridge older than an
// hour is not used for it, and one that is more than Policy.Stale older is marked.
func NewService(s Store, t token.Lister, c BalanceReader, p PriceSource, l SharedLocker, policy price.Policy,
	log *slog.Logger, now func() time.Time) *Service {
	return &Service{store: s, tokens: t, chains: c, prices: p, limiter: newOwnerLimiter(l, log),
		policy: policy, log: log, now: now}
}

// ReadPositions has positions read with the balances, at their blocks. Call it before List.
func (s *Service) ReadPositions(p Positions) { s.positions = p }
