package store_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/wallet/internal/asof"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/importing"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

func (f fixture) importBalance(t *testing.T, w wallet.Wallet, k token.Token, when time.Time,
	amount uint64) importing.Result {
	t.Helper()
	r, err := f.ImportBalances(t.Context(), w.Owner, w.ID, []importing.Balance{{Row: 1, Token: k.ID,
		Amount: *uint256.NewInt(amount), At: when}}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (f fixture) importMove(t *testing.T, w wallet.Wallet, id string, k token.Token, when time.Time,
	amount int64) importing.Result {
	t.Helper()
	row := importing.Transaction{Row: 1, ID: id, Token: k.ID, Kind: transaction.Transfer, At: when, Out: amount < 0,
		Amount: *uint256.NewInt(uint64(max(amount, -amount)))}
	r, err := f.ImportTransactions(t.Context(), w.Owner, w.ID, []importing.Transaction{row}, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// balanceText is what a wallet had of a token at a time, as a text.
func (f fixture) balanceText(t *testing.T, w wallet.Wallet, k token.Token, when time.Time) string {
	t.Helper()
	rows, err := f.BalancesAt(t.Context(), asof.Query{Owner: w.Owner, Wallet: w.ID, At: when, Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if r.Token != nil && r.Token.ID == k.ID {
			if r.Reason != "" {
				return string(r.Reason)
			}
			of := map[asof.Basis]string{asof.Read: "read", asof.CarriedForward: "carried from",
				asof.Moved: "moved until"}
			place := fmt.Sprint(" block ", r.Block)
			if r.Imported {
				place = fmt.Sprint(" import ", int(r.At.Sub(at(0))/time.Second))
			}
			return r.Amount.Dec() + " " + of[r.Basis] + place
		}
	}
	return "nothing"
}

func (f fixture) wantTold(t *testing.T, w wallet.Wallet, k token.Token, want map[int]string) {
	t.Helper()
	for second, text := range want {
		if got := f.balanceText(t, w, k, at(second)); got != text {
			t.Errorf("at %d: %s, want %s", second, got, text)
		}
	}
}

func TestAmountsOfATimeSayWhatTheyRestOn(t *testing.T) {
	f := newFixture(t)
	w, k := f.create(t, f.owner, 1), f.tokens[0]
	f.wantTold(t, w, k, map[int]string{100: "nothing"})
	f.save(t, w, 10, balance(k, 0, 10))
	f.save(t, w, 20, balance(k, 0, 20))
	f.save(t, w, 30, balance(k, 7, 30), balance(f.tokens[1], 9, 30))
	f.save(t, w, 40, balance(k, 7, 40), balance(f.tokens[1], 9, 40))
	f.wantTold(t, w, k, map[int]string{9: "NOT_READ", 10: "0 carried from block 10", 29: "0 carried from block 10",
		30: "7 carried from block 30", 39: "7 carried from block 30", 40: "7 carried from block 40",
		99: "7 carried from block 40"})
	f.wantTold(t, w, f.tokens[1], map[int]string{29: "NOT_READ", 30: "9 carried from block 30"})
	// Movements between two readings.
	moved := store.NewTransactions(f.db.DB, store.NewTokens(f.db.DB, caches(t, noRedis)))
	step := transaction.Step{Chain: 1, Scans: []transaction.Scan{{Wallet: w.ID, Account: w.Account, Synced: 40}},
		Through: block.Block{Number: 40}}
	for i, m := range []struct {
		block  uint64
		amount uint64
		out    bool
	}{{22, 12, false}, {25, 5, true}, {35, 100, true}, {36, 100, false}} {
		found := transaction.Found{Holder: w.Account.Address, Contract: k.Contract, Kind: transaction.Transfer,
			Direction: transaction.In, Amount: *uint256.NewInt(m.amount), LogIndex: int32(i),
			At: block.Block{Number: m.block, Time: at(int(m.block))}}
		if m.out {
			found.Direction = transaction.Out
		}
		step.Found = append(step.Found, found)
	}
	if _, err := moved.SaveStep(t.Context(), step); err != nil {
		t.Fatal(err)
	}
	f.wantTold(t, w, k, map[int]string{21: "0 carried from block 10", 22: "12 moved until block 22",
		24: "12 moved until block 22", 26: "7 moved until block 25", 30: "7 carried from block 30", 35: "IMPLAUSIBLE",
		36: "7 moved until block 36", 40: "7 carried from block 40"})
	// An hour that was read, whose block is before it.
	hour := at(0).Truncate(time.Hour).Add(time.Hour)
	_, err := f.db.SQL().ExecContext(t.Context(), `
		WITH block AS (INSERT INTO chain_hours (chain, hour, block_number, block_hash, block_time)
		  VALUES (1, $2, 50, '', $3))
		INSERT INTO wallet_history (wallet_id, hour, hours, asset_count, read_at) VALUES ($1, $2, 1, 3, now())`, w.ID,
		hour, hour.Add(-5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if got := f.balanceText(t, w, k, hour); got != "0 read block 50" {
		t.Errorf("at an hour without a balance: %s", got)
	}
	if got := f.balanceText(t, w, f.tokens[2], hour); got != "nothing" {
		t.Errorf("of a token that was never read: %s", got)
	}
	if _, err := f.db.SQL().ExecContext(t.Context(), `
		INSERT INTO balance_history (wallet_id, hour, token_id, amount) VALUES ($1, $2, $3, 4)`, w.ID, hour,
		f.tokens[2].ID); err != nil {
		t.Fatal(err)
	}
	if got := f.balanceText(t, w, f.tokens[2], hour); got != "4 read block 50" {
		t.Errorf("of a token that was read in that hour only: %s", got)
	}
	if got := f.balanceText(t, w, f.tokens[2], hour.Add(time.Minute)); got != "4 carried from block 50" {
		t.Errorf("a minute later: %s", got)
	}
	// Where a token could not be read it is not zero.
	_, err = f.db.SQL().ExecContext(t.Context(), `UPDATE wallet_history SET unread = 'not readable: T0'`)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.balanceText(t, w, k, hour); got != "7 carried from block 40" {
		t.Errorf("in an hour in which something could not be read: %s", got)
	}
}

func TestImportsComeBeforeTheChain(t *testing.T) {
	f := newFixture(t)
	w, k := f.create(t, f.owner, 1), f.tokens[0]
	f.importBalance(t, w, k, at(10), 100)
	f.importBalance(t, w, k, at(20), 50)
	f.importMove(t, w, "a", k, at(15), -30)
	f.importMove(t, w, "b", k, at(25), 8)
	f.checkSums(t)
	f.wantTold(t, w, k, map[int]string{9: "NOT_READ", 10: "100 carried from import 10", 16: "70 moved until import 15",
		20: "50 carried from import 20", 30: "58 moved until import 25"})
	list, err := f.Balances(t.Context(), f.owner, w.ID, "", 10)
	if err != nil || len(list) != 1 || list[0].Amount.Dec() != "58" || !list[0].Imported ||
		!list[0].Block.Time.Equal(at(25)) {
		t.Fatalf("the balance is %+v, %v", list, err)
	}
	// The chain tells of the token from 22 on: what was imported for 25 is gone, and no import changes what follows.
	f.save(t, w, 40, balance(k, 60, 40))
	f.checkSums(t)
	moved := store.NewTransactions(f.db.DB, store.NewTokens(f.db.DB, caches(t, noRedis)))
	_, err = moved.SaveStep(t.Context(), transaction.Step{Chain: 1, Through: block.Block{Number: 40},
		Scans: []transaction.Scan{{Wallet: w.ID, Account: w.Account, Synced: 40}},
		Found: []transaction.Found{{Holder: w.Account.Address, Contract: k.Contract, Kind: transaction.Transfer,
			Direction: transaction.In, Amount: *uint256.NewInt(3), At: block.Block{Number: 22, Time: at(22)}}}})
	if err != nil {
		t.Fatal(err)
	}
	f.checkSums(t)
	f.wantTold(t, w, k, map[int]string{21: "50 carried from import 20", 30: "53 moved until block 22",
		40: "60 carried from block 40"})
	before := f.ledgerOf(t, w)
	for _, second := range []int{22, 30, 40, 50} {
		if r := f.importBalance(t, w, k, at(second), 1); len(r.Failures) != 1 || r.Failures[0].Field != "time" {
			t.Errorf("an import at %d: %+v", second, r)
		}
		if r := f.importMove(t, w, "c", k, at(second), 1); len(r.Failures) != 1 || r.Failures[0].Field != "time" {
			t.Errorf("an import at %d: %+v", second, r)
		}
	}
	if after := f.ledgerOf(t, w); after != before {
		t.Errorf("refused imports changed\n%s\nto\n%s", before, after)
	}
	// Before it, they are taken still, and only the adjustments change.
	f.importMove(t, w, "d", k, at(21), 2)
	f.importBalance(t, w, k, at(5), 1)
	f.checkSums(t)
	f.wantTold(t, w, k, map[int]string{7: "1 carried from import 5", 30: "55 moved until block 22"})
}

// ledgerOf is all that is stored of a wallet's balances and movements.
func (f fixture) ledgerOf(t *testing.T, w wallet.Wallet) (text string) {
	t.Helper()
	row := f.db.SQL().QueryRowContext(t.Context(), `
		SELECT coalesce((SELECT string_agg(b::text, E'\n' ORDER BY token_id) FROM balances b WHERE wallet_id = $1), '')
		 || E'\n' || coalesce((SELECT string_agg(c::text, E'\n' ORDER BY token_id, block_number)
		                       FROM balance_changes c WHERE wallet_id = $1), '')
		 || E'\n' || coalesce((SELECT string_agg(m::text, E'\n'
		                                         ORDER BY block_number, transaction_index, log_index, token_id)
		                       FROM transactions m WHERE wallet_id = $1), '')`, w.ID)
	if err := row.Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestARowIsKnownByItsKey(t *testing.T) {
	f := newFixture(t)
	w, k := f.create(t, f.owner, 1), f.tokens[0]
	for i, want := range []struct {
		amount uint64
		counts [3]int
	}{{5, [3]int{1, 0, 0}}, {5, [3]int{0, 0, 1}}, {6, [3]int{0, 1, 0}}} {
		r := f.importBalance(t, w, k, at(1), want.amount)
		if got := [3]int{r.Stored, r.Replaced, r.Unchanged}; got != want.counts {
			t.Errorf("balance, time %d: %v", i, got)
		}
	}
	for i, want := range []struct {
		amount int64
		second int
		counts [3]int
	}{{5, 2, [3]int{1, 0, 0}}, {5, 2, [3]int{0, 0, 1}}, {-4, 2, [3]int{0, 1, 0}}, {-4, 3, [3]int{0, 1, 0}}} {
		r := f.importMove(t, w, "x", k, at(want.second), want.amount)
		if got := [3]int{r.Stored, r.Replaced, r.Unchanged}; got != want.counts {
			t.Errorf("transaction, time %d: %v", i, got)
		}
		f.checkSums(t)
	}
	f.wantTold(t, w, k, map[int]string{2: "6 carried from import 1", 3: "2 moved until import 3"})
	// Movements out of nothing: the balance is not below zero.
	f.importMove(t, w, "y", k, at(4), -10)
	f.checkSums(t)
	list, err := f.Balances(t.Context(), f.owner, w.ID, "", 10)
	if err != nil || len(list) != 1 || !list[0].Amount.IsZero() {
		t.Errorf("the balance is %+v, %v", list, err)
	}
	f.wantTold(t, w, k, map[int]string{4: "IMPLAUSIBLE"})
	unknown := token.Token{ID: "eip155:1/erc20:0x00000000000000000000000000000000000000ff"}
	if r := f.importMove(t, w, "z", unknown, at(1), 1); len(r.Failures) != 1 || r.Failures[0].Field != "token_id" {
		t.Errorf("a token that nobody knows: %+v", r)
	}
}

// The search finds a movement before an imported balance, of a token that no sync has read: the balance is of what was
// imported before that movement.
func TestABalanceThatTheChainOvertakesRestsOnNothingThatIsGone(t *testing.T) {
	f := newFixture(t)
	moved := store.NewTransactions(f.db.DB, store.NewTokens(f.db.DB, caches(t, noRedis)))
	w, k := f.create(t, f.owner, 1), f.tokens[1]
	f.importMove(t, w, "row", k, at(-100), 169)
	f.importBalance(t, w, k, at(100), 58)
	f.save(t, w, 5, balance(f.tokens[0], 7, 5))
	due, err := moved.DueScans(t.Context(), 1, 1)
	if err != nil || len(due) != 1 {
		t.Fatal(due, err)
	}
	first := block.Block{Number: 1, Hash: [32]byte{1}, Time: at(1)}
	_, err = moved.SaveStep(t.Context(), transaction.Step{Chain: 1, Through: first, Scans: due,
		Found: []transaction.Found{{Holder: w.Account.Address, Contract: k.Contract, Kind: transaction.Transfer,
			Direction: transaction.In, Amount: *uint256.NewInt(5), At: first}}})
	if err != nil {
		t.Fatal(err)
	}
	f.checkSums(t)
	f.checkOrder(t, w)
	list, err := f.Balances(t.Context(), f.owner, w.ID, "", 10)
	if err != nil || len(list) != 2 || !slices.ContainsFunc(list, func(b wallet.Balance) bool {
		return b.Token.ID == k.ID && b.Amount.Uint64() == 169
	}) {
		t.Errorf("%+v, %v", list, err)
	}
}

// Imports among syncs, searches and reorgs: the sum of the movements is the balance, every import is before the chain,
// and what the chain told is what it would be without imports.
func TestMovementsAddUpWithImportsToo(t *testing.T) {
	for seed := range uint64(testkit.Size(4, 40)) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			f := newFixture(t)
			moved := store.NewTransactions(f.db.DB, store.NewTokens(f.db.DB, caches(t, noRedis)))
			w, twin := f.create(t, f.owner, 1), f.create(t, uuid.New(), 1)
			c := newMadeChain(seed, f.tokens, w.Account.Address)
			imports := rand.New(rand.NewPCG(seed, 2))
			imported := 0
			for range 80 {
				switch imports.IntN(8) {
				case 0:
					c.add()
					f.syncAt(t, []wallet.Wallet{w, twin}, c)
				case 1:
					scan(t, moved, c)
				case 2:
					if imports.IntN(4) == 0 {
						keep := max(1, len(c.blocks)-imports.IntN(3))
						c.blocks = c.blocks[:keep]
						c.add()
						_, err := moved.Rollback(t.Context(), uint64(keep-1), block.Replaced{Chain: 1})
						if err != nil {
							t.Fatal(err)
						}
					}
				default:
					when := at(imports.IntN(400) - 200)
					k := f.tokens[imports.IntN(3)]
					if imports.IntN(2) == 0 {
						imported += f.importBalance(t, w, k, when, imports.Uint64N(1000)).Stored
					} else {
						id := fmt.Sprint("row-", imports.IntN(30))
						imported += f.importMove(t, w, id, k, when, imports.Int64N(400)-200|1).Stored
					}
				}
				f.checkSums(t)
				f.checkOrder(t, w)
			}
			f.syncAll(t, []wallet.Wallet{w, twin}, c)
			for scan(t, moved, c) > 0 {
			}
			f.checkSums(t)
			f.checkOrder(t, w)
			if mine, theirs := f.chainOf(t, w), f.chainOf(t, twin); mine != theirs || mine == "" {
				t.Errorf("the chain tells\n%s\nand with imports\n%s", theirs, mine)
			}
			if imported == 0 {
				t.Error("nothing was imported")
			}
		})
	}
}

// checkOrder holds every import against the first time that the chain tells of its token.
func (f fixture) checkOrder(t *testing.T, w wallet.Wallet) {
	t.Helper()
	var wrong int
	err := f.db.SQL().QueryRowContext(t.Context(), `
		WITH of_chain AS (
		  SELECT token_id, min(at) AS since FROM (
		    SELECT token_id, coalesce(first_block_time, block_time) AS at FROM balances
		    WHERE wallet_id = $1 AND block_number >= 0
		    UNION ALL SELECT token_id, block_time FROM transactions WHERE wallet_id = $1 AND block_number >= 0) AS c
		  GROUP BY 1)
		SELECT count(*) FROM (
		  SELECT token_id, block_time FROM transactions WHERE wallet_id = $1 AND block_number < 0
		  UNION ALL SELECT token_id, block_time FROM balance_changes WHERE wallet_id = $1 AND block_number < 0) AS i
		JOIN of_chain USING (token_id) WHERE i.block_time >= of_chain.since`, w.ID).Scan(&wrong)
	if err != nil || wrong > 0 {
		t.Fatalf("%d imports are not before the chain, %v", wrong, err)
	}
}

// chainOf is what the chain told of a wallet, without adjustments, which imports change.
func (f fixture) chainOf(t *testing.T, w wallet.Wallet) (text string) {
	t.Helper()
	row := f.db.SQL().QueryRowContext(t.Context(), `
		SELECT coalesce((SELECT string_agg(concat_ws(' ', token_id, amount, block_number), E'\n' ORDER BY token_id)
		                 FROM balances WHERE wallet_id = $1), '')
		 || E'\n' || coalesce((SELECT string_agg(concat_ws(' ', token_id, amount, block_number), E'\n'
		                                         ORDER BY token_id, block_number, log_index)
		                       FROM transactions
		                       WHERE wallet_id = $1 AND block_number >= 0 AND kind <> 'ADJUSTMENT'), '')`,
		w.ID)
	if err := row.Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}
