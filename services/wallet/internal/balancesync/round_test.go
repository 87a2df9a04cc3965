package balancesync_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// fakeQueue is the wallets of all owners, and the chains that they are on. A chain
// has two tokens; the balance of each is the first byte of the holder's address.
type fakeQueue struct {
	mu       sync.Mutex
	wallets  map[uuid.UUID]wallet.Wallet
	balances map[uuid.UUID][]wallet.Balance
	tokens   int
	saves    int
	saveErr  error
	slow     time.Duration // each save of balances takes so long, and the look for the oldest
	byID     bool          // due wallets are in the order of ids

	reads        map[uint64]int // by chain
	largestBatch int            // balances
	readErrs     map[uint64]error
	unreadable   map[common.Address]bool // whose balances can't be read
	newest       map[uint64]block.Block
	blocked      map[uint64]chan struct{} // reads of the chain wait until it is closed
}

func newFakeQueue(chains map[uint64]int) *fakeQueue {
	c := &fakeQueue{
		wallets: map[uuid.UUID]wallet.Wallet{}, balances: map[uuid.UUID][]wallet.Balance{}, tokens: 2,
		reads: map[uint64]int{}, readErrs: map[uint64]error{}, unreadable: map[common.Address]bool{},
		newest: map[uint64]block.Block{}, blocked: map[uint64]chan struct{}{},
	}
	for chain, n := range chains {
		c.newest[chain] = block.Block{Number: 1000 + chain, Time: noon()}
		for i := range n {
			id := uuid.New()
			c.wallets[id] = wallet.Wallet{ID: id, Owner: uuid.New(),
				Account: caip.Account{Chain: chain, Address: common.Address{byte(i%250 + 1), byte(i / 250)}},
				Sync:    wallet.Sync{State: wallet.Pending}}
		}
	}
	return c
}

// Due does what the store does, or, with byID, returns wallets in the order of ids.
func (c *fakeQueue) Due(ctx context.Context, d balancesync.DueQuery) ([]wallet.Wallet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	compare := func(a, b balancesync.QueuePosition) int {
		if !c.byID && !a.Time.Equal(b.Time) {
			return a.Time.Compare(b.Time)
		}
		return bytes.Compare(a.ID[:], b.ID[:])
	}
	place := func(w wallet.Wallet) balancesync.QueuePosition {
		return balancesync.QueuePosition{Time: balancesync.QueueTime(w.Sync), ID: w.ID}
	}
	var due []wallet.Wallet
	for _, w := range c.wallets {
		turn := balancesync.QueueTime(w.Sync)
		if w.Account.Chain == d.Chain && int(w.ID[15])%d.Shards == d.Shard && compare(place(w), d.After) > 0 &&
			!turn.After(d.Now) && (w.Sync.State != wallet.Synced || turn.Before(d.SyncedBefore)) {
			due = append(due, w)
		}
	}
	slices.SortFunc(due, func(a, b wallet.Wallet) int { return compare(place(a), place(b)) })
	return due[:min(len(due), d.Limit)], ctx.Err()
}

func (c *fakeQueue) WithoutNode(_ context.Context, chains []uint64, _ time.Time, limit int) ([]wallet.Wallet, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []wallet.Wallet
	for _, w := range c.wallets {
		if !slices.Contains(chains, w.Account.Chain) && w.Sync.State != wallet.Failed && len(out) < limit {
			out = append(out, w)
		}
	}
	return out, nil
}

func (c *fakeQueue) SaveOutcomes(ctx context.Context, outcomes []balancesync.Outcome) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.saves++
	if len(outcomes) > 0 && outcomes[0].Balances != nil {
		if err := deadline.Pause(ctx, c.slow); err != nil {
			return err
		}
	}
	for _, o := range outcomes {
		if w, there := c.wallets[o.Wallet.ID]; there {
			w.Sync = o.Sync
			c.wallets[w.ID] = w
			c.balances[w.ID] = o.Balances
		}
	}
	return cmp.Or(c.saveErr, ctx.Err())
}

func (c *fakeQueue) OldestSync(ctx context.Context, _ []uint64) (time.Time, error) {
	return noon(), deadline.Pause(ctx, c.slow)
}

func (c *fakeQueue) List(_ context.Context, chain uint64, after string, _ int) (out []token.Token, err error) {
	for i := range c.tokens {
		if id := fmt.Sprintf("%04d", i); id > after {
			out = append(out, token.Token{ID: id, Chain: chain, Symbol: fmt.Sprint("T", i)})
		}
	}
	return out, nil
}

func (c *fakeQueue) Chains() []uint64 {
	var chains []uint64
	for chain := range c.newest {
		if chain != 999 {
			chains = append(chains, chain)
		}
	}
	return chains
}

func (c *fakeQueue) Discovered(context.Context, []uuid.UUID) (map[uuid.UUID][]token.Token, error) {
	return map[uuid.UUID][]token.Token{}, nil
}

func (c *fakeQueue) ReadBatch(ctx context.Context, chain, _ uint64,
	requests []balancesync.Request) ([]balancesync.Reading, error) {
	c.mu.Lock()
	c.reads[chain]++
	c.largestBatch = max(c.largestBatch, len(requests)*len(requests[0].Tokens))
	err, wait := c.readErrs[chain], c.blocked[chain]
	c.mu.Unlock()
	if wait != nil {
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var readings []balancesync.Reading
	for _, a := range requests {
		row := make([]*uint256.Int, len(a.Tokens))
		for i := range row {
			if !c.unreadable[a.Holder] {
				row[i] = uint256.NewInt(uint64(a.Holder[0]))
			}
		}
		readings = append(readings, balancesync.Reading{Block: c.newest[chain], Amounts: row})
	}
	return readings, err
}

func (c *fakeQueue) run(ctx context.Context) error {
	return balancesync.NewRound(c, c, noContracts{}, c, 5*time.Minute, 200, slog.New(slog.DiscardHandler), noon).
		Run(ctx, 0, 1)
}

// states counts wallets of a chain by their state.
func (c *fakeQueue) states(chain uint64) map[wallet.SyncState]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := map[wallet.SyncState]int{}
	for _, w := range c.wallets {
		if w.Account.Chain == chain {
			n[w.Sync.State]++
		}
	}
	return n
}

func TestARoundSyncsTheWalletsOfAllOwnersInBatches(t *testing.T) {
	c := newFakeQueue(map[uint64]int{1: 450, 2: 30})
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, w := range c.wallets {
		s, held := w.Sync, c.balances[w.ID]
		if s.State != wallet.Synced || s.Block != 1000+w.Account.Chain || !s.At.Equal(noon()) || s.RetryAt != nil ||
			s.Error != "" {
			t.Fatalf("%+v", s)
		}
		if len(held) != 2 || held[0].Amount.Uint64() != uint64(w.Account.Address[0]) ||
			held[1].Block.Number != s.Block {
			t.Fatalf("%+v", held)
		}
	}
	if c.reads[1] > 3 || c.reads[2] > 3 || c.saves > 9 {
		t.Errorf("480 wallets in %v readings and %d writes", c.reads, c.saves)
	}
}

func TestABatchHasNoMoreBalancesThanItsLimit(t *testing.T) {
	c := newFakeQueue(map[uint64]int{1: 150})
	c.tokens = 300
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if c.largestBatch > 5000 || c.states(1)[wallet.Synced] != 150 {
		t.Errorf("%d balances in one reading, %v", c.largestBatch, c.states(1))
	}
}

func TestAChainThatFailsFailsItsOwnWalletsAlone(t *testing.T) {
	c := newFakeQueue(map[uint64]int{1: 300, 2: 300, 999: 2})
	c.readErrs[2] = errs.Unavailable("CHAIN_UNAVAILABLE",
		"no node of chain eip155:2 answers").Because(errors.New("secret detail"))
	earlier := noon().Add(-time.Hour)
	for id, w := range c.wallets {
		w.Sync.Block, w.Sync.At = 7, &earlier
		c.wallets[id] = w
	}
	err := c.run(t.Context())
	if e := errs.As(err); e == nil || e.Reason != "CHAIN_UNAVAILABLE" {
		t.Errorf("answered %v", err)
	}
	if c.states(1)[wallet.Synced] != 300 || c.states(2)[wallet.Failed] != 300 || c.states(999)[wallet.Failed] != 2 {
		t.Errorf("%v, %v, %v", c.states(1), c.states(2), c.states(999))
	}
	for _, w := range c.wallets {
		s := w.Sync
		if w.Account.Chain == 2 && (s.Error != "no node of chain eip155:2 answers" || s.RetryAt == nil ||
			s.Block != 7 ||
			!s.At.Equal(earlier) || len(c.balances[w.ID]) > 0) {
			t.Fatalf("%+v", s)
		}
	}
	if c.reads[2] != 1 || c.reads[999] != 0 {
		t.Errorf("the chain that fails was read %d times", c.reads[2])
	}
}

// Anybody can add a wallet on a chain that doesn't exist.
func TestAChainWithoutANodeIsNoFailureOfTheRound(t *testing.T) {
	c := newFakeQueue(map[uint64]int{1: 2, 999: 2})
	if err := c.run(t.Context()); err != nil {
		t.Error(err)
	}
	if c.states(1)[wallet.Synced] != 2 || c.states(999)[wallet.Failed] != 2 {
		t.Errorf("%v, %v", c.states(1), c.states(999))
	}
	saves := c.saves
	if err := c.run(t.Context()); err != nil || c.saves != saves {
		t.Errorf("the next round wrote %d times: %v", c.saves-saves, err)
	}
}

func TestAChainThatHangsDoesntHoldUpTheOthers(t *testing.T) {
	c := newFakeQueue(map[uint64]int{1: 450, 2: 300}) // several pages
	c.blocked[2] = make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- c.run(t.Context()) }()
	testkit.Eventually(t, time.Minute, func() bool {
		return c.states(1)[wallet.Synced] == 450 &&
			c.states(2)[wallet.Syncing] == 200
	})
	if got := c.states(2); got[wallet.Pending] != 100 {
		t.Errorf("of a batch that has not begun: %v", got)
	}
	close(c.blocked[2])
	if err := <-done; err != nil || c.states(2)[wallet.Synced] != 300 {
		t.Errorf("then %v, %v", c.states(2), err)
	}
}

func TestAWalletFailsAloneWhenOnlyItsReadingIsNotPlausible(t *testing.T) {
	c := newFakeQueue(map[uint64]int{1: 3})
	var ids []uuid.UUID
	for id := range c.wallets {
		ids = append(ids, id)
	}
	ahead := c.wallets[ids[0]]
	later := noon().Add(time.Second)
	ahead.Sync.Block, ahead.Sync.At = 5000, &later // the node is behind it
	c.wallets[ids[0]] = ahead
	c.unreadable[c.wallets[ids[1]].Account.Address] = true
	if err := c.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, want := range []wallet.SyncState{wallet.Failed, wallet.Failed, wallet.Synced} {
		if got := c.wallets[ids[i]].Sync; got.State != want {
			t.Errorf("wallet %d: %+v", i, got)
		}
	}
	if len(c.balances[ids[0]])+len(c.balances[ids[1]]) != 0 {
		t.Error("balances of a bad reading were stored")
	}
}

func TestARoundThatCanNotStoreFails(t *testing.T) {
	c := newFakeQueue(map[uint64]int{1: 3})
	c.saveErr = errors.New("full")
	if err := c.run(t.Context()); !errors.Is(err, c.saveErr) {
		t.Errorf("answered %v", err)
	}
}

// A database that is busy stores a batch within the time of the round, however long that takes it.
func TestASlowDatabaseFailsNoRound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newFakeQueue(map[uint64]int{1: 3})
		c.slow = time.Minute
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		if err := c.run(ctx); err != nil {
			t.Fatal(err)
		}
		for id, w := range c.wallets {
			if w.Sync.State != wallet.Synced || len(c.balances[id]) != 2 {
				t.Errorf("%+v with %d balances", w.Sync, len(c.balances[id]))
			}
		}
		c = newFakeQueue(map[uint64]int{1: 3})
		c.slow = 5 * time.Minute // longer than the round and its grace
		if err := c.run(ctx); err == nil {
			t.Error("a round waits for its database for ever")
		}
	})
}
