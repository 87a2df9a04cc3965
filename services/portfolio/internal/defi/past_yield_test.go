package defi_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/defi"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// wallets have markets now and had others in the past.
type wallets struct {
	now, then []valuation.Market
	err       error
	asked     []time.Time
}

func (w *wallets) Markets(context.Context, portfolio.Portfolio, portfolio.MarketReader) (portfolio.InMarkets, error) {
	return portfolio.InMarkets{At: noon().Add(20 * time.Minute), Markets: w.now}, nil
}

func (w *wallets) Now(context.Context, string) (currency.Rate, error) { return currency.USD(), nil }

// current is a MarketReader, which wallets as portfolios don't ask.
type current struct{ *wallets }

func (current) Markets(context.Context, uuid.UUID) ([]valuation.Wallet, []valuation.Market, error) {
	return nil, nil, errors.New("asked for what there is now")
}

func (c current) PastMarkets(_ context.Context, _ uuid.UUID, hour time.Time) ([]valuation.Market, error) {
	c.asked = append(c.asked, hour)
	return c.then, c.err
}

// with gives a position a growth index, and the time of its block.
func with(p valuation.ProtocolPosition, index string, at time.Time) valuation.ProtocolPosition {
	p.GrowthIndex, p.BlockTime = index, at
	return p
}

func (w *wallets) read(t *testing.T) defi.State {
	t.Helper()
	s := defi.NewService(w, current{w}, w)
	state, err := s.Read(t.Context(), portfolio.Portfolio{}, "")
	if err != nil {
		t.Fatal(err)
	}
	s.AddPastYields(t.Context(), portfolio.Portfolio{}, &state)
	return state
}

// 1.004^(365/30) - 1 = 0.049768424881 on 2,000, 1.0001^(365/2) - 1 = 0.018416619710 on 6,000 and 0.99^(365/30) - 1 =
// -0.115098629739 on 1,000: together 0.010548659809…, and 1.02^(365/30) - 1 = 0.27243446284….
func TestTheYieldOfTheLast30DaysIsThatOfTheIndexes(t *testing.T) {
	month := noon().AddDate(0, 0, -30)
	stable := with(owes("5 USDC"), "2", noon())
	stable.RateMode = "STABLE"
	w := &wallets{
		now: []valuation.Market{
			in("a", "aave-v3", "pool", with(secures("1 ETH"), "1004000000000000000000000000", noon()),
				with(owes("500 USDC"), "102", noon()), stable),
			in("a", "erc4626", "vault", with(is(valuation.Supplied, "6000 DAI"), "10001", noon())),
			in("a", "steth", "token", with(is(valuation.Staked, "0.5 ETH"), "99", noon())),
			in("a", "wsteth", "token", with(is(valuation.Staked, "0.5 ETH"), "100", noon())),
			in("b", "erc4626", "vault", with(is(valuation.Supplied, "1 DAI"), "201", noon())),
			in("c", "erc4626", "vault", with(is(valuation.Supplied, "1 DAI"), "-1", noon())),
			in("b", "staking-rewards", "farm", is(valuation.Staked, "1 DAI")),
		},
		then: []valuation.Market{
			in("a", "aave-v3", "pool", with(secures("7 ETH"), "1000000000000000000000000000", month),
				with(owes("1 USDC"), "100", month)),
			in("a", "erc4626", "vault", with(is(valuation.Supplied, "1 DAI"), "10000", noon().AddDate(0, 0, -2))),
			in("a", "steth", "token", with(is(valuation.Staked, "1 ETH"), "100", month)),
			in("a", "wsteth", "token", with(is(valuation.Staked, "1 ETH"), "99", noon().Add(-time.Hour))),
			in("b", "erc4626", "vault", with(is(valuation.Supplied, "1 DAI"), "100", month)),
			in("c", "erc4626", "vault", with(is(valuation.Supplied, "1 DAI"), "100", month)),
		},
	}
	lines := func(s defi.State) string {
		var out []string
		for _, m := range s.Markets {
			for _, p := range m.Positions {
				out = append(out, fmt.Sprint(m.Protocol, " of ", m.WalletID, " ", p.Kind, p.RateMode, " ",
					text(p.PastAPY)))
			}
		}
		return strings.Join(out, "\n")
	}
	s := w.read(t)
	want := `aave-v3 of a SUPPLIED 0.049768424881
aave-v3 of a BORROWED 0.272434462840
aave-v3 of a BORROWEDSTABLE NOT_HELD_THEN
erc4626 of a SUPPLIED 0.018416619710
erc4626 of b SUPPLIED RATE_OUT_OF_RANGE
erc4626 of c SUPPLIED RATE_INVALID
staking-rewards of b STAKED NO_INDEX
steth of a STAKED -0.115098629739
wsteth of a STAKED NOT_HELD_THEN`
	if got := lines(s); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := text(s.PastEarning.APY); got != "0.010548659809" || s.PastEarning.Value.Text('f') != "9000.00000000" {
		t.Errorf("together %s of %s", got, s.PastEarning.Value)
	}
	if got := text(s.PastBorrowing.APY); got != "0.272434462840" || s.PastBorrowing.Value.Text('f') != "500.00000000" {
		t.Errorf("debts cost %s of %s", got, s.PastBorrowing.Value)
	}
	if len(w.asked) != 1 || !w.asked[0].Equal(month) {
		t.Errorf("asked for %v", w.asked)
	}
	w.err = errors.New("no archive")
	if s := w.read(t); text(s.Markets[0].Positions[0].PastAPY) != "PAST_UNAVAILABLE" ||
		text(s.PastEarning.APY) != "NO_RATE" {
		t.Errorf("without the past\n%s", lines(s))
	}
	// Nobody is asked where no index is.
	w.now, w.asked = w.now[6:], nil
	if s := w.read(t); len(w.asked) != 0 || text(s.Markets[0].Positions[0].PastAPY) != "NO_INDEX" {
		t.Errorf("without an index %v\n%s", w.asked, lines(s))
	}
}
