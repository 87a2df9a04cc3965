// Package newblocks follows the newest blocks of chains, and has the wallets synced that they touch: those that sent
// or received the native coin by a transaction, or a token of the token list by a Transfer event.
//
// It promises: a chain is followed by one replica at a time, by a lease in the database; when that ends, another goes
// on from where it was. A poll costs each chain one question for the newest block, and one for the transactions and
// one for the events of all blocks since the last poll, whatever the number of wallets; more for the events where a
// provider refuses so many blocks. A touched wallet is synced at that block or later, with the same quorum as the job.
// After a reorg of the last blocks, what the blocks that are gone have touched is synced too.
//
// It is there to be quick, not complete: what it doesn't see, as coins that a contract sends, rebasing tokens, and
// blocks beyond the last MaxBlocks after a pause, the job finds. What blocks touch is believed to a single node, which
// can have wallets synced without need, or leave them to the job.
package newblocks

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

const (
	// MaxBlocks is how many blocks one poll reads at most, the newest ones.
	MaxBlocks = 64
	// reorgBlocks is how many blocks are read again when the last one that was read is gone.
	reorgBlocks = 16
	// maxWallets is how many wallets one poll has synced at most; the job syncs the others.
	maxWallets = 2000
	// lease is for how long a replica follows a chain, unless it renews that, as it does every renew.
	lease, renew = 10 * time.Second, 3 * time.Second
	// pollTimeout bounds a poll, with its syncs.
	pollTimeout = time.Minute
	// tokenListTTL is how long the token list of a chain is used.
	tokenListTTL = time.Minute
	// maxTries is how often a poll is repeated whose wallets could not be synced, or only at an earlier block.
	maxTries = 10
	// A head below the last block read for more than rewindTimeout means that the chain went back.
	rewindTimeout = 30 * time.Second
)

// Touched is what a node tells of the blocks after one.
type Touched struct {
	// Newest is the newest block; no later than that one, there is nothing else.
	Newest block.Block
	// First is the number of the first block that was read, and Parent the hash of the block before it.
	First  uint64
	Parent common.Hash
	// Accounts by block, from First on.
	Accounts [][]common.Address
}

// Reader reads blocks; package chain does it.
type Reader interface {
	// Touched returns what the newest blocks after a number have touched, at most MaxBlocks of them: the accounts of
	// transactions and of the transfers of these contracts. After 0 there is nothing but the newest block.
	Touched(ctx context.Context, chain, after uint64, contracts []common.Address) (Touched, error)
	// Chains lists the chains that have a node.
	Chains() []uint64
}

// Store has the leases and the wallets of all owners.
type Store interface {
	// ClaimHead gives a chain to a replica for a time, unless another has it, and returns the last block that was
	// read; a zero block before the first.
	ClaimHead(ctx context.Context, chain uint64, replica uuid.UUID, lease time.Duration) (last block.Block, ok bool,
		err error)
	// SaveHead stores the last block that was read, unless another replica has the chain.
	SaveHead(ctx context.Context, chain uint64, replica uuid.UUID, last block.Block) error
	// At returns up to limit wallets of these accounts of a chain, without archived ones.
	At(ctx context.Context, chain uint64, accounts []common.Address, limit int) ([]wallet.Wallet, error)
}

// Syncer syncs wallets; *balancesync.Round does.
type Syncer interface {
	SyncTouched(ctx context.Context, chain, block uint64, wallets []wallet.Wallet) (behind bool, err error)
}

// Follower follows all chains. It is safe for concurrent use.
type Follower struct {
	reader   Reader
	store    Store
	tokens   token.Lister
	syncer   Syncer
	interval time.Duration
	replica  uuid.UUID
	log      *slog.Logger
	now      func() time.Time
}

// New returns a follower that polls once per interval.
func New(r Reader, s Store, t token.Lister, y Syncer, interval time.Duration, log *slog.Logger,
	now func() time.Time) *Follower {
	return &Follower{reader: r, store: s, tokens: t, syncer: y, interval: interval, replica: uuid.New(), log: log,
		now: now}
}

// chain is one that is followed.
type chain struct {
	id        uint64
	claimed   time.Time   // when it was claimed last; zero while another replica has it
	asked     time.Time   // when it was tried last
	last      block.Block // without its time
	behind    time.Time   // since when the newest block is before last; zero when it is not
	tries     int
	contracts []common.Address
	listed    time.Time
	recent    []touchedBlock // the last blocks that were read here, oldest first
	failing   bool
}

type touchedBlock struct {
	number   uint64
	accounts []common.Address
}

// Run follows until ctx ends.
func (f *Follower) Run(ctx context.Context) error {
	var all sync.WaitGroup
	for _, id := range f.reader.Chains() {
		all.Go(func() { f.follow(ctx, &chain{id: id}) })
	}
	all.Wait()
	return nil
}

func (f *Follower) follow(ctx context.Context, c *chain) {
	tick := time.NewTicker(f.interval)
	defer tick.Stop()
	for {
		limited, cancel := context.WithTimeout(ctx, pollTimeout)
		err := f.poll(limited, c)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if failed := err != nil; failed != c.failing {
			if c.failing = failed; failed {
				f.log.WarnContext(ctx, "new blocks are not followed: the job syncs the wallets of the chain", "chain",
					c.id, "error", err)
			} else {
				f.log.InfoContext(ctx, "new blocks are followed again", "chain", c.id)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// poll reads the blocks since the last poll, and has the wallets synced that they touched.
func (f *Follower) poll(ctx context.Context, c *chain) error {
	if mine, err := f.claim(ctx, c); err != nil || !mine {
		return err
	}
	if err := f.list(ctx, c); err != nil {
		return err
	}
	t, err := f.reader.Touched(ctx, c.id, c.last.Number, c.contracts)
	if err != nil {
		return err
	}
	switch {
	case c.last == block.Block{}: // the job syncs what was before
		return f.save(ctx, c, t.Newest)
	case t.Newest.Number <= c.last.Number:
		return f.stands(ctx, c, t.Newest)
	}
	c.behind = time.Time{}
	var accounts []common.Address
	if t.First == c.last.Number+1 && t.Parent != c.last.Hash {
		for _, b := range c.recent {
			accounts = append(accounts, b.accounts...)
		}
		c.recent = nil
		before := max(1, c.last.Number-min(c.last.Number, reorgBlocks))
		if t, err = f.reader.Touched(ctx, c.id, before, c.contracts); err != nil {
			return err
		}
		f.log.InfoContext(ctx, "a chain has replaced its last blocks", "chain", c.id, "block", c.last.Number)
	}
	for _, of := range t.Accounts {
		accounts = append(accounts, of...)
	}
	wallets, err := f.at(ctx, c.id, accounts)
	if err != nil {
		return err
	}
	if len(wallets) > 0 {
		behind, err := f.syncer.SyncTouched(ctx, c.id, t.Newest.Number, wallets)
		if c.tries++; (err != nil || behind) && c.tries < maxTries {
			return err
		}
	}
	for i, of := range t.Accounts {
		c.recent = append(c.recent, touchedBlock{t.First + uint64(i), of})
	}
	c.recent = c.recent[max(0, len(c.recent)-reorgBlocks):]
	return f.save(ctx, c, t.Newest)
}

// claim reports whether this replica follows the chain.
func (f *Follower) claim(ctx context.Context, c *chain) (bool, error) {
	now := f.now()
	if now.Sub(c.asked) < renew {
		return !c.claimed.IsZero(), nil
	}
	had := !c.claimed.IsZero()
	c.asked, c.claimed = now, time.Time{}
	last, ok, err := f.store.ClaimHead(ctx, c.id, f.replica, lease)
	if err != nil || !ok {
		return false, err
	}
	c.claimed = now
	if !had && last != c.last {
		c.last, c.recent = last, nil
	}
	return true, nil
}

// list reads which tokens' transfers are looked for.
func (f *Follower) list(ctx context.Context, c *chain) error {
	if f.now().Sub(c.listed) < tokenListTTL {
		return nil
	}
	tokens, err := token.ListAll(ctx, f.tokens, c.id)
	if err != nil {
		return err
	}
	c.listed, c.contracts = f.now(), nil
	for _, t := range tokens {
		if !t.Native && t.Verified {
			c.contracts = append(c.contracts, t.Contract)
		}
	}
	return nil
}

// stands is about a chain without a later block. One that is at an earlier one for long was reset.
func (f *Follower) stands(ctx context.Context, c *chain, newest block.Block) error {
	if newest.Hash == c.last.Hash {
		c.behind = time.Time{}
		return nil
	}
	if c.behind.IsZero() {
		c.behind = f.now()
	}
	if f.now().Sub(c.behind) < rewindTimeout {
		return nil
	}
	c.behind, c.recent = time.Time{}, nil
	return f.save(ctx, c, newest)
}

func (f *Follower) save(ctx context.Context, c *chain, last block.Block) error {
	if err := f.store.SaveHead(ctx, c.id, f.replica, last); err != nil {
		return err
	}
	c.last, c.tries = block.Block{Number: last.Number, Hash: last.Hash}, 0
	return nil
}

func (f *Follower) at(ctx context.Context, chain uint64, accounts []common.Address) ([]wallet.Wallet, error) {
	slices.SortFunc(accounts, common.Address.Cmp)
	accounts = slices.Compact(accounts)
	if len(accounts) == 0 {
		return nil, nil
	}
	return f.store.At(ctx, chain, accounts, maxWallets)
}
