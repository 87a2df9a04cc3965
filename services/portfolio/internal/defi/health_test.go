package defi_test

import (
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/defi"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// safe is 20,000 × 0.825 / 8,000 = 2.0625 from its liquidation.
func safe() valuation.Market {
	return account(in("a", "aave-v3", "pool", secures("10 ETH"), owes("8000 USDC")), 20_000, 8_000, "0.825", "2.0625")
}

// near is 3,060 × 0.8 / 2,400 = 1.02.
func near() valuation.Market {
	return account(in("b", "aave-v3", "pool", secures("1 ETH"), secures("1060 USDC"), owes("1900 DAI"),
		owes("0.25 ETH")), 3_060, 2_400, "0.8", "1.02")
}

// below can be liquidated: 2,000 × 0.8 / 2,000 = 0.8.
func below() valuation.Market {
	return account(in("c", "aave-v3", "pool", secures("1 ETH"), owes("2000 DAI")), 2_000, 2_000, "0.8", "0.8")
}

func lines(s defi.State) string {
	var out []string
	for _, a := range s.Accounts() {
		all, each := a.Distances()
		out = append(out, fmt.Sprintf("%s %s, left out %q: all fall %s", a.WalletID, text(a.Health), a.LeftOut,
			text(all)))
		for _, d := range each {
			out = append(out, fmt.Sprintf("  %s falls %s rises %s", d.Symbol, text(d.Fall), text(d.Rise)))
		}
	}
	return strings.Join(out, "\n")
}

func TestHowFarPricesMayMove(t *testing.T) {
	s := valued(t, safe(), near(), below())
	// a: 1 - 1/2.0625 and 2.0625 - 1. b, in parts of its debt of 2,400: the ETH owed is 500, the ETH that secures
	// 2,000, the USDC 1,060, and 0.02 are to spare. All: 0.02 / (1.02 - 500/2400). ETH falls:
	// 0.02 / (2000/2400 - 500/2400) or more, and rises: 0.02 / (500/2400) or more. USDC: 0.02 / (1060/2400) or more.
	// DAI rises: 0.02 / (1900/2400).
	want := `a 2.0625, left out "": all fall 0.515151515151
  ETH falls 0.515151515151 rises NEVER
  USDC falls NEVER rises 1.062500000000
b 1.02, left out "": all fall 0.024640657084
  DAI falls NEVER rises 0.025263157894
  ETH falls ≥0.032000000000 rises ≥0.096000000000
  USDC falls ≥0.045283018867 rises NEVER
c 0.8, left out "": all fall LIQUIDATABLE`
	if got := lines(s); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if a := s.Accounts()[1]; a.Collateral.Text('f') != "3060" || a.Debt.Text('f') != "2400" ||
		a.Threshold.Text('f') != "0.8" || a.DebtValue.Text('f') != "2400.00000000" {
		t.Errorf("the account is %+v", a)
	}
}

// The market values the collateral by a tenth higher than the portfolio does: 3,366 × 0.8 / 2,400 = 1.122. So ETH may
// secure a tenth more: 0.122 / (1.1 × 2000/2400 - 500/2400). By the portfolio's prices it would be 0.195.
func TestAMarketThatValuesCollateralHigherIsBelieved(t *testing.T) {
	m := near()
	higher := account(m, 3_366, 2_400, "0.8", "1.122")
	a := valuedAccounts(t, higher)[0]
	_, each := a.Distances()
	if got := text(each[1].Fall); got != "≥0.172235294117" {
		t.Errorf("ETH falls %s", got)
	}
	a = valuedAccounts(t, account(m, 2_754, 2_400, "0.8", "1.122"))[0]
	_, each = a.Distances()
	if got := text(each[1].Fall); got != "≥0.195200000000" {
		t.Errorf("of a market that values it lower, ETH falls %s", got)
	}
}

// A debt in the only collateral falls with it.
func TestADebtInItsOwnCollateral(t *testing.T) {
	eth := account(in("a", "aave-v3", "pool", secures("1 ETH"), owes("0.5 ETH")), 2_000, 1_000, "0.8", "1.6")
	both := account(in("b", "aave-v3", "pool", secures("1 ETH"), owes("0.25 ETH"), owes("500 DAI")), 2_000, 1_000,
		"0.8", "1.6")
	// b: 0.6 / (1.6 - 0.5), and DAI rises 0.6 / 0.5.
	want := `a 1.6, left out "": all fall NEVER
  ETH falls NEVER rises NEVER
b 1.6, left out "": all fall 0.545454545454
  DAI falls NEVER rises 1.200000000000
  ETH falls 0.545454545454 rises NEVER`
	if got := lines(valued(t, eth, both)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// Without prices a figure is that of the worst case, or exact where it needs none.
func TestDistancesWithoutPrices(t *testing.T) {
	single := account(in("a", "aave-v3", "pool", secures("1 NONE"), owes("5 UNLISTED")), 2_000, 1_000, "0.8", "1.6")
	several := account(in("b", "aave-v3", "pool", secures("1 NONE"), secures("1 ETH"), owes("5 UNLISTED"),
		owes("1 NONE")), 2_000, 1_000, "0.8", "1.6")
	want := `a 1.6, left out "DEBT_UNPRICED": all fall 0.375000000000
  NONE falls 0.375000000000 rises NEVER
   falls NEVER rises 0.600000000000
b 1.6, left out "DEBT_UNPRICED": all fall ≥0.375000000000
  ETH falls ≥0.375000000000 rises NEVER
  NONE falls ≥0.375000000000 rises ≥0.600000000000
   falls NEVER rises ≥0.600000000000`
	if got := lines(valued(t, single, several)); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestHealthThatIsNotKnownIsToldAsSuch(t *testing.T) {
	told := func(health, reason string) valuation.Market {
		m := safe()
		m.Lending.Health, m.Lending.HealthUnavailable = health, reason
		return m
	}
	const small = "DEBT_TOO_SMALL"
	huge := new(big.Int).Lsh(big.NewInt(1), 256).String()
	unread := safe()
	unread.Lending = nil
	for name, tc := range map[string]struct {
		market              valuation.Market
		health, fall, lefts string
		lowest              string
		unknown             int
	}{
		"no debt":         {told("", "NO_DEBT"), "NO_DEBT", "NO_DEBT", "NO_DEBT", "NO_DEBT", 0},
		"too small":       {told("", small), small, small, small, small, 0},
		"2^256":           {told(huge, ""), small, small, small, small, 0},
		"2^256 in wads":   {told(huge[:60]+"."+huge[60:], ""), small, small, small, small, 0},
		"NaN":             {told("NaN", ""), "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", 1},
		"below 0":         {told("-1", ""), "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", 1},
		"neither":         {told("", ""), "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", 1},
		"another reason":  {told("", "x"), "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", 1},
		"no account":      {unread, "NOT_TOLD", "NOT_TOLD", "NOT_TOLD", "UNKNOWN", 1},
		"not read":        {missing(unread, "x"), "UNKNOWN", "UNKNOWN", "UNKNOWN", "UNKNOWN", 1},
		"a part not read": {missing(safe(), "x"), "2.0625", "MARKET_INCOMPLETE", "MARKET_INCOMPLETE", "2.0625", 1},
		"no debt, of before": {missing(told("", "NO_DEBT"), "x"), "UNKNOWN", "UNKNOWN", "UNKNOWN",
			"UNKNOWN", 1},
		"the control": {safe(), "2.0625", "0.515151515151", "", "2.0625", 0},
	} {
		t.Run(name, func(t *testing.T) {
			accounts := valuedAccounts(t, tc.market)
			a := accounts[0]
			all, _ := a.Distances()
			l := defi.LowestOf(accounts)
			if text(a.Health) != tc.health || text(all) != tc.fall || a.LeftOut != tc.lefts ||
				text(l.Health) != tc.lowest || l.Unknown != tc.unknown {
				t.Errorf("health %s, falls %s, left out %q, lowest %s, %d unknown", text(a.Health), text(all),
					a.LeftOut, text(l.Health), l.Unknown)
			}
		})
	}
}

func valuedAccounts(t *testing.T, markets ...valuation.Market) []defi.Account {
	t.Helper()
	s := valued(t, markets...)
	return s.Accounts()
}

// 2.0625 × 8,000 + 1.02 × 2,400 + 0.8 × 2,000 = 20,548 secure 12,400: 1.657… says nothing of c, which is at 0.8.
func TestTheAggregateHidesNoLiquidation(t *testing.T) {
	comet := in("d", "compound-v3", "comet", secures("1 BTC"), owes("100 DAI"))
	unpriced := account(in("e", "aave-v3", "pool", secures("1 ETH"), owes("1 NONE"), owes("1 DAI")), 2_000, 1_000,
		"0.8", "1.6")
	free := account(in("f", "aave-v3", "pool", secures("1 ETH")), 2_000, 0, "0.8", "")
	free.Lending.HealthUnavailable = "NO_DEBT"
	accounts := valuedAccounts(t, safe(), near(), below(), comet, unpriced, free, in("g", "steth", "token",
		is(valuation.Staked, "1 ETH")))
	all, lowest := defi.AggregateOf(accounts), defi.LowestOf(accounts)
	got := fmt.Sprintf("%s = %s / %s of %d, %d left out; lowest %s of %s, %d liquidatable, %d unknown",
		text(all.Health), all.Secured.Text('f'), all.Debt.Text('f'), all.Accounts, all.LeftOut, text(lowest.Health),
		lowest.Of.WalletID, lowest.Liquidatable, lowest.Unknown)
	if want := "1.657096774193 = 20548.00000000 / 12400.00000000 of 3, 2 left out; lowest 0.8 of c, 1 liquidatable, " +
		"1 unknown"; got != want || len(accounts) != 6 {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if a := accounts[5]; a.LeftOut != "NOT_TOLD" || a.Protocol != "compound-v3" {
		t.Errorf("the last is %+v", a)
	}
	if all := defi.AggregateOf(nil); text(all.Health) != "NO_ACCOUNT" || all.Debt.Text('f') != "0.00000000" {
		t.Errorf("of nothing it is %s", text(all.Health))
	}
}

// The figures of one account are its own, in whatever its market counts, and whatever the answer is in.
func TestTheAggregateOfOneAccountIsItsHealth(t *testing.T) {
	inEther := near()
	inEther.Lending.Unit = new(big.Int).Exp(big.NewInt(10), big.NewInt(18), nil)
	inEther.Lending.Collateral, _ = new(big.Int).SetString("1530000000000000000", 10)
	inEther.Lending.Debt, _ = new(big.Int).SetString("1200000000000000000", 10)
	for _, rate := range []currency.Rate{currency.USD(), {Currency: "EUR", Price: "1.25"}} {
		s := valuedAt(t, rate, inEther)
		accounts := s.Accounts()
		if got := text(defi.AggregateOf(accounts).Health); got != "1.020000000000" {
			t.Errorf("in %s it is %s", rate.Currency, got)
		}
		if a := accounts[0]; a.Collateral.Text('f') != "1.53" || a.Debt.Text('f') != "1.2" {
			t.Errorf("the account has %s and owes %s", a.Collateral, a.Debt)
		}
	}
}

// A unit of 0, or one that no decimal can be told in, hides the currency's figures and nothing else.
func TestAUnitThatIsNoneHidesNoHealth(t *testing.T) {
	for _, unit := range []*big.Int{new(big.Int), big.NewInt(3), big.NewInt(-1)} {
		m := safe()
		m.Lending.Unit = unit
		a := valuedAccounts(t, m)[0]
		if a.Collateral != nil && a.Debt != nil || text(a.Health) != "2.0625" || a.LeftOut != "" {
			t.Errorf("unit %s: %+v", unit, a)
		}
	}
}

// Just below 1 is below 1, however it would be rounded.
func TestAHairBelowOneCanBeLiquidated(t *testing.T) {
	for health, want := range map[string]bool{"0.999999999999999999": true, "1": false,
		"1.000000000000000001": false} {
		m := safe()
		m.Lending.Health = health
		accounts := valuedAccounts(t, m)
		all := defi.AggregateOf(accounts)
		if accounts[0].Liquidatable != want || all.Health.Value.Cmp(apd.New(1, 0)) < 0 != want {
			t.Errorf("%s is liquidatable: %t, and in all %s", health, accounts[0].Liquidatable, text(all.Health))
		}
	}
}

// A debt of no value in the answer's currency, or of a token that isn't verified, weighs nothing: not 0 of everything.
func TestADebtWithoutAValueIsLeftOut(t *testing.T) {
	dust, spam := owes("1 DAI"), owes("1 SPAM")
	dust.Price.Amount = "0.000000001"
	for name, debt := range map[string]valuation.ProtocolPosition{"dust": dust, "a token that isn't verified": spam} {
		accounts := valuedAccounts(t, account(in("a", "aave-v3", "pool", secures("1 ETH"), debt), 2_000, 1_000, "0.8",
			"1.6"))
		all := defi.AggregateOf(accounts)
		if accounts[0].LeftOut != "DEBT_UNPRICED" || text(all.Health) != "NO_ACCOUNT" || all.LeftOut != 1 {
			t.Errorf("%s: left out %q, in all %s", name, accounts[0].LeftOut, text(all.Health))
		}
		if all, _ := accounts[0].Distances(); text(all) != "0.375000000000" { // which needs no prices
			t.Errorf("%s: falls %s", name, text(all))
		}
	}
}

// What one of several collaterals secures is no more than all of them do, however much it is worth: 0.5 / 1.5.
func TestACollateralSecuresNoMoreThanAll(t *testing.T) {
	a := valuedAccounts(t, account(in("a", "aave-v3", "pool", secures("1 ETH"), secures("1 USDC"), owes("1000 DAI")),
		2_001, 1_000, "0.75", "1.5"))[0]
	if _, each := a.Distances(); text(each[1].Fall) != "≥0.333333333333" {
		t.Errorf("ETH falls %s", text(each[1].Fall))
	}
}
