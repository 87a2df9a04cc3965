package history_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// vault is a market in which the wallet 1 has as many of an asset as hours have passed since day(), from the second
// hour on. The first token is its receipt.
type vault struct {
	asset   string
	receipt string
	missing string
	markets int
	ends    context.CancelFunc // is called by a reading, if set
	mu      sync.Mutex
	asked   map[time.Time]int
}

func (v *vault) Markets(chain uint64) int {
	if chain != 1 {
		return 0
	}
	return v.markets
}

func (v *vault) ReadPast(ctx context.Context, chain uint64, at block.Block,
	holders []common.Address, _ *defi.Calls) ([][]defi.Reading, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.asked == nil {
		v.asked = map[time.Time]int{}
	}
	v.asked[at.Time]++
	if v.ends != nil {
		v.ends()
	}
	out := make([][]defi.Reading, len(holders))
	hours := uint64(at.Time.Add(time.Second).Sub(day()) / time.Hour)
	for i, h := range holders {
		r := defi.Reading{Market: defi.Market{Protocol: "erc4626", Chain: chain, Contract: common.Address{0xee}},
			Missing: v.missing}
		if h[19] == 1 && hours > 0 && v.missing == "" {
			r.Positions = []defi.Position{{Kind: defi.Supplied, Asset: v.asset, Amount: *uint256.NewInt(hours),
				Receipt: v.receipt, YearlyRate: "0.05"}}
			r.Account = &defi.Account{Collateral: *uint256.NewInt(hours), Unit: *uint256.NewInt(1), Threshold: "0.8"}
		} else {
			r.Positions = []defi.Position{{Kind: defi.Supplied, Asset: v.asset, Ended: true}}
		}
		out[i] = []defi.Reading{r}
	}
	return out, ctx.Err()
}

// withVault returns a service that reads positions, whose asset is the second token.
func (f *fixture) withVault(t *testing.T) (*history.Service, *vault) {
	t.Helper()
	tokens, err := token.ListAll(t.Context(), f.tokens, 1)
	if err != nil {
		t.Fatal(err)
	}
	v := &vault{asset: tokens[1].ID, receipt: tokens[0].ID, markets: 1}
	s := f.replica()
	s.ReadPositions(v)
	return s, v
}

// positionsOf are those of a page, a line for each hour and wallet that has some there.
func positionsOf(t *testing.T, p history.Page) (lines []string) {
	t.Helper()
	for _, h := range p.Hours {
		var last uuid.UUID
		for _, r := range h.Rows {
			if r.Wallet.ID == last && r.Positions != nil {
				t.Errorf("positions stand twice in the hour %s", h.Time)
			}
			last = r.Wallet.ID
			for _, m := range r.Positions {
				line := fmt.Sprintf("%d of %d: %s", h.Time.Sub(day())/time.Hour, r.Wallet.Account.Address[19],
					m.Missing)
				for _, p := range m.Positions {
					line += p.Amount.Dec() + " " + p.YearlyRate
				}
				if m.Account != nil {
					line += " account " + m.Account.Collateral.Dec()
				}
				lines = append(lines, line)
				if r.Balance == nil || r.Balance.Receipt != (len(m.Positions) > 0) {
					t.Errorf("%s: the balance %+v", line, r.Balance)
				}
				if len(m.Positions) > 0 && (len(r.Assets) != 1 || r.Assets[0].Token.Symbol != "T1") {
					t.Errorf("%s: the assets %+v", line, r.Assets)
				}
			}
		}
	}
	return lines
}

func TestPositionsOfPastHoursAreReadWithTheBalances(t *testing.T) {
	f := newFixture(t, noRedis)
	s, v := f.withVault(t)
	until := day().Add(4 * time.Hour)
	list := func() history.Page {
		page, next, err := s.List(t.Context(), f.owner, day(), until, history.Cursor{}, 1000)
		if err != nil || next != nil {
			t.Fatalf("%v, %v", next, err)
		}
		return page
	}
	want := []string{"1 of 1: 1 0.05 account 1", "2 of 1: 2 0.05 account 2", "3 of 1: 3 0.05 account 3"}
	for range 2 { // read, and as stored
		page := list()
		if got := positionsOf(t, page); !slices.Equal(got, want) {
			t.Errorf("the positions are %q, want %q", got, want)
		}
		if q := page.Hours[1].Quotes; len(q) != 2 || q[1].TokenID != v.asset || q[1].Value == "" {
			t.Errorf("the quotes of an hour with a position are %+v", q)
		}
		if q := page.Hours[0].Quotes; len(q) != 1 {
			t.Errorf("the quotes of an hour without positions are %+v", q)
		}
	}
	for at, n := range v.asked {
		if n != 1 {
			t.Errorf("%s is read %d times", at, n)
		}
	}
	if _, err := f.all.Delete(t.Context(), f.owner, f.wallets[0].ID, 0, nil); err != nil {
		t.Fatal(err)
	}
	var left int
	if err := f.db.Gorm(t.Context()).Raw("SELECT count(*) FROM position_history").Scan(&left).Error; err != nil ||
		left != 0 {
		t.Errorf("%d rows are left of a wallet that was deleted, %v", left, err)
	}
}

func TestAMarketThatIsAddedIsReadInHoursThatWereRead(t *testing.T) {
	f := newFixture(t, noRedis)
	s, v := f.withVault(t)
	v.markets = 0
	until := day().Add(3 * time.Hour)
	list := func() []string {
		page, _, err := s.List(t.Context(), f.owner, day(), until, history.Cursor{}, 1000)
		if err != nil {
			t.Fatal(err)
		}
		return positionsOf(t, page)
	}
	if got := list(); got != nil || len(v.asked) != 0 {
		t.Errorf("without markets: %q", got)
	}
	v.markets = 1
	if got := list(); len(got) != 2 {
		t.Errorf("with a market: %q", got)
	}
	// What could not be read is told, and read again after a while.
	v.markets, v.missing = 2, "it does not answer"
	if got := list(); len(got) != 6 || !strings.HasSuffix(got[0], v.missing) {
		t.Errorf("with a market that does not answer: %q", got)
	}
	v.missing = ""
	if got := list(); len(got) != 6 {
		t.Errorf("a moment later: %q", got)
	}
	f.now = f.now.Add(time.Hour)
	if got := list(); len(got) != 2 {
		t.Errorf("an hour later: %q", got)
	}
}

// An hour is stored with its positions or not at all: what the time did not suffice for is not taken for missing.
func TestWithoutTimeForPositionsAnHourIsNotRead(t *testing.T) {
	f := newFixture(t, noRedis)
	s, v := f.withVault(t)
	ctx, cancel := context.WithCancel(t.Context())
	v.ends = cancel
	_, _, _ = s.List(ctx, f.owner, day(), day().Add(time.Hour), history.Cursor{}, 1000)
	if len(v.asked) == 0 {
		t.Fatal("no positions were read")
	}
	v.ends = nil
	page, _, err := s.List(t.Context(), f.owner, day().Add(time.Hour), day().Add(2*time.Hour), history.Cursor{}, 1000)
	if got := positionsOf(t, page); err != nil || len(got) != 1 {
		t.Errorf("afterwards: %q, %v", got, err)
	}
	var stored int
	err = f.db.Gorm(t.Context()).Raw("SELECT count(*) FROM wallet_history WHERE hour = ?", day()).Scan(&stored).Error
	if err != nil || stored != 0 {
		t.Errorf("%d rows of the hour are stored, %v", stored, err)
	}
}

func TestPositionsInAnAssetThatNobodyListsHaveNoPrice(t *testing.T) {
	f := newFixture(t, noRedis)
	s, v := f.withVault(t)
	v.asset = caip.Asset{Chain: 1, Contract: common.Address{0xdd}}.String()
	page, _, err := s.List(t.Context(), f.owner, day(), day().Add(2*time.Hour), history.Cursor{}, 1000)
	if err != nil || len(page.Hours) != 2 {
		t.Fatalf("%+v, %v", page, err)
	}
	row := page.Hours[1].Rows[0]
	if len(row.Positions) != 1 || len(row.Assets) != 0 || len(page.Hours[1].Quotes) != 1 || f.pricesRequested != 1 {
		t.Errorf("%+v, %+v, %d prices were asked for", row, page.Hours[1].Quotes, f.pricesRequested)
	}
}

// Of an owner whose balances are read by their changes, positions are read in each hour.
func TestPositionsOfALargeOwnerAreReadInEachHour(t *testing.T) {
	f := newFixture(t, noRedis)
	f.list(t, 9)
	for i := range 40 {
		f.add(t, f.owner, 1, byte(i+10))
	}
	s, v := f.withVault(t)
	page, next, err := s.List(t.Context(), f.owner, day(), day().Add(12*time.Hour), history.Cursor{}, 10_000)
	if err != nil || next != nil {
		t.Fatalf("%v, %v", next, err)
	}
	if got := positionsOf(t, page); len(got) != 11 || got[10] != "11 of 1: 11 0.05 account 11" {
		t.Errorf("the positions are %q", got)
	}
	if len(v.asked) != 12 {
		t.Errorf("%d hours were read", len(v.asked))
	}
}
