package store_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/google/uuid"
	"github.com/holiman/uint256"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// on is f as a replica on this Redis.
func (f fixture) on(t *testing.T, redisURL string) fixture {
	t.Helper()
	f.Wallets = store.NewWallets(f.db.DB, caches(t, redisURL))
	return f
}

func (f fixture) labels(ctx context.Context, t *testing.T, owner uuid.UUID) (labels []string) {
	t.Helper()
	list, err := f.List(ctx, owner, uuid.Nil, 10, wallet.Listing{})
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range list {
		labels = append(labels, w.Label)
	}
	return labels
}

func TestAPageFromTheCacheIsThePageOfTheDatabase(t *testing.T) {
	f := newFixture(t).on(t, testkit.Redis(t).URL())
	b := balance(f.tokens[1], 0, 1)
	b.Amount = *new(uint256.Int).SetAllOne() // 2^256-1
	f.save(t, f.create(t, f.owner, 1), 1, balance(f.tokens[0], 7, 1), b)
	f.create(t, f.owner, 2)
	other := uuid.New()
	f.create(t, other, 3)
	for _, tc := range []struct {
		name       string
		owner      uuid.UUID
		limit      int
		balances   bool
		statements int
		wallets    int
	}{
		{"without balances", f.owner, 10, false, 1, 2},
		{"with balances", f.owner, 10, true, 2, 2},
		{"another size", f.owner, 1, false, 1, 1},
		{"of somebody else", other, 10, false, 1, 1},
		{"of somebody who has none", uuid.New(), 10, false, 1, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var pages [2][]wallet.Wallet
			for i, want := range []int{tc.statements, 0} {
				n := f.statements(t, func(ctx context.Context) (err error) {
					pages[i], err = f.List(ctx, tc.owner, uuid.Nil, tc.limit, wallet.Listing{Balances: tc.balances})
					return err
				})
				if n != want || len(pages[i]) != tc.wallets {
					t.Errorf("reading %d took %d statements for %d wallets, want %d for %d", i, n, len(pages[i]), want,
						tc.wallets)
				}
			}
			for i, w := range pages[1] {
				if w.Owner != tc.owner || text(w) != text(pages[0][i]) {
					t.Errorf("%s came back as %s", text(pages[0][i]), text(w))
				}
			}
		})
	}
}

// text has everything of a wallet, times as their instants.
func text(w wallet.Wallet) string {
	s := fmt.Sprint(w.ID, w.Owner, w.Account, w.Label, w.Version, w.CreatedAt.UnixNano(), w.UpdatedAt.UnixNano(),
		w.Sync.State, w.Sync.Block)
	if w.Sync.At != nil {
		s += fmt.Sprint(" at ", w.Sync.At.UnixNano())
	}
	for _, b := range w.Balances {
		s += fmt.Sprint(", ", b.Token, b.Amount.Dec(), b.Block.Number, b.Block.Hash, b.Block.Time.UnixNano())
	}
	return s
}

// A reader that has read before a write, and stores after it, stores under a
// generation that nobody asks for any more.
func TestAReadThatAWriteOvertakesCachesNothingOld(t *testing.T) {
	redis := testkit.Redis(t).URL()
	f := newFixture(t).on(t, redis)
	other := f.on(t, redis)
	w := f.create(t, f.owner, 1)
	var overtaken atomic.Bool
	overtake := func(tx *gorm.DB) {
		if tx.Statement.Table != "wallets" || overtaken.Swap(true) { // or the write itself, which reads too
			return
		}
		w.Label = "new"
		if err := saveLabel(t.Context(), other.Wallets, f.owner, w); err != nil {
			t.Error(err)
		}
	}
	if err := f.db.Gorm(t.Context()).Callback().Query().After("gorm:query").Register("overtake",
		overtake); err != nil {
		t.Fatal(err)
	}
	if got := f.labels(t.Context(), t, f.owner); fmt.Sprint(got) != "[mine]" {
		t.Fatalf("the reader has %v: it was not overtaken", got)
	}
	for name, s := range map[string]fixture{"its own replica": f, "the other": other} {
		if got := s.labels(t.Context(), t, f.owner); fmt.Sprint(got) != "[new]" {
			t.Errorf("later %s answers %v", name, got)
		}
	}
}

func TestATransactionThatFailsInvalidatesNothing(t *testing.T) {
	f := newFixture(t).on(t, testkit.Redis(t).URL())
	w := f.create(t, f.owner, 1)
	f.labels(t.Context(), t, f.owner)
	before := f.notes(t)
	w.Version = 7
	if err := saveLabel(t.Context(), f.Wallets, f.owner, w); !errs.Is(err, errs.KindConflict) {
		t.Fatal(err)
	}
	n := f.statements(t, func(ctx context.Context) error { f.labels(ctx, t, f.owner); return nil })
	if n != 0 || f.notes(t) != before {
		t.Errorf("%d statements to list again, %d notes", n, f.notes(t)-before)
	}
}

func (f fixture) notes(t *testing.T) (n int) {
	t.Helper()
	if err := f.db.SQL().QueryRowContext(t.Context(),
		"SELECT count(*) FROM cache_invalidations").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestOnlyTokensThatChangedAreInvalidated(t *testing.T) {
	f := newFixture(t)
	redis := testkit.Redis(t).URL()
	here, there := store.NewTokens(f.db.DB, caches(t, redis)), store.NewTokens(f.db.DB, caches(t, redis))
	list := tokens(3)
	for _, step := range []struct {
		name   string
		change func()
		notes  int
		want   string
	}{
		{"the list as it was", func() {}, 0, "T0 T1 T2"},
		{"a token with another symbol", func() { list[1].Symbol = "X" }, 2, "T0 X T2"},
		{"the same list again", func() {}, 0, "T0 X T2"},
		{"a list of none", func() { list = nil }, 0, "T0 X T2"},
	} {
		before := f.notes(t)
		step.change()
		if err := here.Put(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		if n := f.notes(t) - before; n != step.notes { // one for the token, one for all pages that show tokens
			t.Errorf("%s: %d notes, want %d", step.name, n, step.notes)
		}
		var got []string
		for _, token := range f.tokens {
			for range 2 { // the second from the cache
				known, err := there.ByID(t.Context(), token.ID)
				if err != nil || known.Decimals != token.Decimals || known.Contract != token.Contract {
					t.Fatal(known, err)
				}
				token.Symbol = known.Symbol
			}
			got = append(got, token.Symbol)
		}
		if fmt.Sprint(got) != "["+step.want+"]" {
			t.Errorf("%s: the other replica has %v, want %s", step.name, got, step.want)
		}
	}
}

func TestAKnownTokenIsCachedAndAnUnknownOneIsFoundOnceItIsStored(t *testing.T) {
	f := newFixture(t)
	c := caches(t, testkit.Redis(t).URL())
	known, prices := store.NewTokens(f.db.DB, c), store.NewPrices(f.db.DB, store.NewTokens(f.db.DB, c))
	fourth := tokens(4)[3]
	ids := []string{f.tokens[0].ID, f.tokens[1].ID}
	ask := func(ids ...string) (found int, statements int) {
		statements = f.statements(t, func(ctx context.Context) error {
			got, err := prices.Tokens(ctx, ids)
			found = len(got)
			return err
		})
		return found, statements
	}
	for i, want := range []int{1, 0} {
		if found, n := ask(ids...); found != 2 || n != want {
			t.Errorf("reading %d found %d of 2 tokens with %d statements, want %d", i, found, n, want)
		}
	}
	if found, _ := ask(append(ids, fourth.ID)...); found != 2 {
		t.Errorf("found %d tokens, one of them made up", found)
	}
	if _, err := known.ByID(t.Context(), fourth.ID); !errs.Is(err, errs.KindNotFound) {
		t.Fatal(err)
	}
	if _, err := f.db.SQL().ExecContext(t.Context(),
		"INSERT INTO tokens SELECT $1, chain, 'x', symbol, name, decimals, verified FROM tokens WHERE id = $2",
		fourth.ID, ids[0]); err != nil {
		t.Fatal(err)
	}
	if found, _ := ask(append(ids, fourth.ID)...); found != 3 {
		t.Errorf("found %d of 3 tokens: that there was none is cached", found)
	}
	if _, err := known.ByID(t.Context(), fourth.ID); err != nil {
		t.Error(err)
	}
}
