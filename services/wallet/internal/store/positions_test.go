package store_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// vaultOf and poolOf are markets of the tests.
func vaultOf(n byte) defi.Market {
	return defi.Market{Protocol: "erc4626", Chain: 1, Contract: common.Address{0xee, n}}
}

func poolOf(n byte) defi.Market {
	return defi.Market{Protocol: "aave-v3", Chain: 1, Contract: common.Address{0xaa, n}}
}

// supplied is a reading of one position, whose receipt is a token of the fixture.
func (f fixture) supplied(m defi.Market, amount uint64) defi.Reading {
	return defi.Reading{Market: m, Positions: []defi.Position{{Kind: defi.Supplied, Asset: f.tokens[0].ID,
		Amount: *uint256.NewInt(amount), Receipt: f.tokens[1].ID, YearlyRate: "0.05"}}}
}

// positions are what is stored of the owner's, a line each.
func (f fixture) positions(t *testing.T, filter defi.Filter) (lines []string) {
	t.Helper()
	after := defi.Cursor{}
	for {
		page, err := f.Positions(t.Context(), f.owner, filter, after, 1)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			return lines
		}
		h := page[0]
		after = defi.Cursor{Wallet: h.Wallet, Market: h.String()}
		line := fmt.Sprintf("%s%d", h.Protocol, h.Contract[1])
		for _, p := range h.Positions {
			line += fmt.Sprintf(" %s%s %s@%d", p.Kind, p.Mode, p.Amount.Dec(), p.Block.Number)
		}
		if h.Account != nil {
			line += fmt.Sprintf(" health %q@%d", h.Account.Health, h.Account.Block.Number)
		}
		if h.Missing != "" {
			line += " missing " + h.Missing
		}
		lines = append(lines, line)
	}
}

func (f fixture) savePositions(t *testing.T, w wallet.Wallet, block uint64, r ...defi.Reading) {
	t.Helper()
	held := []wallet.Balance{balance(f.tokens[0], 1, block), balance(f.tokens[1], 9, block)}
	if err := f.SaveBalances(t.Context(), w.Owner, w.ID, held, synced(block), r...); err != nil {
		t.Fatal(err)
	}
}

func TestWhatCouldNotBeReadOfPositionsHoldsOn(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	owed := defi.Position{Kind: defi.Borrowed, Mode: defi.Variable, Asset: f.tokens[0].ID, Amount: *uint256.NewInt(30)}
	account := &defi.Account{Collateral: *uint256.NewInt(100), Debt: *uint256.NewInt(30), Unit: *uint256.NewInt(10),
		Threshold: "0.8", Health: "2.5", HasDebt: true}
	pool := f.supplied(poolOf(1), 70)
	pool.Positions, pool.Account = append(pool.Positions, owed), account
	poolWithout := func(missing string, p ...defi.Position) defi.Reading {
		return defi.Reading{Market: poolOf(1), Missing: missing, Positions: p}
	}
	ended := owed
	ended.Ended, ended.Amount = true, uint256.Int{}
	worthless := f.supplied(vaultOf(1), 0)
	nothing := defi.Reading{Market: vaultOf(1), Positions: []defi.Position{{Kind: defi.Supplied, Asset: f.tokens[0].ID,
		Ended: true}}}
	for i, step := range []struct {
		name string
		read []defi.Reading
		want string
	}{
		{"first", []defi.Reading{f.supplied(vaultOf(1), 5), pool},
			`aave-v31 BORROWEDVARIABLE 30@1 SUPPLIED 70@1 health "2.5"@1; erc46261 SUPPLIED 5@1`},
		{"one that failed", []defi.Reading{f.supplied(vaultOf(1), 6), poolWithout("all")},
			`aave-v31 BORROWEDVARIABLE 30@1 SUPPLIED 70@1 health "2.5"@1 missing all; erc46261 SUPPLIED 6@2`},
		{"a part", []defi.Reading{f.supplied(vaultOf(1), 6), poolWithout("a part", ended)},
			`aave-v31 SUPPLIED 70@1 health "2.5"@1 missing a part; erc46261 SUPPLIED 6@3`},
		{"worth nothing", []defi.Reading{worthless, pool},
			`aave-v31 BORROWEDVARIABLE 30@4 SUPPLIED 70@4 health "2.5"@4; erc46261 SUPPLIED 0@4`},
		{"ended", []defi.Reading{nothing, pool}, `aave-v31 BORROWEDVARIABLE 30@5 SUPPLIED 70@5 health "2.5"@5`},
		{"unknown from the start", []defi.Reading{{Market: vaultOf(2), Missing: "no vault"}, pool},
			`aave-v31 BORROWEDVARIABLE 30@6 SUPPLIED 70@6 health "2.5"@6; erc46262 missing no vault`},
		{"out of the setting", []defi.Reading{{Market: vaultOf(2)}}, ""},
	} {
		f.savePositions(t, w, uint64(i+1), step.read...)
		if got := strings.Join(f.positions(t, defi.Filter{}), "; "); got != step.want {
			t.Errorf("%s: stored are %s\nwant %s", step.name, got, step.want)
		}
	}
}

func TestAPositionIsNotOfASyncThatANewerOneHasOvertaken(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	f.savePositions(t, w, 9, f.supplied(vaultOf(1), 5))
	f.savePositions(t, w, 8, f.supplied(vaultOf(1), 4))
	if err := f.SaveOutcomes(t.Context(), []balancesync.Outcome{{Wallet: w, Sync: synced(7),
		Positions: []defi.Reading{{Market: vaultOf(1)}}}}); err != nil {
		t.Fatal(err)
	}
	if got := f.positions(t, defi.Filter{}); !slices.Equal(got, []string{"erc46261 SUPPLIED 5@9"}) {
		t.Errorf("stored are %q", got)
	}
}

func TestAReceiptIsMarkedWhileAPositionStandsForIt(t *testing.T) {
	f := newFixture(t)
	w := f.create(t, f.owner, 1)
	receipts := func() (marked []string) {
		t.Helper()
		now, err := f.Holdings(t.Context(), f.owner, holding.Cursor{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		stream, err := f.ShardHoldings(t.Context(), 0, 1, holding.ShardCursor{}, 100)
		if err != nil {
			t.Fatal(err)
		}
		describe := func(rows []holding.Row) (marked []string) {
			for _, r := range rows {
				if r.Balance.Receipt {
					marked = append(marked, r.Balance.Token.Symbol)
				}
				for _, p := range r.Positions {
					marked = append(marked, fmt.Sprint(p.Positions[0].Amount.Dec(), " ", r.Assets[0].Token.Symbol))
				}
			}
			return marked
		}
		if marked = describe(now); !slices.Equal(marked, describe(stream)) {
			t.Errorf("a page has %q, and the stream %q", marked, describe(stream))
		}
		rest, err := f.Holdings(t.Context(), f.owner, holding.Cursor{Wallet: w.ID, Token: f.tokens[0].ID}, 100)
		if err != nil || len(rest) == 0 || len(rest[0].Positions) > 0 {
			t.Errorf("where the wallet continues are %v, %v", rest, err)
		}
		return marked
	}
	f.savePositions(t, w, 2, f.supplied(vaultOf(1), 5))
	if got := receipts(); !slices.Equal(got, []string{"5 T0", "T1"}) {
		t.Errorf("marked are %q", got)
	}
	before := len(f.changes(t, w, 0))
	f.savePositions(t, w, 3, f.supplied(vaultOf(1), 6))
	if got := f.changes(t, w, before); !slices.Equal(got, []string{"BALANCES_CHANGED 3"}) {
		t.Errorf("another amount is told as %q", got)
	}
	f.savePositions(t, w, 4, defi.Reading{Market: vaultOf(1)})
	if got := receipts(); len(got) > 0 {
		t.Errorf("after the end %q are marked", got)
	}
	before++
	if got := f.changes(t, w, before); !slices.Equal(got, []string{"BALANCES_CHANGED 4"}) {
		t.Errorf("the end is told as %q", got)
	}
}

func TestPositionsAreListedForTheirOwnerAlone(t *testing.T) {
	f := newFixture(t)
	w, other := f.create(t, f.owner, 1), f.create(t, f.owner, 2)
	foreign := f.create(t, uuid.New(), 3)
	for _, one := range []wallet.Wallet{w, other, foreign} {
		f.savePositions(t, one, 1, f.supplied(vaultOf(1), 5), f.supplied(poolOf(1), 6))
	}
	for want, filter := range map[int]defi.Filter{4: {}, 2: {Wallet: w.ID}, 1: {Wallet: w.ID, Protocol: "aave-v3"}} {
		if got := f.positions(t, filter); len(got) != want {
			t.Errorf("%+v lists %q", filter, got)
		}
	}
	_, err := f.Positions(t.Context(), f.owner, defi.Filter{Wallet: foreign.ID}, defi.Cursor{}, 10)
	if !errs.Is(err, errs.KindNotFound) {
		t.Errorf("another owner's: %v", err)
	}
}
