package balancesync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// A batch is wallets of one chain that are read at one block.
const (
	maxWalletsPerBatch  = 200
	maxBalancesPerBatch = 5000
	maxCallsPerBatch    = 25 // to a node
)

// Outcome is the result of one wallet's sync.
type Outcome struct {
	Wallet   wallet.Wallet
	Sync     wallet.Sync
	Balances []wallet.Balance
	// Positions are those of the markets that were read with the balances.
	Positions []defi.Reading
	// Unchanged: it is the state before a sync that was cut off. Its block and time are stored already, or were
	// forgotten.
	Unchanged bool
}

// QueueStore has the wallets of all owners.
type QueueStore interface {
	// Due returns wallets of all owners, by queue time and id.
	Due(ctx context.Context, q DueQuery) ([]wallet.Wallet, error)
	// WithoutNode returns wallets on none of these chains that have not failed
	// yet and are not being synced now.
	WithoutNode(ctx context.Context, chains []uint64, now time.Time, limit int) ([]wallet.Wallet, error)
	// SaveOutcomes stores the outcomes, each balance unless a newer block's
	// is stored, and the positions unless a newer sync is stored, in one transaction and a
	// number of statements that doesn't grow with theirs. Deleted wallets are skipped.
	SaveOutcomes(ctx context.Context, outcomes []Outcome) error
	// OldestSync is the oldest time of a last sync of the wallets on these
	// chains, with the creation time for one that was never synced; zero without
	// wallets.
	OldestSync(ctx context.Context, chains []uint64) (time.Time, error)
	DiscoveredLister
}

// Request is a holder whose balances of tokens are read.
type Request struct {
	Holder common.Address
	Tokens []token.Token
}

// BatchReader reads the balances of many accounts; package chain does it.
type BatchReader interface {
	// ReadBatch is BalanceReader.Read for several holders, all at one block, in their
	// order.
	ReadBatch(ctx context.Context, chain, atLeast uint64, requests []Request) ([]Reading, error)
	// Chains lists the chains that have a node.
	Chains() []uint64
}

// Round syncs the wallets of all owners that are due. It is safe for concurrent
// use.
//
// It promises: the wallets that wait longest are synced before others of their
// chain; no chain waits for another; the wallets of a batch are read at one block and
// stored in one transaction; when a chain fails, all its due wallets fail, get a
// retry time, and the chain is not read any more in this round; what was synced
// stays when a round fails; a wallet whose reading was cut off by the end of the
// round keeps the state that it had.
type Round struct {
	store       QueueStore
	tokens      token.Lister
	contracts   Contracts
	reader      BatchReader
	syncEvery   time.Duration
	maxBalances int // in a batch
	log         *slog.Logger
	now         func() time.Time
	metrics     metrics
	resets      Resets
	positions   Positions
	progress    func(synced, failed int)
}

// NewRound returns a round over wallets whose last sync is at least syncEvery
// ago, read from nodes that return up to balancesPerCall in one call.
func NewRound(s QueueStore, t token.Lister, c Contracts, r BatchReader, syncEvery time.Duration, balancesPerCall int,
	log *slog.Logger, now func() time.Time) *Round {
	return &Round{store: s, tokens: t, contracts: c, reader: r, syncEvery: syncEvery,
		maxBalances: min(maxBalancesPerBatch, maxCallsPerBatch*balancesPerCall), log: log, now: now,
		metrics: newMetrics(), progress: func(int, int) {}}
}

// OnProgress has f called with how many wallets a round has synced and failed so far, one call at a time, after each
// batch. Call it before Run.
func (r *Round) OnProgress(f func(synced, failed int)) { r.progress = f }

// WatchResets has chains that were reset recognised, before their wallets are read. Call it before Run.
func (r *Round) WatchResets(w Resets) { r.resets = w }

// counts are the wallets that a round has synced and failed so far.
type counts struct {
	mu             sync.Mutex
	synced, failed int
	// wanted is a block that the balances should be of, or of a later one; behind when they are not.
	wanted uint64
	behind bool
}

// Run syncs the due wallets of one shard, all chains concurrently. Its error
// names the chains that failed; the others are done when it returns.
func (r *Round) Run(ctx context.Context, shard, shards int) error {
	started := r.now()
	n := &counts{}
	chains := r.reader.Chains()
	failures := make([]error, len(chains)+2)
	var chainsDone sync.WaitGroup
	for i, chain := range chains {
		q := DueQuery{Chain: chain, Shard: shard, Shards: shards, SyncedBefore: started.Add(-r.syncEvery),
			Now: started}
		chainsDone.Go(func() { failures[i] = r.syncChain(ctx, q, n) })
	}
	if shard == 0 {
		failures[len(chains)] = r.failWithoutNode(ctx, chains, n)
	}
	chainsDone.Wait()
	r.log.InfoContext(ctx, "wallets synced", "shard", shard, "synced", n.synced, "failed", n.failed)
	failures[len(chains)+1] = r.recordOldest(ctx, chains)
	return errors.Join(failures...)
}

// recordOldest records the age of the oldest balances, also of a round that was
// cut off.
func (r *Round) recordOldest(ctx context.Context, chains []uint64) error {
	finishing, cancel := deadline.Grace(ctx, outcomeTimeout)
	defer cancel()
	oldest, err := r.store.OldestSync(finishing, chains)
	if err == nil && !oldest.IsZero() {
		r.metrics.oldest.Record(ctx, r.now().Sub(oldest).Seconds())
	}
	return err
}

// failWithoutNode fails the wallets on chains without a node. The round has not
// failed then: any user may add such a wallet.
func (r *Round) failWithoutNode(ctx context.Context, chains []uint64, n *counts) error {
	for {
		page, err := r.store.WithoutNode(ctx, chains, r.now(), maxWalletsPerBatch)
		if err != nil {
			return err
		}
		outcomes := make([]Outcome, len(page))
		for i, w := range page {
			outcomes[i] = r.failed(w, errs.FailedPrecondition("CHAIN_NOT_CONFIGURED",
				fmt.Sprintf("no node is configured for chain %s", caip.ChainID(w.Account.Chain))))
		}
		if err := r.saveAndCount(ctx, outcomes, n); err != nil || len(page) < maxWalletsPerBatch {
			return err
		}
	}
}

// syncChain syncs the due wallets of one chain in batches. After the chain has
// failed once, the other due wallets fail with its error.
func (r *Round) syncChain(ctx context.Context, q DueQuery, n *counts) error {
	tokens, err := token.ListAll(ctx, r.tokens, q.Chain)
	if err != nil {
		return err
	}
	q.Limit = min(maxWalletsPerBatch, max(1, r.maxBalances/max(1, len(tokens))))
	if r.resets != nil {
		r.resets.Check(ctx, q.Chain, 0)
	}
	var chainErr error
	// A chain whose newest block is old leaves its wallets due after their sync.
	tried := map[uuid.UUID]bool{}
	for {
		page, err := r.store.Due(ctx, q)
		if err != nil {
			return errors.Join(chainErr, err)
		}
		lastPage := len(page) < q.Limit
		if !lastPage {
			last := page[len(page)-1]
			q.After = QueuePosition{Time: QueueTime(last.Sync), ID: last.ID}
		}
		page = slices.DeleteFunc(page, func(w wallet.Wallet) bool { return tried[w.ID] })
		if len(tried) == 0 && len(page) > 0 {
			tokens = r.contracts.Check(ctx, q.Chain, tokens)
		}
		for _, w := range page {
			tried[w.ID] = true
		}
		if chainErr, err = r.syncPage(ctx, q.Chain, page, tokens, chainErr, n); err != nil {
			return errors.Join(chainErr, err)
		}
		if chainErr != nil {
			q.Limit = maxWalletsPerBatch
		}
		if lastPage {
			return chainErr
		}
	}
}

// syncPage syncs the wallets of a page in batches of at most maxBalances, unless a single
// one has more. After chainErr, or once the chain has failed, they fail with that error.
func (r *Round) syncPage(ctx context.Context, chain uint64, page []wallet.Wallet, tokens []token.Token, chainErr error,
	n *counts) (_, err error) {
	if chainErr != nil {
		return chainErr, r.saveAndCount(ctx, r.allFailed(page, chainErr), n)
	}
	discovered, err := r.store.Discovered(ctx, idsOf(page))
	if err != nil {
		return nil, err
	}
	for len(page) > 0 && chainErr == nil {
		size, balances := 0, 0
		for size < len(page) && (size == 0 || balances < r.maxBalances) {
			balances += len(tokens) + len(discovered[page[size].ID])
			size++
		}
		if size > 1 && balances > r.maxBalances {
			size--
		}
		if chainErr, err = r.syncBatch(ctx, chain, page[:size], tokens, discovered, n); err != nil {
			return chainErr, err
		}
		page = page[size:]
	}
	return chainErr, r.saveAndCount(ctx, r.allFailed(page, chainErr), n)
}

func idsOf(wallets []wallet.Wallet) []uuid.UUID {
	ids := make([]uuid.UUID, len(wallets))
	for i, w := range wallets {
		ids[i] = w.ID
	}
	return ids
}

// syncBatch syncs wallets at one block. chainErr is the chain's error, which was
// stored as their outcome; err is one of storage, or the end of the round.
func (r *Round) syncBatch(ctx context.Context, chain uint64, wallets []wallet.Wallet, tokens []token.Token,
	discovered map[uuid.UUID][]token.Token, n *counts) (chainErr, err error) {
	started := make([]Outcome, len(wallets))
	requests := make([]Request, len(wallets))
	atLeast := n.wanted
	for i, w := range wallets {
		started[i] = Outcome{Wallet: w, Sync: w.Sync}
		started[i].Sync.State, started[i].Sync.RetryAt = wallet.Syncing, leaseUntil(ctx, r.now())
		requests[i] = Request{Holder: w.Account.Address, Tokens: slices.Concat(tokens, discovered[w.ID])}
		atLeast = max(atLeast, w.Sync.Block)
	}
	if err := r.store.SaveOutcomes(ctx, started); err != nil {
		return nil, err
	}
	readings, err := r.reader.ReadBatch(ctx, chain, atLeast, requests)
	if err != nil && ctx.Err() != nil {
		return nil, errors.Join(ctx.Err(), r.restore(ctx, wallets))
	}
	if err == nil && len(readings) != len(wallets) {
		err = fmt.Errorf("read %d accounts of %d", len(readings), len(wallets))
	}
	if err != nil {
		return fmt.Errorf("chain %s: %w", caip.ChainID(chain), err),
			r.saveAndCount(ctx, r.allFailed(wallets, err), n)
	}
	if readings[0].Block.Number < n.wanted {
		n.mu.Lock()
		n.behind = true
		n.mu.Unlock()
	}
	tokens = r.contracts.CheckUnread(ctx, chain, tokens, unreadOf(tokens, readings...))
	positions := readPositions(ctx, r.positions, chain, readings[0].Block, wallets...)
	outcomes := make([]Outcome, len(wallets))
	for i, w := range wallets {
		outcomes[i] = r.outcome(w, readings[i], slices.Concat(tokens, discovered[w.ID]))
		if outcomes[i].Sync.State == wallet.Synced {
			outcomes[i].Positions = positions[i]
		}
	}
	if err := r.saveAndCount(ctx, outcomes, n); err != nil {
		return nil, err
	}
	if r.resets != nil {
		r.resets.Check(ctx, chain, readings[0].Block.Number)
	}
	return nil, nil
}

// restore stores the state that wallets had before a reading that the end of the
// round cut off.
func (r *Round) restore(ctx context.Context, wallets []wallet.Wallet) error {
	before := make([]Outcome, len(wallets))
	for i, w := range wallets {
		before[i] = Outcome{Wallet: w, Sync: w.Sync, Unchanged: true}
	}
	return r.save(ctx, before)
}

// outcome is that of a reading, as of Service.Sync; but one without any balance
// has failed.
func (r *Round) outcome(w wallet.Wallet, reading Reading, tokens []token.Token) Outcome {
	balances, missing, err := checkReading(w, reading, tokens)
	if err != nil {
		if r.resets != nil {
			err = explain(err, r.resets.Last(w.Account.Chain))
		}
		return r.failed(w, err)
	}
	if len(balances) == 0 && missing.any() {
		return r.failed(w, errs.Unavailable("CHAIN_UNAVAILABLE", "no balance could be read"))
	}
	return Outcome{Wallet: w, Balances: balances, Sync: syncedState(w.Sync, reading.Block, missing, r.now())}
}

func (r *Round) failed(w wallet.Wallet, cause error) Outcome {
	return Outcome{Wallet: w, Sync: failedState(w.Sync, cause, r.now())}
}

func (r *Round) allFailed(wallets []wallet.Wallet, cause error) []Outcome {
	outcomes := make([]Outcome, len(wallets))
	for i, w := range wallets {
		outcomes[i] = r.failed(w, cause)
	}
	return outcomes
}

// save stores outcomes, also for a moment after the round's context has ended. A database that is slow has all of the
// round's time.
func (r *Round) save(ctx context.Context, outcomes []Outcome) error {
	limited, cancel := deadline.Grace(ctx, 2*outcomeTimeout)
	defer cancel()
	return r.store.SaveOutcomes(limited, outcomes)
}

func (r *Round) saveAndCount(ctx context.Context, outcomes []Outcome, n *counts) error {
	if len(outcomes) == 0 {
		return nil
	}
	if err := r.save(ctx, outcomes); err != nil {
		return err
	}
	failed := 0
	for _, o := range outcomes {
		if o.Sync.State == wallet.Failed {
			failed++
		}
	}
	synced := len(outcomes) - failed
	r.metrics.synced.Add(ctx, int64(synced))
	r.metrics.failed.Add(ctx, int64(failed))
	n.mu.Lock()
	defer n.mu.Unlock()
	n.synced, n.failed = n.synced+synced, n.failed+failed
	r.progress(n.synced, n.failed)
	return nil
}
