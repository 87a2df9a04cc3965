package sync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	gosync "sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

const (
	// pageSize is how many wallets a round reads, at most, at one block.
	pageSize = 200
	// most is how many balances are read at one block.
	most = 5000
	// calls is how many calls to a node they may take.
	calls = 25
)

// Due asks for the wallets of a chain that a round is about.
type Due struct {
	Chain uint64
	// Shard of Shards, by the wallet's id.
	Shard, Shards int
	// Before it they were synced last. One that failed is due at its retry
	// time instead.
	Before time.Time
	Now    time.Time
	After  Place
	Limit  int
}

// Place of a wallet among those of its chain.
type Place struct {
	Turn time.Time
	ID   uuid.UUID
}

// Turn is what wallets that are due are ordered by, oldest first: the zero time
// of one that was never tried, the last sync's, or the retry time. Each wallet
// that was tried goes to the end, so that a round that is cut off starves none.
func Turn(s wallet.Sync) time.Time {
	at := s.Retry
	switch s.State {
	case wallet.Pending:
		at = nil
	case wallet.Synced:
		at = s.At
	}
	if at == nil {
		return time.Time{}
	}
	return *at
}

// Outcome is how the sync of one wallet stands.
type Outcome struct {
	Wallet   wallet.Wallet
	Sync     wallet.Sync
	Balances []wallet.Balance
}

// Everybody's wallets.
type Everybody interface {
	// Due returns wallets of all owners, by their turn and id.
	Due(ctx context.Context, d Due) ([]wallet.Wallet, error)
	// Stranded returns wallets on none of the chains that were not failed yet
	// and are not being synced now.
	Stranded(ctx context.Context, chains []uint64, now time.Time, limit int) ([]wallet.Wallet, error)
	// SaveAll stores outcomes, balances forward by block only, in one
	// transaction and a number of statements that doesn't grow with theirs.
	// Wallets that are gone are passed over.
	SaveAll(ctx context.Context, outcomes []Outcome) error
	// Oldest is when the wallet on one of the chains was synced that waits
	// longest, or made if it never was; zero without wallets.
	Oldest(ctx context.Context, chains []uint64) (time.Time, error)
}

// Heads reads the balances of many accounts; package chain does it.
type Heads interface {
	// ReadAll is Chains.Read for several holders, all at one block; amounts
	// are by holder and token.
	ReadAll(ctx context.Context, chain uint64, holders []common.Address, tokens []token.Token) (Block,
		[][]*uint256.Int, error)
	// Chains lists the chains that can be read.
	Chains() []uint64
}

// Round syncs everybody's wallets. It is safe for concurrent use.
//
// It promises: those that wait longest come first; a chain never waits for
// another; the wallets of one batch of a chain are read at one block and stored
// together; a chain that fails fails its own wallets, which have their retry
// time, and is not asked again in the round; what was synced stays when a round
// fails; a wallet whose reading was cut off by the round's end is as it was.
type Round struct {
	everybody Everybody
	tokens    Tokens
	heads     Heads
	every     time.Duration
	most      int // balances in a batch
	log       *slog.Logger
	now       func() time.Time
	metrics   metrics
}

// NewRound returns a round over wallets that were not synced for every, from
// nodes that are asked for perCall balances at once.
func NewRound(e Everybody, t Tokens, h Heads, every time.Duration, perCall int, log *slog.Logger,
	now func() time.Time) *Round {
	return &Round{everybody: e, tokens: t, heads: h, every: every, most: min(most, calls*perCall), log: log, now: now,
		metrics: newMetrics()}
}

// tally is what a round has come to.
type tally struct {
	mu             gosync.Mutex
	synced, failed int
}

// Run syncs those of one shard that are due, all chains side by side. Its error
// names the chains that failed, when all others are done.
func (r *Round) Run(ctx context.Context, shard, shards int) error {
	begun := r.now()
	t := &tally{}
	due := Due{Shard: shard, Shards: shards, Before: begun.Add(-r.every), Now: begun}
	chains := r.heads.Chains()
	failures := make([]error, len(chains)+2)
	var wait gosync.WaitGroup
	for i, chain := range chains {
		due := due
		due.Chain = chain
		wait.Go(func() { failures[i] = r.chain(ctx, due, t) })
	}
	if shard == 0 {
		failures[len(chains)] = r.strand(ctx, chains, t)
	}
	wait.Wait()
	r.log.InfoContext(ctx, "wallets synced", "shard", shard, "synced", t.synced, "failed", t.failed)
	failures[len(chains)+1] = r.oldest(ctx, chains)
	return errors.Join(failures...)
}

// oldest records how long balances wait, of a round that was cut off too.
func (r *Round) oldest(ctx context.Context, chains []uint64) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishing)
	defer cancel()
	oldest, err := r.everybody.Oldest(limited, chains)
	if err == nil && !oldest.IsZero() {
		r.metrics.oldest.Record(ctx, r.now().Sub(oldest).Seconds())
	}
	return err
}

// strand fails the wallets on chains without a node, once. It is no failure of
// the round: anybody can add one.
func (r *Round) strand(ctx context.Context, chains []uint64, t *tally) error {
	for {
		page, err := r.everybody.Stranded(ctx, chains, r.now(), pageSize)
		if err != nil {
			return err
		}
		outcomes := make([]Outcome, len(page))
		for i, w := range page {
			outcomes[i] = r.failed(w, errs.FailedPrecondition("CHAIN_NOT_CONFIGURED",
				fmt.Sprintf("no node is configured for chain %s", caip.ChainID(w.Account.Chain))))
		}
		if err := r.save(ctx, outcomes, t); err != nil || len(page) < pageSize {
			return err
		}
	}
}

// chain syncs wallets of one chain, in batches. Once it has failed it is not
// asked for the others that are due: they have failed with it.
func (r *Round) chain(ctx context.Context, due Due, t *tally) error {
	tokens, err := ListTokens(ctx, r.tokens, due.Chain)
	if err != nil {
		return err
	}
	due.Limit = min(pageSize, max(1, r.most/max(1, len(tokens))))
	var away error
	tried := map[uuid.UUID]bool{} // of a chain that stands still all are due again
	for {
		page, err := r.everybody.Due(ctx, due)
		if err != nil {
			return errors.Join(away, err)
		}
		full := len(page) == due.Limit
		if full {
			last := page[len(page)-1]
			due.After = Place{Turn: Turn(last.Sync), ID: last.ID}
		}
		page = slices.DeleteFunc(page, func(w wallet.Wallet) bool { return tried[w.ID] })
		for _, w := range page {
			tried[w.ID] = true
		}
		if away == nil {
			away, err = r.batch(ctx, due.Chain, page, tokens, t)
		} else {
			err = r.save(ctx, r.allFailed(page, away), t)
		}
		if err != nil {
			return errors.Join(away, err)
		}
		if away != nil {
			due.Limit = pageSize
		}
		if !full {
			return away
		}
	}
}

// batch syncs wallets at one block. away is what the chain failed in, which is
// their outcome; err is one of storage, or the round's end.
func (r *Round) batch(ctx context.Context, chain uint64, wallets []wallet.Wallet, tokens []token.Token,
	t *tally) (away, err error) {
	if len(wallets) == 0 {
		return nil, nil
	}
	begun := make([]Outcome, len(wallets))
	holders := make([]common.Address, len(wallets))
	for i, w := range wallets {
		begun[i] = Outcome{Wallet: w, Sync: w.Sync}
		begun[i].Sync.State, begun[i].Sync.Retry = wallet.Syncing, lease(ctx, r.now())
		holders[i] = w.Account.Address
	}
	if err := r.everybody.SaveAll(ctx, begun); err != nil {
		return nil, err
	}
	block, amounts, err := r.heads.ReadAll(ctx, chain, holders, tokens)
	if err != nil && ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), r.restore(ctx, wallets))
	}
	if err == nil && len(amounts) != len(wallets) {
		err = fmt.Errorf("read %d accounts of %d", len(amounts), len(wallets))
	}
	if err != nil {
		return fmt.Errorf("chain %s: %w", caip.ChainID(chain), err), r.save(ctx, r.allFailed(wallets, err), t)
	}
	out := make([]Outcome, len(wallets))
	for i, w := range wallets {
		out[i] = r.outcome(w, Reading{Block: block, Amounts: amounts[i]}, tokens)
	}
	return nil, r.save(ctx, out, t)
}

// restore puts wallets back whose reading the round's end cut off: the chain
// has not failed them.
func (r *Round) restore(ctx context.Context, wallets []wallet.Wallet) error {
	before := make([]Outcome, len(wallets))
	for i, w := range wallets {
		before[i] = Outcome{Wallet: w, Sync: w.Sync}
	}
	return r.store(ctx, before)
}

// outcome judges a reading as Sync does.
func (r *Round) outcome(w wallet.Wallet, reading Reading, tokens []token.Token) Outcome {
	balances, unread, err := judge(w.Sync, reading, tokens)
	if err != nil {
		return r.failed(w, err)
	}
	if len(balances) == 0 && len(unread) > 0 {
		return r.failed(w, errs.Unavailable("CHAIN_UNAVAILABLE", "no balance could be read"))
	}
	return Outcome{Wallet: w, Balances: balances, Sync: success(reading.Block, unread)}
}

// success is the state after a sync that could not read these tokens.
func success(b Block, unread []string) wallet.Sync {
	done := wallet.Sync{State: wallet.Synced, Block: b.Number, At: &b.Time}
	if len(unread) > 0 {
		done.Error = "not readable: " + strings.Join(unread, ", ")
	}
	return done
}

func (r *Round) failed(w wallet.Wallet, cause error) Outcome {
	return Outcome{Wallet: w, Sync: failure(w.Sync, cause, r.now())}
}

func (r *Round) allFailed(wallets []wallet.Wallet, cause error) []Outcome {
	out := make([]Outcome, len(wallets))
	for i, w := range wallets {
		out[i] = r.failed(w, cause)
	}
	return out
}

// store stores outcomes even when the round's time is up.
func (r *Round) store(ctx context.Context, outcomes []Outcome) error {
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*finishing)
	defer cancel()
	return r.everybody.SaveAll(limited, outcomes)
}

// save stores outcomes and counts them.
func (r *Round) save(ctx context.Context, outcomes []Outcome, t *tally) error {
	if len(outcomes) == 0 {
		return nil
	}
	if err := r.store(ctx, outcomes); err != nil {
		return err
	}
	failed := 0
	for _, o := range outcomes {
		if o.Sync.State == wallet.Failed {
			failed++
		}
	}
	r.metrics.synced.Add(ctx, int64(len(outcomes)-failed))
	r.metrics.failed.Add(ctx, int64(failed))
	t.mu.Lock()
	defer t.mu.Unlock()
	t.synced, t.failed = t.synced+len(outcomes)-failed, t.failed+failed
	return nil
}
