package newblocks

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

var errDown = errors.New("down")

// world is a chain, a database and what was synced.
type world struct {
	blocks  []fakeBlock // the last is the newest
	down    bool
	holder  uuid.UUID
	until   time.Time
	last    block.Block
	wallets []common.Address
	now     time.Time
	synced  []string // the accounts of each sync, and its block
	fail    int      // how many syncs fail
	behind  int      // how many syncs are at an earlier block
}

type fakeBlock struct {
	hash    byte
	touched []common.Address
}

func (b fakeBlock) at(i int) block.Block {
	return block.Block{Number: uint64(i + 1), Hash: common.Hash{b.hash}, Time: time.Unix(1, 0)}
}

func (w *world) Chains() []uint64 { return []uint64{1} }

func (w *world) Touched(_ context.Context, _, after uint64, _ []common.Address) (Touched, error) {
	if w.down {
		return Touched{}, errDown
	}
	n := len(w.blocks)
	t := Touched{Newest: w.blocks[n-1].at(n - 1)}
	if after == 0 || t.Newest.Number <= after {
		return t, nil
	}
	t.First, t.Parent = after+1, common.Hash{w.blocks[after-1].hash}
	for _, b := range w.blocks[after:] {
		t.Accounts = append(t.Accounts, b.touched)
	}
	return t, nil
}

func (w *world) ClaimHead(_ context.Context, _ uint64, replica uuid.UUID, lease time.Duration) (block.Block, bool,
	error) {
	if w.holder != replica && w.now.Before(w.until) {
		return block.Block{}, false, nil
	}
	w.holder, w.until = replica, w.now.Add(lease)
	return w.last, true, nil
}

func (w *world) SaveHead(_ context.Context, _ uint64, replica uuid.UUID, last block.Block) error {
	if w.holder == replica {
		w.last = block.Block{Number: last.Number, Hash: last.Hash}
	}
	return nil
}

func (w *world) At(_ context.Context, chain uint64, accounts []common.Address, _ int) (found []wallet.Wallet,
	_ error) {
	for _, a := range w.wallets {
		if slices.Contains(accounts, a) {
			found = append(found, wallet.Wallet{Account: caip.Account{Chain: chain, Address: a}})
		}
	}
	return found, nil
}

func (w *world) List(context.Context, uint64, string, int) ([]token.Token, error) { return nil, nil }

func (w *world) SyncTouched(_ context.Context, _, block uint64, wallets []wallet.Wallet) (bool, error) {
	text := ""
	for _, one := range wallets {
		text += string('a' + rune(one.Account.Address[0]))
	}
	w.synced = append(w.synced, text+"@"+string('0'+rune(block)))
	if w.fail > 0 {
		w.fail--
		return false, errDown
	}
	if w.behind > 0 {
		w.behind--
		return true, nil
	}
	return false, nil
}

// replica of a world.
func (w *world) replica() (poll func() error) {
	f := New(w, w, w, w, time.Second, slog.New(slog.DiscardHandler), func() time.Time { return w.now })
	c := &chain{id: 1}
	return func() error { return f.poll(context.Background(), c) }
}

// then polls with each replica a second later, and compares what was synced since.
func (w *world) then(t *testing.T, want []string, polls ...func() error) {
	t.Helper()
	w.synced = nil
	w.now = w.now.Add(time.Second)
	for _, poll := range polls {
		if err := poll(); err != nil && !errors.Is(err, errDown) {
			t.Fatal(err)
		}
	}
	if !slices.Equal(w.synced, want) {
		t.Fatalf("synced %q, want %q", w.synced, want)
	}
}

func address(letter byte) common.Address { return common.Address{letter - 'a'} }

func newWorld() *world {
	return &world{now: time.Unix(1_800_000_000, 0),
		wallets: []common.Address{address('a'), address('b'), address('c')},
		blocks:  []fakeBlock{{hash: 1, touched: []common.Address{address('a')}}}}
}

// The wallets that a block touches are synced once, by one of two replicas, and not those of the blocks before the
// first poll.
func TestTheWalletsOfNewBlocksAreSynced(t *testing.T) {
	w := newWorld()
	one, other := w.replica(), w.replica()
	w.then(t, nil, one, other)
	w.blocks = append(w.blocks, fakeBlock{2, []common.Address{address('b'), address('z'), address('b')}})
	w.then(t, []string{"b@2"}, one, other)
	w.then(t, nil, one, other)
	w.blocks = append(w.blocks, fakeBlock{3, []common.Address{address('a')}},
		fakeBlock{4, []common.Address{address('c')}})
	w.then(t, []string{"ac@4"}, one, other)
	// The first one has died: the other goes on from where it was.
	w.blocks = append(w.blocks, fakeBlock{5, []common.Address{address('b')}})
	w.then(t, nil, other)
	w.now = w.now.Add(lease)
	w.then(t, []string{"b@5"}, other)
}

// A sync that fails, or is of an earlier block, is repeated with the next poll. So is a poll whose node is down.
func TestWhatCouldNotBeSyncedIsTriedAgain(t *testing.T) {
	w := newWorld()
	poll := w.replica()
	w.then(t, nil, poll)
	w.blocks = append(w.blocks, fakeBlock{2, []common.Address{address('b')}})
	w.down = true
	w.then(t, nil, poll)
	w.down, w.fail = false, 1
	w.then(t, []string{"b@2"}, poll)
	w.behind = 1
	w.then(t, []string{"b@2"}, poll)
	w.then(t, []string{"b@2"}, poll)
	w.then(t, nil, poll)
	// Not for ever: the job does it then.
	w.blocks, w.fail = append(w.blocks, fakeBlock{3, []common.Address{address('c')}}), 1000
	for range maxTries {
		w.then(t, []string{"c@3"}, poll)
	}
	w.then(t, nil, poll)
}

// What a replaced block has touched is synced too, though no present block touches it: the transfer is gone.
func TestTheWalletsOfBlocksThatAreGoneAreSynced(t *testing.T) {
	w := newWorld()
	poll := w.replica()
	w.then(t, nil, poll)
	w.blocks = append(w.blocks, fakeBlock{2, []common.Address{address('b')}})
	w.then(t, []string{"b@2"}, poll)
	w.blocks = append(w.blocks[:1], fakeBlock{hash: 12, touched: []common.Address{address('c')}}, fakeBlock{hash: 13})
	w.then(t, []string{"bc@3"}, poll)
	w.then(t, nil, poll)
}

// A chain that was reset is followed again from its newest block on.
func TestAChainThatWasResetIsFollowedAgain(t *testing.T) {
	w := newWorld()
	w.blocks = append(w.blocks, fakeBlock{hash: 2}, fakeBlock{hash: 3})
	poll := w.replica()
	w.then(t, nil, poll)
	w.blocks = []fakeBlock{{hash: 21}}
	w.then(t, nil, poll)
	w.now = w.now.Add(rewindTimeout)
	w.then(t, nil, poll)
	w.blocks = append(w.blocks, fakeBlock{22, []common.Address{address('a')}})
	w.then(t, []string{"a@2"}, poll)
}
