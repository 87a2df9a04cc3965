package store_test

import (
	"testing"

	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/chainreset"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// synced stores a balance of the wallet at a block, at a second.
func (f fixture) synced(t *testing.T, w wallet.Wallet, number uint64, second int) wallet.Sync {
	t.Helper()
	at := at(second)
	s := wallet.Sync{State: wallet.Synced, Block: number, At: &at}
	err := f.SaveBalances(t.Context(), f.owner, w.ID, []wallet.Balance{{Token: f.tokens[0],
		Amount: *uint256.NewInt(number), Block: block.Block{Number: number, Time: at}}}, s)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// A sync that began before its chain was forgotten doesn't bring back the block that it knew, by which the wallet
// would be frozen again. The first sync after it, at a lower block and an earlier time, does.
func TestASyncFromBeforeAChainWasForgottenDoesNotFreezeItsWallet(t *testing.T) {
	f := newFixture(t)
	resets := store.NewChainResets(f.db.DB, f.Wallets)
	for name, save := range map[string]func(w wallet.Wallet, known wallet.Sync) error{
		"a failed sync": func(w wallet.Wallet, known wallet.Sync) error {
			known.State = wallet.Failed
			return f.SaveSync(t.Context(), f.owner, w.ID, known)
		},
		"a failed one of the job": func(w wallet.Wallet, known wallet.Sync) error {
			known.State = wallet.Failed
			return f.SaveOutcomes(t.Context(), []balancesync.Outcome{{Wallet: w, Sync: known}})
		},
		"one of the job that was cut off": func(w wallet.Wallet, known wallet.Sync) error {
			return f.SaveOutcomes(t.Context(), []balancesync.Outcome{{Wallet: w, Sync: known, Unchanged: true}})
		},
		"one that knew of a block": func(w wallet.Wallet, known wallet.Sync) error {
			known.Last = &wallet.Success{Block: known.Block, At: *known.At}
			return f.SaveBalances(t.Context(), f.owner, w.ID, nil, known)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := f.create(t, f.owner, byte(len(name)))
			other := f.create(t, uuid.New(), 1)
			known := f.synced(t, w, 900, 50)
			if _, err := resets.Forget(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			if err := save(w, known); err != nil {
				t.Fatal(err)
			}
			got, err := f.ByID(t.Context(), f.owner, w.ID)
			if err != nil || got.Sync.Block != 0 || got.Sync.At != nil {
				t.Errorf("it is at block %d again, of %v: %v", got.Sync.Block, got.Sync.At, err)
			}
			f.synced(t, w, 3, 10)
			got, err = f.ByID(t.Context(), f.owner, w.ID)
			balances, listErr := f.Balances(t.Context(), f.owner, w.ID, "", 10)
			if err != nil || listErr != nil || got.Sync.Block != 3 || len(balances) != 1 ||
				balances[0].Amount.Uint64() != 3 {
				t.Errorf("the first sync after it: %+v, %+v, %v, %v", got.Sync, balances, err, listErr)
			}
			if _, err := f.ByID(t.Context(), other.Owner, other.ID); err != nil {
				t.Error(err)
			}
			if err := f.db.SQL().QueryRowContext(t.Context(), "DELETE FROM wallets RETURNING 1").Err(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// What is kept of a chain comes back newest first, and a look that is too near to the one before doesn't count.
func TestRecordsOfChains(t *testing.T) {
	f := newFixture(t)
	resets := store.NewChainResets(f.db.DB, f.Wallets)
	blocks := []block.Block{{Number: 0, Hash: [32]byte{1}}, {Number: 7, Hash: [32]byte{7}}, {Number: 3}}
	if err := resets.Keep(t.Context(), 5, blocks, nil); err != nil {
		t.Fatal(err)
	}
	if err := resets.Keep(t.Context(), 5, []block.Block{{Number: 7, Hash: [32]byte{8}}}, []uint64{3, 7}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		if _, err := resets.Suspect(t.Context(), 5, "other blocks"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := resets.Record(t.Context(), 5)
	if err != nil || len(got.Blocks) != 2 || got.Blocks[0].Number != 7 || got.Blocks[0].Hash != [32]byte{8} ||
		got.SuspectedAt == nil || got.Seen < 1 || got.Evidence != "other blocks" || got.Now.IsZero() {
		t.Errorf("%+v, %v", got, err)
	}
	if err := resets.Keep(t.Context(), 5, nil, nil); err != nil {
		t.Fatal(err)
	}
	if got, err = resets.Record(t.Context(), 5); err != nil || got.SuspectedAt != nil || got.Seen != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err = resets.Record(t.Context(), 6); err != nil || len(got.Blocks) != 0 || got.Forgetting {
		t.Errorf("of a chain that is new: %+v, %v", got, err)
	}
	var _ chainreset.Store = resets
}
