package store_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// changes are the kinds in the feed after the first n, with the block of balances.
func (f fixture) changes(t *testing.T, w wallet.Wallet, n int) (out []string) {
	t.Helper()
	var rows []struct {
		OwnerID, SubjectID uuid.UUID
		Kind               string
		Version            int64
	}
	err := f.db.Gorm(t.Context()).Raw("SELECT * FROM changes ORDER BY id OFFSET ?", n).Scan(&rows).Error
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.OwnerID != w.Owner || r.SubjectID != w.ID {
			t.Errorf("a change of %s of %s", r.SubjectID, r.OwnerID)
		}
		text := r.Kind
		if r.Version != 0 {
			text += fmt.Sprint(" ", r.Version)
		}
		out = append(out, text)
	}
	return out
}

func TestWhatIsAChange(t *testing.T) {
	f := newFixture(t)
	woken := 0
	f.WakeAfterCommit(func() { woken++ })
	w := f.create(t, f.owner, 1)
	a, b := f.tokens[0], f.tokens[1]
	round := func(block uint64, balances ...wallet.Balance) func() error {
		return func() error {
			return f.SaveOutcomes(t.Context(), []balancesync.Outcome{{Wallet: w, Sync: synced(block),
				Balances: balances}})
		}
	}
	one := func(block uint64, balances ...wallet.Balance) func() error {
		return func() error { return f.SaveBalances(t.Context(), f.owner, w.ID, balances, synced(block)) }
	}
	total := 1
	if got := f.changes(t, w, 0); !slices.Equal(got, []string{"WALLET_CREATED"}) {
		t.Fatal(got)
	}
	relabel := func(fails error) func() error {
		return func() error {
			_, err := f.Update(t.Context(), f.owner, w.ID, nil, func(w *wallet.Wallet) error {
				w.Label = "new"
				return fails
			})
			return err
		}
	}
	for _, tc := range []struct {
		name string
		do   func() error
		want []string
	}{
		{"a sync that begins", func() error {
			return f.SaveSync(t.Context(), f.owner, w.ID, wallet.Sync{State: wallet.Syncing})
		}, nil},
		{"the first sync, of an empty wallet", one(3, balance(a, 0, 3), balance(b, 0, 3)),
			[]string{"BALANCES_CHANGED 3"}},
		{"the same again", one(4, balance(a, 0, 4), balance(b, 0, 4)), nil},
		{"two other amounts", one(5, balance(a, 1, 5), balance(b, 2, 5)), []string{"BALANCES_CHANGED 5"}},
		{"one of an older block", one(4, balance(a, 9, 4), balance(b, 9, 4)), nil},
		{"the job, with the same", round(6, balance(a, 1, 6), balance(b, 2, 6)), nil},
		{"the job, with another", round(7, balance(a, 1, 7), balance(b, 3, 7)), []string{"BALANCES_CHANGED 7"}},
		{"a new token that isn't held", round(8, balance(f.tokens[2], 0, 8)), nil},
		{"all gone", round(9, balance(a, 0, 9), balance(b, 0, 9)), []string{"BALANCES_CHANGED 9"}},
		{"a failed sync", round(10), nil},
		{"another label", relabel(nil), []string{"WALLET_UPDATED"}},
		{"a label of a version that is gone", func() error {
			if err := relabel(wallet.Mismatch("", "x"))(); err == nil {
				t.Error("it was stored")
			}
			return nil
		}, nil},
		{"nothing to change", relabel(wallet.ErrUnchanged), nil},
		{"the end of it", func() error {
			_, err := f.Delete(t.Context(), f.owner, w.ID, 0, nil)
			return err
		}, []string{"WALLET_DELETED"}},
		{"a sync that was under way", round(11, balance(a, 5, 11)), nil},
	} {
		before := woken
		if err := tc.do(); err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		got := f.changes(t, w, total)
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
		if total += len(got); woken == before {
			t.Errorf("%s: nobody was woken", tc.name)
		}
	}
}

func TestOfAnErasedOwnerTheFeedHasOnlyThat(t *testing.T) {
	f := newFixture(t)
	owners := store.NewOwners(f.db.DB, caches(t, noRedis))
	w := f.create(t, f.owner, 1)
	f.save(t, w, 1, balance(f.tokens[0], 1, 1))
	if _, err := f.Delete(t.Context(), f.owner, w.ID, 0, nil); err != nil {
		t.Fatal(err)
	}
	list := func() []uuid.UUID {
		ids, err := owners.Owners(t.Context(), uuid.Nil, 10)
		if err != nil {
			t.Fatal(err)
		}
		return ids
	}
	if got := list(); !slices.Equal(got, []uuid.UUID{f.owner}) { // of whom only changes are left
		t.Error(got)
	}
	for more := true; more; {
		err := postgres.InTx(t.Context(), f.db.DB, func(tx *gorm.DB) (err error) {
			_, more, err = owners.EraseSome(tx, f.owner)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := f.changes(t, wallet.Wallet{Owner: f.owner}, 0); !slices.Equal(got, []string{"OWNER_ERASED"}) {
		t.Error(got)
	}
	if got := list(); len(got) != 0 {
		t.Error(got)
	}
}

// The pages of all shards together have every row once, in order, whatever their size.
func TestTheShardsHaveEveryHoldingOnce(t *testing.T) {
	f := newFixture(t)
	want := map[string]bool{}
	for o := range 12 {
		owner := uuid.New()
		owner[15] = byte(o)
		for n := range 3 {
			w := f.create(t, owner, byte(n))
			if n == 0 {
				want[fmt.Sprint(owner, w.ID)] = true // without balances
				continue
			}
			for i, token := range f.tokens[:n+1] {
				f.save(t, w, 1, balance(token, uint64(i+1), 1))
				want[fmt.Sprint(owner, w.ID, token.ID)] = true
			}
		}
	}
	for _, limit := range []int{1, 2, 7, 1000} {
		got := map[string]bool{}
		for shard := range 3 {
			for after := (holding.ShardCursor{}); ; {
				rows, err := f.ShardHoldings(t.Context(), shard, 3, after, limit)
				if err != nil {
					t.Fatal(err)
				}
				for _, r := range rows {
					next := holding.ShardCursor{Owner: r.Wallet.Owner, Cursor: holding.Cursor{Wallet: r.Wallet.ID}}
					key := fmt.Sprint(r.Wallet.Owner, r.Wallet.ID)
					if r.Balance != nil {
						next.Token = r.Balance.Token.ID
						key = fmt.Sprint(r.Wallet.Owner, r.Wallet.ID, next.Token)
					}
					if got[key] || int(r.Wallet.Owner[15])%3 != shard {
						t.Fatalf("%s comes twice, or in shard %d", key, shard)
					}
					got[key] = true
					if a, b := fmt.Sprint(after), fmt.Sprint(next); a >= b && after.Owner != uuid.Nil {
						t.Fatalf("%s comes after %s", b, a)
					}
					after = next
				}
				if len(rows) < limit {
					break
				}
			}
		}
		if len(got) != len(want) {
			t.Errorf("pages of %d: %d of %d rows", limit, len(got), len(want))
		}
		for key := range want {
			if !got[key] {
				t.Errorf("pages of %d: %s is missing", limit, key)
			}
		}
	}
}
