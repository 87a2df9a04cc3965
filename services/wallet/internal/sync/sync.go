// Package sync reads wallets' balances from their chains.
//
// It promises: all balances of one sync are of one block; a token that could
// not be read keeps the balance it had; a balance never goes back to an older
// block; a zero is stored as zero; a sync whose process died counts as failed
// once it should have ended. A node whose newest block lies in the future is
// not believed, since such a block would freeze the row.
//
// Limits: with one node only, what it says is taken as true.
package sync

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// retryAfter is when a failed sync is worth trying again.
const retryAfter = 30 * time.Second

// finishing bounds the write of a sync's outcome, which is made even when the
// caller has gone.
const finishing = 2 * time.Second

// Block that balances were read at.
type Block struct {
	Number uint64
	Hash   [32]byte
	Time   time.Time
}

// Reading is what a chain said of one account.
type Reading struct {
	Block Block
	// Amounts in base units, by the index of the token asked for; nil where
	// the token could not be read.
	Amounts []*uint256.Int
}

// Chains reads balances; package chain does it over JSON-RPC.
type Chains interface {
	// Read asks for the balances of holder, all at the newest block. The
	// error is errs.FailedPrecondition (CHAIN_NOT_CONFIGURED) without a node
	// for the chain, errs.Unavailable (CHAIN_UNAVAILABLE) when none answers.
	Read(ctx context.Context, chain uint64, holder common.Address, tokens []token.Token) (Reading, error)
}

// Tokens lists the tokens of a chain.
type Tokens interface {
	List(ctx context.Context, chain uint64, after string, limit int) ([]token.Token, error)
}

// Store is where balances go.
type Store interface {
	ByID(ctx context.Context, owner, id uuid.UUID) (wallet.Wallet, error)
	// SaveSync stores how a sync stands, without touching the wallet's
	// version.
	SaveSync(ctx context.Context, owner, id uuid.UUID, s wallet.Sync) error
	// SaveBalances stores the balances, forward by block only, and the sync's
	// outcome, in one transaction.
	SaveBalances(ctx context.Context, owner, id uuid.UUID, b []wallet.Balance, s wallet.Sync) error
}

// Service syncs wallets.
type Service struct {
	store  Store
	tokens Tokens
	chains Chains
	now    func() time.Time
}

// NewService returns the rules.
func NewService(s Store, t Tokens, c Chains, now func() time.Time) *Service {
	return &Service{store: s, tokens: t, chains: c, now: now}
}

// Sync reads and stores the balances of the owner's wallet now, and returns
// the wallet and how many tokens were read.
func (s *Service) Sync(ctx context.Context, owner, id uuid.UUID) (wallet.Wallet, int, error) {
	w, err := s.store.ByID(ctx, owner, id)
	if err != nil {
		return wallet.Wallet{}, 0, err
	}
	tokens, err := ListTokens(ctx, s.tokens, w.Account.Chain)
	if err != nil {
		return wallet.Wallet{}, 0, err
	}
	w.Sync.State, w.Sync.Retry = wallet.Syncing, lease(ctx, s.now())
	if err := s.store.SaveSync(ctx, owner, id, w.Sync); err != nil {
		return wallet.Wallet{}, 0, err
	}
	reading, err := s.chains.Read(ctx, w.Account.Chain, w.Account.Address, tokens)
	if err != nil {
		return wallet.Wallet{}, 0, s.failed(ctx, w, err)
	}
	balances, unread, err := judge(w.Sync, reading, tokens)
	if err != nil {
		return wallet.Wallet{}, 0, s.failed(ctx, w, err)
	}
	done := success(reading.Block, unread)
	if err := s.store.SaveBalances(ctx, owner, id, balances, done); err != nil {
		return wallet.Wallet{}, 0, s.failed(ctx, w, err)
	}
	w.Sync = done
	return w, len(balances), nil
}

// longest is how long a sync may take whose caller sets no time.
const longest = time.Minute

// lease is when a sync of this call has certainly ended, its outcome's write
// too: one that is still under way then has died.
func lease(ctx context.Context, now time.Time) *time.Time {
	left := longest
	if end, ok := ctx.Deadline(); ok {
		left = time.Until(end)
	}
	until := now.Add(left + 3*finishing).UTC()
	return &until
}

// Bounds of how fast a chain grows: far above any that is known.
const (
	blocksASecond = 200
	blocksAhead   = 10_000
)

// follows refuses a block that can't come after the last one read: one
// before it, or one that no chain could have reached since. A made-up block
// that was believed would keep every true one out. (A wallet whose first sync
// met one can be deleted and added again.)
func follows(last wallet.Sync, b Block) error {
	if last.At == nil {
		return nil
	}
	if b.Number < last.Block {
		return errs.Unavailable("CHAIN_BEHIND",
			fmt.Sprintf("the node is at block %d, behind the last sync's %d", b.Number, last.Block)).After(retryAfter)
	}
	since := max(0, b.Time.Sub(*last.At))
	if b.Number-last.Block > blocksAhead+blocksASecond*uint64(since/time.Second) {
		return errs.Unavailable("CHAIN_IMPLAUSIBLE",
			fmt.Sprintf("the node says block %d, which the chain can't have reached since block %d", b.Number,
				last.Block)).After(retryAfter)
	}
	return nil
}

// failed records why and returns the reason for the caller.
func (s *Service) failed(ctx context.Context, w wallet.Wallet, cause error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishing)
	defer cancel()
	w.Sync = failure(w.Sync, cause, s.now())
	if err := s.store.SaveSync(ctx, w.Owner, w.ID, w.Sync); err != nil {
		return fmt.Errorf("%w (and its outcome could not be stored: %w)", cause, err)
	}
	return cause
}

// failure is the state after a sync that failed: the block and time of the last
// success stay.
func failure(last wallet.Sync, cause error, now time.Time) wallet.Sync {
	retry := now.Add(retryAfter).UTC()
	text := "internal error"
	if e := errs.As(cause); e != nil {
		text = e.Message
	} else if errors.Is(cause, context.DeadlineExceeded) || errors.Is(cause, context.Canceled) {
		text = "the call ended before the sync did"
	}
	last.State, last.Error, last.Retry = wallet.Failed, text, &retry
	return last
}

// ListTokens lists all tokens of a chain.
func ListTokens(ctx context.Context, tokens Tokens, chain uint64) ([]token.Token, error) {
	const page = 1000
	var all []token.Token
	after := ""
	for {
		some, err := tokens.List(ctx, chain, after, page)
		if err != nil {
			return nil, err
		}
		all = append(all, some...)
		if len(some) < page {
			return all, nil
		}
		after = some[len(some)-1].ID
	}
}

// judge takes a reading apart, unless it can't follow the last sync or isn't of
// these tokens.
func judge(last wallet.Sync, r Reading, tokens []token.Token) (read []wallet.Balance, unread []string, err error) {
	if err := follows(last, r.Block); err != nil {
		return nil, nil, err
	}
	if len(r.Amounts) != len(tokens) {
		return nil, nil, fmt.Errorf("read %d balances of %d", len(r.Amounts), len(tokens))
	}
	read, unread = pair(tokens, r)
	return read, unread, nil
}

func pair(tokens []token.Token, r Reading) (read []wallet.Balance, unread []string) {
	for i, t := range tokens {
		if r.Amounts[i] == nil {
			unread = append(unread, t.Symbol)
			continue
		}
		read = append(read, wallet.Balance{
			Token: t, Amount: *r.Amounts[i],
			Block: r.Block.Number, BlockHash: r.Block.Hash, BlockTime: r.Block.Time,
		})
	}
	return read, unread
}
