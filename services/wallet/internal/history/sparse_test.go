package history_test

import (
	"errors"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/holiman/uint256"

	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// manyBalances are 20 wallets of 20 tokens, the first of which is a coin without events.
const (
	manyWallets, manyTokens = 20, 20
	rebasing, coin          = 7, 0
)

// amountOf is what a wallet has of a token at an hour, by their numbers. Most are constant.
func amountOf(holder, tokenNumber int, at time.Time) *uint256.Int {
	hour := int(at.Sub(day()) / time.Hour)
	amount := uint64(1000*holder + tokenNumber)
	switch {
	case tokenNumber == rebasing: // grows every five hours, which no event tells of
		amount += uint64(hour/5 + 100)
	case tokenNumber == coin && holder == 4 && hour >= 33:
		amount += 17
	case tokenNumber == 3 && holder == 5 && hour == 50: // comes and goes between two points
		amount += 5
	case tokenNumber == 4 && hour >= 10+holder: // once, another hour of each wallet
		amount = 0
	}
	return uint256.NewInt(amount)
}

// tell makes the world's chain that of amountOf.
func (f *fixture) tell(t *testing.T) {
	t.Helper()
	var tokens []token.Token
	for i := range manyTokens {
		a := caip.Asset{Chain: 1, Contract: common.Address{byte(i + 1)}, Native: i == coin}
		if a.Native {
			a.Contract = common.Address{}
		}
		tokens = append(tokens, token.Token{ID: a.String(), Chain: 1, Contract: a.Contract, Native: a.Native,
			Symbol: "T" + a.String()[len(a.String())-2:], Verified: true})
	}
	if _, err := f.db.SQL().ExecContext(t.Context(), "DELETE FROM tokens"); err != nil {
		t.Fatal(err)
	}
	if err := f.tokens.Put(t.Context(), tokens); err != nil {
		t.Fatal(err)
	}
	for i := len(f.wallets); i < manyWallets; i++ {
		f.add(t, f.owner, 1, byte(i+1))
	}
	number := func(a common.Address, native bool) int {
		if native {
			return coin
		}
		return int(a[0]) - 1
	}
	f.amount = func(holder common.Address, k token.Token, at time.Time) *uint256.Int {
		return amountOf(int(holder[19]), number(k.Contract, k.Native), at)
	}
	for hour := 1; hour < 300; hour++ {
		at := day().Add(time.Duration(hour) * time.Hour)
		for holder := 1; holder <= manyWallets; holder++ {
			for k := range manyTokens {
				was, is := amountOf(holder, k, at.Add(-time.Hour)), amountOf(holder, k, at)
				if k == rebasing || k == coin || was.Eq(is) {
					continue
				}
				e := history.Transfer{Holder: common.Address{19: byte(holder)}, Contract: common.Address{byte(k + 1)},
					At: at.Add(-30 * time.Minute), Out: is.Lt(was)}
				if e.Amount.Sub(is, was); e.Out {
					e.Amount.Sub(was, is)
				}
				f.transfers = append(f.transfers, e)
			}
		}
	}
}

// differing returns how many rows of a range are not as amountOf has them, and how many are missing.
func (f *fixture) differing(rows []history.Row, hours int) (differ, missing int) {
	held := map[history.WalletHour]map[string]uint256.Int{}
	for _, r := range rows {
		h := history.WalletHour{Wallet: r.Wallet.ID, Hour: r.Hour.Unix()}
		if held[h] == nil {
			held[h] = map[string]uint256.Int{}
		}
		if r.Balance != nil && r.Wallet.Sync.State == wallet.Synced && r.Wallet.Sync.Block == uint64(h.Hour/3600) {
			held[h][r.Balance.Token.ID] = r.Balance.Amount
		}
	}
	for _, w := range f.wallets {
		for hour := range hours {
			at := day().Add(time.Duration(hour) * time.Hour)
			has, known := held[history.WalletHour{Wallet: w.ID, Hour: at.Unix()}]
			if !known {
				missing++
				continue
			}
			for k := range manyTokens {
				a := caip.Asset{Chain: 1, Contract: common.Address{byte(k + 1)}}
				if k == coin {
					a = caip.Asset{Chain: 1, Native: true}
				}
				got := has[a.String()]
				if !got.Eq(amountOf(int(w.Account.Address[19]), k, at)) {
					differ++
				}
			}
		}
	}
	return differ, missing
}

// Whatever changes is found: by events, also what came and went, and by halves what no event tells of.
func TestThePastOfManyBalancesIsThatOfEveryHour(t *testing.T) {
	f := newFixture(t, noRedis)
	f.tell(t)
	const hours = 230
	for _, size := range []int{10_000, 377} { // read, and as stored
		rows, _ := f.read(t, hours, size)
		if differ, missing := f.differing(rows, hours); differ != 0 || missing != 0 {
			t.Fatalf("%d balances differ, %d wallets' hours are missing", differ, missing)
		}
	}
	all := hours * manyWallets * manyTokens
	if f.askedCount > all/5 {
		t.Errorf("%d balances were read for %d", f.askedCount, all)
	}
	var stored int
	if err := f.db.Gorm(t.Context()).Raw("SELECT count(*) FROM balance_history").Scan(&stored).Error; err != nil ||
		stored > all/20 {
		t.Errorf("%d rows are stored for %d balances, %v", stored, all, err)
	}
	t.Logf("%d balances were read and %d rows stored for %d", f.askedCount, stored, all)
}

// The limit that the package states, and the control of the test above: without events what comes and goes between
// two readings is not seen.
func TestWithoutEventsWhatComesAndGoesIsNotSeen(t *testing.T) {
	f := newFixture(t, noRedis)
	f.tell(t)
	f.transfersErr = errors.New("the node refuses eth_getLogs")
	const hours = 100
	rows, _ := f.read(t, hours, 10_000)
	if differ, missing := f.differing(rows, hours); differ != 1 || missing != 0 {
		t.Errorf("%d balances differ, %d wallets' hours are missing; want one in one hour", differ, missing)
	}
}

// Hours that a node has not the state of fail alone, among those that are read by changes.
func TestAnHourThatFailsAmongManyBalancesFailsAlone(t *testing.T) {
	f := newFixture(t, noRedis)
	f.tell(t)
	f.hourError = func(_ uint64, at time.Time) string {
		if at.Before(day().Add(20 * time.Hour)) {
			return "pruned"
		}
		return ""
	}
	const hours = 60
	rows, _ := f.read(t, hours, 10_000)
	failed := 0
	for _, r := range rows {
		if r.Wallet.Sync.State == wallet.Failed {
			failed++
		}
	}
	if failed != 20*manyWallets {
		t.Errorf("%d rows failed", failed)
	}
	f.hourError = nil
	rows, _ = f.read(t, hours, 10_000)
	if differ, missing := f.differing(rows, hours); differ != 0 || missing != 0 {
		t.Errorf("%d balances differ, %d wallets' hours are missing", differ, missing)
	}
}

// Hours in the middle that are read again keep those after them as they are.
func TestHoursThatAreReadAgainLeaveTheOthers(t *testing.T) {
	f := newFixture(t, noRedis)
	f.tell(t)
	const hours = 230
	f.read(t, hours, 10_000)
	for _, w := range f.wallets[:7] {
		for _, forget := range []string{
			"DELETE FROM wallet_history WHERE wallet_id = $1 AND hour < $2::timestamptz + interval '100 hours'"} {
			if _, err := f.db.SQL().ExecContext(t.Context(), forget, w.ID, day()); err != nil {
				t.Fatal(err)
			}
		}
	}
	rows, _ := f.read(t, hours, 10_000)
	if differ, missing := f.differing(rows, hours); differ != 0 || missing != 0 {
		t.Errorf("%d balances differ, %d wallets' hours are missing", differ, missing)
	}
}
