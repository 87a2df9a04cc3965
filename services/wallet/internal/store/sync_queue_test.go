package store_test

import (
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/caip"
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
		{wallet.Sync{State: wallet.Failed, At: &old, RetryAt: &past}, true},
		{wallet.Sync{State: wallet.Failed, At: &old, RetryAt: &future}, false},
		{wallet.Sync{State: wallet.Failed, At: &recent, RetryAt: &past}, true},
		{wallet.Sync{State: wallet.Failed}, true},
		{wallet.Sync{State: wallet.Syncing, RetryAt: &past}, true}, // its process died
		{wallet.Sync{State: wallet.Syncing, RetryAt: &future}, false},
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
		q := balancesync.DueQuery{Chain: 1, Shard: shard, Shards: 4, SyncedBefore: at(50), Now: now, Limit: 2}
		for {
			page, err := f.Due(t.Context(), q)
			if err != nil {
				t.Fatal(err)
			}
			for _, w := range page {
				seen[w.ID]++
				q.After = place(w)
			}
			if len(page) < q.Limit {
				break
			}
		}
	}
	for id, want := range due {
		if got := seen[id]; got > 1 || want != (got == 1) {
			w, err := f.Due(t.Context(), balancesync.DueQuery{Chain: 1, Shards: 1, Now: now, Limit: 100})
			t.Errorf("wallet %s was due %d times, want %v (%v, %v)", id, got, want, w, err)
		}
	}
}

func place(w wallet.Wallet) balancesync.QueuePosition {
	return balancesync.QueuePosition{Time: balancesync.QueueTime(w.Sync), ID: w.ID}
}

// stands creates a wallet of this chain that stands so.
func (f fixture) stands(t *testing.T, chain uint64, account byte, s wallet.Sync) uuid.UUID {
	t.Helper()
	w := fresh(uuid.New(), account)
	w.Account.Chain = chain
	if _, err := f.Create(t.Context(), w, many, nil); err != nil {
		t.Fatal(err)
	}
	if err := f.SaveSync(t.Context(), w.Owner, w.ID, s); err != nil {
		t.Fatal(err)
	}
	return w.ID
}

func TestTheWalletsOfAChainThatWaitLongestAreDueFirst(t *testing.T) {
	f := newFixture(t)
	sync := func(state wallet.SyncState, last, retry int) wallet.Sync {
		s := wallet.Sync{State: state}
		if a := at(last); last > 0 {
			s.At = &a
		}
		if a := at(retry); retry > 0 {
			s.RetryAt = &a
		}
		return s
	}
	want := make([]uuid.UUID, 7)
	for i, s := range []wallet.Sync{ // the place of each in the order
		4: sync(wallet.Failed, 10, 40), 3: sync(wallet.Synced, 30, 0), 6: sync(wallet.Syncing, 0, 60),
		2: sync(wallet.Synced, 20, 0), 0: sync(wallet.Pending, 0, 0), 1: sync(wallet.Pending, 0, 0),
		5: sync(wallet.Synced, 50, 0),
	} {
		want[i] = f.stands(t, 11, byte(i), s)
	}
	f.stands(t, 1, 100, sync(wallet.Pending, 0, 0))
	f.stands(t, 11, 101, sync(wallet.Synced, 80, 0))
	var got []uuid.UUID
	q := balancesync.DueQuery{Chain: 11, Shards: 1, SyncedBefore: at(70), Now: at(90), Limit: 1}
	for {
		page, err := f.Due(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		got, q.After = append(got, page[0].ID), place(page[0])
	}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Else each page of each round would sort all wallets of a chain.
func TestTheOrderOfWalletsIsThatOfAnIndex(t *testing.T) {
	f := newFixture(t)
	if _, err := f.db.SQL().ExecContext(t.Context(), `
		INSERT INTO wallets (id, owner_id, account, created_at, updated_at, sync_state, synced_at)
		SELECT gen_random_uuid(), gen_random_uuid(), 'eip155:1:0x' || lpad(to_hex(i), 40, '0'), now(), now(),
		       'SYNCED', now() - i * interval '1 second'
		FROM generate_series(1, 5000) AS i; ANALYZE wallets`); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool { // for scans are counted late
		now := time.Now()
		page, err := f.Due(t.Context(),
			balancesync.DueQuery{Chain: 1, Shards: 4, SyncedBefore: now, Now: now, Limit: 50})
		if err != nil || len(page) != 50 {
			t.Fatal(len(page), err)
		}
		var n int
		row := f.db.SQL().QueryRowContext(t.Context(),
			"SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = 'wallets_sync_queue'")
		if err := row.Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n > 0
	})
}

func TestAWalletWithoutANodeIsListedUntilItHasFailed(t *testing.T) {
	f := newFixture(t)
	past, future := at(99), at(101)
	want := []uuid.UUID{f.stands(t, 11, 1, wallet.Sync{State: wallet.Pending}), f.stands(t, 11, 2, synced(10)),
		f.stands(t, 11, 3, wallet.Sync{State: wallet.Syncing, RetryAt: &past})}
	f.stands(t, 11, 4, wallet.Sync{State: wallet.Syncing, RetryAt: &future})
	f.stands(t, 11, 5, wallet.Sync{State: wallet.Failed, RetryAt: &past})
	f.stands(t, 1, 6, wallet.Sync{State: wallet.Pending})
	var got []uuid.UUID
	page, err := f.WithoutNode(t.Context(), []uint64{1, 5}, at(100), 10)
	for _, w := range page {
		got = append(got, w.ID)
	}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, want %v: %v", got, want, err)
	}
	if page, err = f.WithoutNode(t.Context(), nil, at(100), 2); err != nil || len(page) != 2 {
		t.Errorf("%d of any chain: %v", len(page), err)
	}
}

func outcome(w wallet.Wallet, block uint64, b ...wallet.Balance) balancesync.Outcome {
	return balancesync.Outcome{Wallet: w, Sync: synced(block), Balances: b}
}

func TestABatchIsStoredForwardOnlyAndWithoutTheWalletsThatAreGone(t *testing.T) {
	f := newFixture(t)
	ahead, behind, gone, failed := f.create(t, f.owner, 1), f.create(t, f.owner, 2), f.create(t, f.owner, 3),
		f.create(t, uuid.New(), 4)
	f.save(t, ahead, 20, balance(f.tokens[0], 7, 20))
	f.save(t, behind, 5, balance(f.tokens[0], 7, 5))
	f.save(t, failed, 5, balance(f.tokens[0], 7, 5))
	if err := remove(t.Context(), f.Wallets, f.owner, gone.ID, 0); err != nil {
		t.Fatal(err)
	}
	retry := at(200)
	err := f.SaveOutcomes(t.Context(), []balancesync.Outcome{
		outcome(gone, 10, balance(f.tokens[0], 1, 10)),
		outcome(ahead, 10, balance(f.tokens[0], 1, 10), balance(f.tokens[1], 2, 10)),
		outcome(behind, 10, balance(f.tokens[0], 0, 10)),
		{Wallet: failed, Sync: wallet.Sync{State: wallet.Failed, Error: "away", RetryAt: &retry}},
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
		if got.Sync.State != tc.state || got.Sync.Block != tc.block || !slices.Equal(f.amounts(t, tc.w), tc.want) ||
			got.Version != tc.w.Version {
			t.Errorf("%+v, %v; want block %d, %v", got.Sync, f.amounts(t, tc.w), tc.block, tc.want)
		}
	}
	if err := f.SaveOutcomes(t.Context(), []balancesync.Outcome{outcome(gone, 10)}); err != nil {
		t.Errorf("of one that is gone: %v", err)
	}
}

func TestABatchInvalidatesThePagesOfItsOwners(t *testing.T) {
	redis := testkit.Redis(t).URL()
	a := newFixture(t).on(t, redis)
	b := a.on(t, redis)
	w := a.create(t, a.owner, 1)
	state := func() wallet.SyncState {
		list, err := b.List(t.Context(), a.owner, uuid.Nil, 10, wallet.Listing{})
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		return list[0].Sync.State
	}
	if got := state(); got != wallet.Pending {
		t.Fatal(got)
	}
	if err := a.SaveOutcomes(t.Context(), []balancesync.Outcome{outcome(w, 10)}); err != nil {
		t.Fatal(err)
	}
	if got := state(); got != wallet.Synced {
		t.Errorf("the other replica says %s", got)
	}
}

func TestTheOldestSyncIsOfTheChainsThatCanBeRead(t *testing.T) {
	f := newFixture(t)
	if got, err := f.OldestSync(t.Context(), []uint64{1}); err != nil || !got.IsZero() {
		t.Errorf("without wallets: %s, %v", got, err)
	}
	f.save(t, f.create(t, f.owner, 1), 50)
	other := fresh(f.owner, 2)
	other.Account = caip.Account{Chain: 11, Address: common.Address{2}}
	if _, err := f.Create(t.Context(), other, many, nil); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		chains []uint64
		want   time.Time
	}{{[]uint64{1}, at(50)}, {[]uint64{1, 11}, at(0)}, {[]uint64{2}, time.Time{}}, {nil, time.Time{}}} {
		if got, err := f.OldestSync(t.Context(), tc.chains); err != nil || !got.Equal(tc.want) {
			t.Errorf("of %v: %s, %v, want %s", tc.chains, got, err, tc.want)
		}
	}
}
