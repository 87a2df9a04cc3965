package store_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/holiman/uint256"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

func (f fixture) amounts(t *testing.T, w wallet.Wallet) (out []string) {
	t.Helper()
	balances, err := f.Balances(t.Context(), w.Owner, w.ID, "", 100)
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range balances {
		out = append(out, b.Token.Symbol+" "+b.Amount.Dec())
	}
	return out
}

func TestAmountsRoundTripExactly(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	for name, text := range map[string]string{
		"zero":                  "0",
		"one":                   "1",
		"past a float's digits": "9007199254740993",
		"past 64 bits":          "18446744073709551616",
		"a 1 with 77 zeros":     "1" + zeros(77),
		"2^256-1": "115792089237316195423570985008687907853269" +
			"984665640564039457584007913129639935",
		"a round number of 78 digits": "1" + "15792" + zeros(72),
	} {
		t.Run(name, func(t *testing.T) {
			b := balance(f.tokens[0], 0, 1)
			b.Amount = *uint256.MustFromDecimal(text)
			f.save(t, w, 1, b)
			got, err := f.Balances(t.Context(), f.owner, w.ID, "", 10)
			if err != nil || len(got) != 1 || got[0].Amount.Dec() != text {
				t.Fatalf("%s came back as %v, %v", text, got, err)
			}
			rows, err := f.Holdings(t.Context(), f.owner, holding.Cursor{}, 10)
			if err != nil || len(rows) != 1 {
				t.Fatal(rows, err)
			}
			switch b := rows[0].Balance; {
			case text == "0" && b != nil:
				t.Error("a zero is held")
			case text != "0" && (b == nil || b.Amount.Dec() != text):
				t.Errorf("%s is held as %v", text, b)
			}
		})
	}
}

func zeros(n int) string { return string(slices.Repeat([]byte("0"), n)) }

func TestBalancesGoForwardByBlockOnly(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	a, b := f.tokens[0], f.tokens[1]
	for _, tc := range []struct {
		name  string
		block uint64
		save  []wallet.Balance
		want  []string
		at    uint64 // the wallet's block after
	}{
		{"a first reading", 10, []wallet.Balance{balance(a, 5, 10), balance(b, 6, 10)}, []string{"T0 5", "T1 6"}, 10},
		{"an older block changes nothing", 9, []wallet.Balance{balance(a, 1, 9), balance(b, 1, 9)},
			[]string{"T0 5", "T1 6"}, 10},
		{"the same block may be read again", 10, []wallet.Balance{balance(a, 7, 10)}, []string{"T0 7", "T1 6"}, 10},
		{"a token that was not read keeps its balance", 11, []wallet.Balance{balance(b, 8, 11)},
			[]string{"T0 7", "T1 8"}, 11},
		{"a zero is stored as zero", 12, []wallet.Balance{balance(a, 0, 12)}, []string{"T0 0", "T1 8"}, 12},
		{"no balance at all", 13, nil, []string{"T0 0", "T1 8"}, 13},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f.save(t, w, tc.block, tc.save...)
			if got := f.amounts(t, w); !slices.Equal(got, tc.want) {
				t.Errorf("balances %v, want %v", got, tc.want)
			}
			got, err := f.ByID(t.Context(), f.owner, w.ID)
			if err != nil || got.Sync.Block != tc.at || !got.Sync.At.Equal(at(int(tc.at))) || got.Version != 1 {
				t.Errorf("the wallet is at %+v, %v", got.Sync, err)
			}
		})
	}
	list, err := f.List(t.Context(), f.owner, uuid.Nil, 10, withBalances)
	if err != nil || len(list) != 1 || len(list[0].Balances) != 1 {
		t.Errorf("the list shows the zero: %+v, %v", list, err)
	}
}

// A block with a lower number and a later time is of a chain that was reset.
func TestAfterAResetOfTheChainBalancesAreThoseOfTheNewOne(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	later := func(b wallet.Balance, number uint64) wallet.Balance {
		b.Block.Number, b.Block.Time = number, at(500)
		return b
	}
	f.save(t, w, 100, balance(f.tokens[0], 5, 100), balance(f.tokens[1], 6, 100))
	reset := synced(3)
	moment := at(500)
	reset.At = &moment
	if err := f.SaveBalances(t.Context(), f.owner, w.ID, []wallet.Balance{later(balance(f.tokens[0], 7, 3), 3)},
		reset); err != nil {
		t.Fatal(err)
	}
	f.save(t, w, 101, balance(f.tokens[1], 1, 99)) // of the chain before, and late
	got, err := f.ByID(t.Context(), f.owner, w.ID)
	if err != nil || got.Sync.Block != 3 || !got.Sync.At.Equal(at(500)) {
		t.Errorf("the wallet is at %+v, %v", got.Sync, err)
	}
	if got := f.amounts(t, w); !slices.Equal(got, []string{"T0 7", "T1 6"}) {
		t.Errorf("balances %v", got)
	}
}

// A node for development that goes back to an earlier block sets its clock back too.
func TestASyncThatKnowsTheLastOneIsNewerWhateverItsTime(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	f.save(t, w, 100, balance(f.tokens[0], 5, 100))
	before := at(50)
	for _, tc := range []struct {
		last *wallet.Success
		want uint64
	}{{nil, 100}, {&wallet.Success{Block: 99, At: at(100)}, 100}, {&wallet.Success{Block: 100, At: at(100)}, 101}} {
		state := wallet.Sync{State: wallet.Synced, Block: 101, At: &before, Last: tc.last}
		for name, save := range map[string]func() error{
			"alone": func() error { return f.SaveBalances(t.Context(), f.owner, w.ID, nil, state) },
			"in a batch": func() error {
				return f.SaveOutcomes(t.Context(), []balancesync.Outcome{{Wallet: w, Sync: state}})
			},
		} {
			if _, err := f.db.SQL().ExecContext(t.Context(), "UPDATE wallets SET synced_block = 100, synced_at = $1",
				at(100)); err != nil {
				t.Fatal(err)
			}
			if err := save(); err != nil {
				t.Fatal(err)
			}
			got, err := f.ByID(t.Context(), f.owner, w.ID)
			if err != nil || got.Sync.Block != tc.want {
				t.Errorf("%s, after %v: %+v, %v", name, tc.last, got.Sync, err)
			}
		}
	}
}

func TestBlocksAndHashesAreStored(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	want := balance(f.tokens[0], 1, 41)
	f.save(t, w, 41, want)
	got, err := f.Balances(t.Context(), f.owner, w.ID, "", 1)
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	if got[0].Block.Number != 41 || got[0].Block.Hash != want.Block.Hash ||
		!got[0].Block.Time.Equal(want.Block.Time) ||
		got[0].Token != want.Token {
		t.Errorf("%+v came back as %+v", want, got[0])
	}
}

func TestABalanceOfAnUnknownTokenStoresNothingAtAll(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	before := f.dump(t)
	unknown := tokens(4)[3]
	err := f.SaveBalances(t.Context(), f.owner, w.ID,
		[]wallet.Balance{balance(f.tokens[0], 1, 1), balance(unknown, 1, 1)}, synced(1))
	if err == nil || f.dump(t) != before {
		t.Errorf("stored in part, %v", err)
	}
}

func TestPagesOfBalancesAndWalletsHaveEveryRowOnce(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	f.save(t, w, 1, balance(f.tokens[0], 1, 1), balance(f.tokens[1], 0, 1), balance(f.tokens[2], 3, 1))
	var seen []string
	for after := ""; ; {
		got, err := f.Balances(t.Context(), f.owner, w.ID, after, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			break
		}
		after = got[0].Token.ID
		seen = append(seen, got[0].Token.Symbol)
	}
	if !slices.Equal(seen, []string{"T0", "T1", "T2"}) {
		t.Errorf("balances of one a page: %v", seen)
	}
	ids := map[uuid.UUID]bool{w.ID: true}
	for i := range 6 {
		ids[f.create(t, f.owner, byte(2+i)).ID] = true
	}
	f.create(t, uuid.New(), 1)
	for after := uuid.Nil; ; {
		got, err := f.List(t.Context(), f.owner, after, 3, wallet.Listing{})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			break
		}
		for _, w := range got {
			if !ids[w.ID] {
				t.Errorf("%s comes twice, or isn't the owner's", w.ID)
			}
			delete(ids, w.ID)
			after = w.ID
		}
	}
	if len(ids) != 0 {
		t.Errorf("%d wallets were passed over", len(ids))
	}
}

// Whatever the wallets hold and whatever the size of a page, the pages have
// every holding once, and every wallet that holds nothing once.
func TestPagesOfHoldingsHaveEveryRowOnce(t *testing.T) {
	f := newFixture(t)
	account := byte(0)
	rapid.Check(t, func(r *rapid.T) {
		owner := uuid.New()
		type key struct {
			wallet uuid.UUID
			token  string
		}
		want := map[key]uint64{}
		for range rapid.IntRange(0, 4).Draw(r, "wallets") {
			account++
			w := f.create(t, owner, account)
			var balances []wallet.Balance
			held := 0
			for i, amount := range rapid.SliceOfN(rapid.Uint64Range(0, 2), 0, len(f.tokens)).Draw(r, "amounts") {
				balances = append(balances, balance(f.tokens[i], amount, 1))
				if amount > 0 {
					want[key{w.ID, f.tokens[i].ID}] = amount
					held++
				}
			}
			if held == 0 {
				want[key{wallet: w.ID}] = 0
			}
			if len(balances) > 0 {
				f.save(t, w, 1, balances...)
			}
		}
		limit := rapid.IntRange(1, 5).Draw(r, "limit")
		last := key{}
		for after := (holding.Cursor{}); ; {
			rows, err := f.Holdings(context.Background(), owner, after, limit)
			if err != nil || len(rows) > limit {
				r.Fatal(len(rows), err)
			}
			for _, row := range rows {
				k, amount := key{wallet: row.Wallet.ID}, uint64(0)
				if row.Balance != nil {
					k.token, amount = row.Balance.Token.ID, row.Balance.Amount.Uint64()
				}
				if got, ok := want[k]; !ok || got != amount {
					r.Fatalf("%v comes twice or wrong", k)
				}
				if k.wallet.String() < last.wallet.String() || k.wallet == last.wallet && k.token <= last.token {
					r.Fatalf("%v comes after %v", k, last)
				}
				delete(want, k)
				last = k
			}
			if len(rows) < limit {
				break
			}
			after = holding.Cursor{Wallet: last.wallet, Token: last.token}
		}
		if len(want) > 0 {
			r.Fatalf("passed over: %v", want)
		}
	})
}
