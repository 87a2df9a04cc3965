package sync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
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
	// pageSize is how many wallets a round looks at at once.
	pageSize = 200
	// most is how many balances are read at one block.
	most = 5000
	// batchLease is how long the wallets of one page are taken to be syncing.
	batchLease = 2 * time.Minute
)

// Due asks for the wallets that a round is about.
type Due struct {
	// Shard of Shards, by the wallet's id.
	Shard, Shards int
	// Before it they were synced last. One that failed is due at its retry
	// time instead.
	Before time.Time
	Now    time.Time
	After  uuid.UUID
	Limit  int
}

// Outcome is how the sync of one wallet stands.
type Outcome struct {
	Wallet   wallet.Wallet
	Sync     wallet.Sync
	Balances []wallet.Balance
}

// Everybody's wallets.
type Everybody interface {
	// Due returns wallets of all owners, by id.
	Due(ctx context.Context, d Due) ([]wallet.Wallet, error)
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
	ReadAll(ctx context.Context, chain uint64, holders []common.Address, tokens []token.Token) (Block, [][]*uint256.Int, error)
	// Chains lists the chains that can be read.
	Chains() []uint64
}

// Round syncs everybody's wallets. It is safe for concurrent use.
//
// It promises: the wallets of one batch of a chain are read at one block and
// stored together; a chain that fails fails its own wallets, which have their
// retry time, and is not asked again in the round; what was synced stays when a
// round fails.
type Round struct {
	everybody Everybody
	tokens    Tokens
	heads     Heads
	every     time.Duration
	log       *slog.Logger
	now       func() time.Time
	metrics   metrics
}

// NewRound returns a round over wallets that were not synced for every.
func NewRound(e Everybody, t Tokens, h Heads, every time.Duration, log *slog.Logger, now func() time.Time) *Round {
	return &Round{everybody: e, tokens: t, heads: h, every: every, log: log, now: now, metrics: newMetrics()}
}

// tally is what a round has come to.
type tally struct {
	mu             gosync.Mutex
	synced, failed int
	away           map[uint64]error // chains that failed
}

// Run syncs those of one shard that are due. Its error names the chains that
// failed, when all others are done.
func (r *Round) Run(ctx context.Context, shard, shards int) error {
	begun := r.now()
	t := &tally{away: map[uint64]error{}}
	due := Due{Shard: shard, Shards: shards, Before: begun.Add(-r.every), Now: begun, Limit: pageSize}
	for {
		page, err := r.everybody.Due(ctx, due)
		if err != nil {
			return err
		}
		if err := r.page(ctx, page, t); err != nil {
			return err
		}
		if len(page) < pageSize {
			break
		}
		due.After = page[len(page)-1].ID
	}
	oldest, err := r.everybody.Oldest(ctx, r.heads.Chains())
	if err != nil {
		return err
	}
	if !oldest.IsZero() {
		r.metrics.oldest.Record(ctx, r.now().Sub(oldest).Seconds())
	}
	r.log.InfoContext(ctx, "wallets synced", "shard", shard, "synced", t.synced, "failed", t.failed)
	return t.failure()
}

// failure tells which chains were away. One without a node is no failure of the
// round: anybody can add a wallet on it.
func (t *tally) failure() error {
	var failures []error
	for _, chain := range slices.Sorted(maps.Keys(t.away)) {
		if err := t.away[chain]; !errs.Is(err, errs.KindFailedPrecondition) {
			failures = append(failures, fmt.Errorf("chain %s: %w", caip.ChainID(chain), err))
		}
	}
	return errors.Join(failures...)
}

// page syncs wallets, their chains side by side.
func (r *Round) page(ctx context.Context, page []wallet.Wallet, t *tally) error {
	if len(page) == 0 {
		return nil
	}
	lease := r.now().Add(batchLease).UTC()
	begun := make([]Outcome, len(page))
	byChain := map[uint64][]wallet.Wallet{}
	for i, w := range page {
		begun[i] = Outcome{Wallet: w, Sync: w.Sync}
		begun[i].Sync.State, begun[i].Sync.Retry = wallet.Syncing, &lease
		byChain[w.Account.Chain] = append(byChain[w.Account.Chain], w)
	}
	if err := r.everybody.SaveAll(ctx, begun); err != nil {
		return err
	}
	var wait gosync.WaitGroup
	failures := make(chan error, len(byChain))
	known := r.heads.Chains()
	var strangers []Outcome
	for chain, wallets := range byChain {
		if !slices.Contains(known, chain) {
			cause := errs.FailedPrecondition("CHAIN_NOT_CONFIGURED", fmt.Sprintf("no node is configured for chain %s", caip.ChainID(chain)))
			for _, w := range wallets {
				strangers = append(strangers, r.failed(w, cause))
			}
			continue
		}
		wait.Go(func() { failures <- r.chain(ctx, chain, wallets, t) })
	}
	wait.Wait()
	close(failures)
	err := r.save(ctx, strangers, t)
	for failure := range failures {
		err = errors.Join(err, failure)
	}
	return err
}

// chain syncs wallets of one chain, in batches. Its error is one of storage:
// what the chain fails in is its wallets' outcome.
func (r *Round) chain(ctx context.Context, chain uint64, wallets []wallet.Wallet, t *tally) error {
	tokens, err := listTokens(ctx, r.tokens, chain)
	if err != nil {
		return err
	}
	for some := range slices.Chunk(wallets, max(1, most/max(1, len(tokens)))) {
		if err := r.save(ctx, r.batch(ctx, chain, some, tokens, t), t); err != nil {
			return err
		}
	}
	return nil
}

// batch reads the balances of wallets at one block.
func (r *Round) batch(ctx context.Context, chain uint64, wallets []wallet.Wallet, tokens []token.Token, t *tally) []Outcome {
	cause := t.cause(chain)
	var block Block
	var amounts [][]*uint256.Int
	if cause == nil {
		holders := make([]common.Address, len(wallets))
		for i, w := range wallets {
			holders[i] = w.Account.Address
		}
		block, amounts, cause = r.heads.ReadAll(ctx, chain, holders, tokens)
		if cause == nil && len(amounts) != len(wallets) {
			cause = fmt.Errorf("read %d accounts of %d", len(amounts), len(wallets))
		}
		t.note(chain, cause)
	}
	out := make([]Outcome, len(wallets))
	for i, w := range wallets {
		if cause != nil {
			out[i] = r.failed(w, cause)
		} else {
			out[i] = r.outcome(w, Reading{Block: block, Amounts: amounts[i]}, tokens)
		}
	}
	return out
}

func (t *tally) cause(chain uint64) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.away[chain]
}

func (t *tally) note(chain uint64, cause error) {
	if cause == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.away[chain] = cause
}

// outcome judges a reading as Sync does.
func (r *Round) outcome(w wallet.Wallet, reading Reading, tokens []token.Token) Outcome {
	if err := follows(w.Sync, reading.Block); err != nil {
		return r.failed(w, err)
	}
	if len(reading.Amounts) != len(tokens) {
		return r.failed(w, fmt.Errorf("read %d balances of %d", len(reading.Amounts), len(tokens)))
	}
	balances, unread := pair(tokens, reading)
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

// save stores outcomes and counts them. It is made even when the round's time is
// up.
func (r *Round) save(ctx context.Context, outcomes []Outcome, t *tally) error {
	if len(outcomes) == 0 {
		return nil
	}
	limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*finishing)
	defer cancel()
	if err := r.everybody.SaveAll(limited, outcomes); err != nil {
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
