package store_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// madeBlock is a block of a made-up chain: what it shows, and what every wallet holds after it.
type madeBlock struct {
	block.Block
	shows    []transaction.Found
	balances map[common.Address][]uint64
}

// madeChain has transfers, and changes that no event shows. Its first token is rebasing: what everybody has of it
// grows and shrinks by itself. Its second one takes a fee of what is transferred, which its events don't tell.
type madeChain struct {
	rand   *rand.Rand
	tokens []token.Token
	holder []common.Address
	blocks []madeBlock
	made   uint64
	now    time.Time
}

func newMadeChain(seed uint64, tokens []token.Token, holders ...common.Address) *madeChain {
	c := &madeChain{rand: rand.New(rand.NewPCG(seed, 1)), tokens: tokens, holder: holders, now: at(0)}
	genesis := madeBlock{balances: map[common.Address][]uint64{}}
	for _, h := range holders {
		genesis.balances[h] = make([]uint64, len(tokens))
	}
	c.blocks = []madeBlock{genesis}
	return c
}

func (c *madeChain) head() madeBlock { return c.blocks[len(c.blocks)-1] }

// add makes a block.
func (c *madeChain) add() {
	c.made++
	c.now = c.now.Add(12 * time.Second)
	b := madeBlock{Block: block.Block{Number: uint64(len(c.blocks)), Time: c.now},
		balances: map[common.Address][]uint64{}}
	binary.BigEndian.PutUint64(b.Hash[:], c.made)
	for h, before := range c.head().balances {
		b.balances[h] = slices.Clone(before)
	}
	if c.rand.IntN(4) == 0 {
		grows := c.rand.IntN(3) > 0
		for _, has := range b.balances {
			if has[0] -= has[0] / 16; grows {
				has[0] += has[0] / 8
			}
		}
	}
	for i := range c.rand.IntN(4) {
		h, k := c.holder[c.rand.IntN(len(c.holder))], c.rand.IntN(len(c.tokens))
		f := transaction.Found{Holder: h, Contract: c.tokens[k].Contract, LogIndex: int32(i),
			Kind: transaction.Transfer, Direction: transaction.In, At: b.Block, Counterparty: common.Address{9}}
		amount := c.rand.Uint64N(100) + 1
		if c.rand.IntN(3) == 0 && b.balances[h][k] >= amount {
			f.Direction = transaction.Out
			b.balances[h][k] -= amount
		} else if b.balances[h][k] += amount; k == 1 {
			b.balances[h][k] -= amount / 10
		}
		f.Amount.SetUint64(amount)
		if c.rand.IntN(4) > 0 { // otherwise no event shows it
			b.shows = append(b.shows, f)
		}
	}
	c.blocks = append(c.blocks, b)
}

// The sum of a wallet's movements is its balance, whatever happens in which order: syncs that miss a token, scans that
// come late and in parts, reorgs that are noticed late or at once.
func TestMovementsAlwaysAddUpToTheBalance(t *testing.T) {
	rounds := testkit.Size(6, 60)
	for seed := range uint64(rounds) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			f := newFixture(t)
			moved := store.NewTransactions(f.db.DB, store.NewTokens(f.db.DB, caches(t, noRedis)))
			wallets := []wallet.Wallet{f.create(t, f.owner, 1), f.create(t, uuid.New(), 1), f.create(t, f.owner, 2)}
			c := newMadeChain(seed, f.tokens, wallets[0].Account.Address, wallets[2].Account.Address)
			adjusted := 0
			for range 60 {
				switch c.rand.IntN(10) {
				case 0, 1, 2:
					for range c.rand.IntN(5) + 1 {
						c.add()
					}
				case 3, 4, 5:
					f.syncAt(t, wallets, c)
				case 6, 7, 8:
					scan(t, moved, c)
				case 9:
					keep := max(1, len(c.blocks)-c.rand.IntN(5))
					c.blocks = c.blocks[:keep]
					c.add()
					if c.rand.IntN(2) == 0 { // a sync comes before the reorg is noticed
						f.syncAt(t, wallets, c)
					}
					if _, err := moved.Rollback(t.Context(), uint64(keep-1), block.Replaced{Chain: 1}); err != nil {
						t.Fatal(err)
					}
				}
				adjusted += f.checkSums(t)
			}
			// In the end everything is looked for, and what no event shows is all that is adjusted.
			f.syncAll(t, wallets, c)
			for scan(t, moved, c) > 0 {
			}
			f.checkSums(t)
			f.checkExplained(t, wallets, c)
			if adjusted == 0 {
				t.Error("nothing was adjusted")
			}
		})
	}
}

// syncAt stores balances of the head, with one token missing now and then.
func (f fixture) syncAt(t *testing.T, wallets []wallet.Wallet, c *madeChain) {
	t.Helper()
	f.sync(t, wallets, c, func() bool { return c.rand.IntN(6) == 0 })
}

func (f fixture) syncAll(t *testing.T, wallets []wallet.Wallet, c *madeChain) {
	t.Helper()
	c.add()
	f.sync(t, wallets, c, func() bool { return false })
}

func (f fixture) sync(t *testing.T, wallets []wallet.Wallet, c *madeChain, skip func() bool) {
	t.Helper()
	head := c.head()
	if head.Number == 0 {
		return
	}
	var outcomes []balancesync.Outcome
	for _, w := range wallets {
		o := balancesync.Outcome{Wallet: w,
			Sync: wallet.Sync{State: wallet.Synced, Block: head.Number, At: &head.Time}}
		for k, id := range f.tokens {
			if !skip() {
				o.Balances = append(o.Balances, wallet.Balance{Token: id, Block: head.Block,
					Amount: *uint256.NewInt(head.balances[w.Account.Address][k])})
			}
		}
		outcomes = append(outcomes, o)
	}
	if err := f.SaveOutcomes(t.Context(), outcomes); err != nil {
		t.Fatal(err)
	}
}

// scan does one step of those that are due, of some of the blocks, and returns of how many wallets.
func scan(t *testing.T, moved *store.Transactions, c *madeChain) int {
	t.Helper()
	due, err := moved.DueScans(t.Context(), 1, 1+c.rand.IntN(3))
	if err != nil {
		t.Fatal(err)
	}
	if len(due) == 0 {
		return 0
	}
	to := due[0].Synced
	for _, d := range due {
		to = min(to, d.Synced)
	}
	from := due[0].Scanned
	to = min(to, uint64(len(c.blocks)-1))
	if to <= from {
		return 0
	}
	to = from + 1 + c.rand.Uint64N(to-from)
	step := transaction.Step{Chain: 1, Through: c.blocks[to].Block}
	for _, d := range due {
		if d.Scanned <= to {
			step.Scans = append(step.Scans, d)
		}
	}
	for _, b := range c.blocks[from+1 : to+1] {
		step.Found = append(step.Found, b.shows...)
	}
	n, err := moved.SaveStep(t.Context(), step)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// checkSums holds the sum of the movements up to each balance's block against it, and returns how many adjustments
// there are.
func (f fixture) checkSums(t *testing.T) int {
	t.Helper()
	rows, err := f.db.SQL().QueryContext(t.Context(), `
		SELECT b.wallet_id, b.token_id, b.amount, coalesce(sum(t.amount), 0),
		       count(*) FILTER (WHERE t.kind = 'ADJUSTMENT'),
		       string_agg(t.block_number || ':' || t.kind || ':' || t.amount, ' ' ORDER BY t.block_number)
		FROM balances b LEFT JOIN transactions t ON t.wallet_id = b.wallet_id AND t.token_id = b.token_id
		     AND t.block_number <= b.block_number
		GROUP BY 1, 2, 3`)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rows.Close() }()
	adjustments := 0
	for rows.Next() {
		var w, id, amount, sum string
		var n int
		var all *string
		if err := rows.Scan(&w, &id, &amount, &sum, &n, &all); err != nil {
			t.Fatal(err)
		}
		adjustments += n
		if amount != sum {
			t.Fatalf("wallet %s has %s of %s, and its movements add up to %s: %s", w, amount, id, sum, *all)
		}
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return adjustments
}

// checkExplained holds the movements that are stored against those that the chain shows.
func (f fixture) checkExplained(t *testing.T, wallets []wallet.Wallet, c *madeChain) {
	t.Helper()
	for _, w := range wallets {
		want := map[string]int{}
		for _, b := range c.blocks {
			for _, m := range b.shows {
				if m.Holder == w.Account.Address {
					want[fmt.Sprint(b.Number, m.LogIndex)]++
				}
			}
		}
		var got int
		err := f.db.SQL().QueryRowContext(t.Context(), `SELECT count(*) FROM transactions
			WHERE wallet_id = $1 AND kind <> 'ADJUSTMENT'`, w.ID).Scan(&got)
		if err != nil || got != len(want) {
			t.Errorf("wallet %s has %d movements of %d: %v", w.ID, got, len(want), err)
		}
	}
}

// A transfer between two wallets of an owner is one movement of the owner, and two of the wallets.
func TestATransferBetweenOwnWalletsIsOne(t *testing.T) {
	f := newFixture(t)
	moved := store.NewTransactions(f.db.DB, store.NewTokens(f.db.DB, caches(t, noRedis)))
	a, b := f.create(t, f.owner, 1), f.create(t, f.owner, 2)
	other := f.create(t, uuid.New(), 2) // the same account, of somebody else
	c := newMadeChain(1, f.tokens, a.Account.Address, b.Account.Address)
	c.add()
	head := &c.blocks[1]
	head.shows = nil
	for i, leg := range []struct {
		holder, party common.Address
		direction     transaction.Direction
	}{{a.Account.Address, b.Account.Address, transaction.Out},
		{b.Account.Address, a.Account.Address, transaction.In},
		{a.Account.Address, a.Account.Address, transaction.Self}} {
		head.shows = append(head.shows, transaction.Found{Holder: leg.holder, Counterparty: leg.party,
			Direction: leg.direction, Kind: transaction.Transfer, Contract: f.tokens[0].Contract,
			LogIndex: int32(i / 2), Amount: *uint256.NewInt(7), At: head.Block})
	}
	f.sync(t, []wallet.Wallet{a, b, other}, c, func() bool { return false })
	for scan(t, moved, c) > 0 {
	}
	listed := func(owner uuid.UUID, filter transaction.Filter) (out []string) {
		filter.Kinds = []transaction.Kind{transaction.Transfer}
		var after *transaction.Cursor
		for {
			page, err := moved.List(t.Context(), owner, filter, after, 1)
			if err != nil {
				t.Fatal(err)
			}
			if len(page) == 0 {
				return out
			}
			m := page[0]
			who := map[uuid.UUID]string{a.ID: "a", b.ID: "b", other.ID: "other", uuid.Nil: "none"}
			out = append(out, fmt.Sprintf("%s %s %s %s", who[m.Wallet], m.Direction, m.Amount,
				who[m.CounterpartyWallet]))
			after = &transaction.Cursor{Time: m.At.Time, Wallet: m.Wallet, Block: int64(m.Block),
				TransactionIndex: m.TransactionIndex, LogIndex: m.LogIndex, Token: m.TokenID}
		}
	}
	if got := listed(f.owner, transaction.Filter{}); !slices.Equal(got, []string{"a SELF 7 none", "a OUT 7 b"}) {
		t.Errorf("the owner is told %q", got)
	}
	if got := listed(f.owner, transaction.Filter{Wallet: b.ID}); !slices.Equal(got, []string{"b IN 7 a"}) {
		t.Errorf("of the wallet that received %q is told", got)
	}
	if got := listed(other.Owner, transaction.Filter{}); !slices.Equal(got, []string{"other IN 7 none"}) {
		t.Errorf("another owner is told %q", got)
	}
	_, err := moved.List(t.Context(), other.Owner, transaction.Filter{Wallet: a.ID}, nil, 1)
	if e := errs.As(err); e == nil || e.Kind != errs.KindNotFound {
		t.Errorf("another owner's wallet is %v", err)
	}
}

// A hostile contract's events may say any amounts. They stop neither the search for others' movements nor syncs.
func TestImpossibleAmountsAreAdjusted(t *testing.T) {
	f := newFixture(t)
	moved := store.NewTransactions(f.db.DB, store.NewTokens(f.db.DB, caches(t, noRedis)))
	w := f.create(t, f.owner, 1)
	c := newMadeChain(1, f.tokens, w.Account.Address)
	c.add()
	head := &c.blocks[1]
	head.shows = nil
	for i := range 20 {
		head.shows = append(head.shows, transaction.Found{Holder: w.Account.Address, Direction: transaction.In,
			Kind: transaction.Transfer, Contract: f.tokens[0].Contract, LogIndex: int32(i), At: head.Block,
			Amount: *new(uint256.Int).SetAllOne()})
	}
	f.sync(t, []wallet.Wallet{w}, c, func() bool { return false })
	for scan(t, moved, c) > 0 {
	}
	f.checkSums(t)
	f.syncAll(t, []wallet.Wallet{w}, c)
	f.checkSums(t)
	page, err := moved.List(t.Context(), f.owner, transaction.Filter{Token: f.tokens[0].ID}, nil, 100)
	if err != nil || len(page) != 21 {
		t.Errorf("%d movements, %v", len(page), err)
	}
}
