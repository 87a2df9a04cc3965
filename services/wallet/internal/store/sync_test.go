package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	walletsync "github.com/purserhq/purser/services/wallet/internal/sync"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

func TestAWalletIsDueInOneShardWhenItsTimeHasCome(t *testing.T) {
	f := newFixture(t)
	now := at(100)
	past, future := now.Add(-time.Second), now.Add(time.Second)
	old, recent := at(10), at(90)
	due := map[uuid.UUID]bool{}
	for i, tc := range []struct {
		sync wallet.Sync
		due  bool
	}{
		{wallet.Sync{State: wallet.Pending}, true},
		{wallet.Sync{State: wallet.Synced, At: &old}, true},
		{wallet.Sync{State: wallet.Synced, At: &recent}, false},
		{wallet.Sync{State: wallet.Failed, At: &old, Retry: &past}, true},
		{wallet.Sync{State: wallet.Failed, At: &old, Retry: &future}, false},
		{wallet.Sync{State: wallet.Failed, At: &recent, Retry: &past}, true},
		{wallet.Sync{State: wallet.Failed}, true},
		{wallet.Sync{State: wallet.Syncing, Retry: &past}, true}, // its process died
		{wallet.Sync{State: wallet.Syncing, Retry: &future}, false},
	} {
		owner := uuid.New() // everybody's
		w := f.create(t, owner, byte(i))
		if err := f.SaveSync(t.Context(), owner, w.ID, tc.sync); err != nil {
			t.Fatal(err)
		}
		due[w.ID] = tc.due
	}
	seen := map[uuid.UUID]int{}
	for shard := range 4 {
		q := walletsync.Due{Shard: shard, Shards: 4, Before: at(50), Now: now, Limit: 2}
		for {
			page, err := f.Due(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range page {
				seen[w.ID]++
				q.After = w.ID
			}
			if len(page) < q.Limit {
				break
			}
		}
	}
	for id, want := range due {
		if got := seen[id]; got > 1 || want != (got == 1) {
			w, err := f.Due(t.Context(), walletsync.Due{Shards: 1, Now: now, Limit: 100})
			t.Errorf("wallet %s was due %d times, want %v (%v, %v)", id, got, want, w, err)
		}
	}
}

func outcome(w wallet.Wallet, block uint64, b ...wallet.Balance) walletsync.Outcome {
	return walletsync.Outcome{Wallet: w, Sync: synced(block), Balances: b}
}

func TestABatchIsStoredForwardOnlyAndWithoutTheWalletsThatAreGone(t *testing.T) {
	f := newFixture(t)
	ahead, behind, gone, failed := f.create(t, f.owner, 1), f.create(t, f.owner, 2), f.create(t, f.owner, 3), f.create(t, uuid.New(), 4)
	f.save(t, ahead, 20, balance(f.tokens[0], 7, 20))
	f.save(t, behind, 5, balance(f.tokens[0], 7, 5))
	f.save(t, failed, 5, balance(f.tokens[0], 7, 5))
	if err := f.Delete(t.Context(), f.owner, gone.ID, 0); err != nil {
		t.Fatal(err)
	}
	retry := at(200)
	err := f.SaveAll(t.Context(), []walletsync.Outcome{
		outcome(gone, 10, balance(f.tokens[0], 1, 10)),
		outcome(ahead, 10, balance(f.tokens[0], 1, 10), balance(f.tokens[1], 2, 10)),
		outcome(behind, 10, balance(f.tokens[0], 0, 10)),
		{Wallet: failed, Sync: wallet.Sync{State: wallet.Failed, Error: "away", Retry: &retry}},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		w     wallet.Wallet
		state wallet.SyncState
		block uint64
		want  []string
	}{
		{ahead, wallet.Synced, 20, []string{"T0 7", "T1 2"}},
		{behind, wallet.Synced, 10, []string{"T0 0"}},
		{failed, wallet.Failed, 5, []string{"T0 7"}},
	} {
		got, err := f.ByID(t.Context(), tc.w.Owner, tc.w.ID)
		if err != nil {
			t.Fatal(err)
		}
		if got.Sync.State != tc.state || got.Sync.Block != tc.block || !slices.Equal(f.amounts(t, tc.w), tc.want) || got.Version != tc.w.Version {
			t.Errorf("%+v, %v; want block %d, %v", got.Sync, f.amounts(t, tc.w), tc.block, tc.want)
		}
	}
	if err := f.SaveAll(t.Context(), []walletsync.Outcome{outcome(gone, 10)}); err != nil {
		t.Errorf("of one that is gone: %v", err)
	}
}

func TestABatchInvalidatesThePagesOfItsOwners(t *testing.T) {
	redis := testkit.Redis(t).URL()
	a := newFixture(t).on(t, redis)
	b := a.on(t, redis)
	w := a.create(t, a.owner, 1)
	state := func() wallet.SyncState {
		list, err := b.List(t.Context(), a.owner, uuid.Nil, 10, false)
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0].Sync.State
	}
	if got := state(); got != wallet.Pending {
		t.Fatal(got)
	}
	if err := a.SaveAll(t.Context(), []walletsync.Outcome{outcome(w, 10)}); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != wallet.Synced {
		t.Errorf("the other replica says %s", got)
	}
}

func TestTheOldestSyncIsOfTheChainsThatCanBeRead(t *testing.T) {
	f := newFixture(t)
	if got, err := f.Oldest(t.Context(), []uint64{1}); err != nil || !got.IsZero() {
		t.Errorf("without wallets: %s, %v", got, err)
	}
	f.save(t, f.create(t, f.owner, 1), 50)
	other := fresh(f.owner, 2)
	other.Account = caip.Account{Chain: 11, Address: common.Address{2}}
	if _, err := f.Create(t.Context(), other, nil); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		chains []uint64
		want   time.Time
	}{{[]uint64{1}, at(50)}, {[]uint64{1, 11}, at(0)}, {[]uint64{2}, time.Time{}}, {nil, time.Time{}}} {
		if got, err := f.Oldest(t.Context(), tc.chains); err != nil || !got.Equal(tc.want) {
			t.Errorf("of %v: %s, %v, want %s", tc.chains, got, err, tc.want)
		}
	}
}
