package defi_test

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/defi"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

func worthText(w defi.Worth) string {
	short := func(d *apd.Decimal) string { return strings.TrimSuffix(d.Text('f'), ".00000000") }
	return fmt.Sprintf("%s - %s = %s, %s to claim, %s locked; %d, %d unpriced, %d unverified", short(w.Assets),
		short(w.Liabilities), short(w.Net), short(w.Claimable), short(w.Locked), w.Positions, w.Unpriced, w.Unverified)
}

// Assets 20,000 + 100 + 50 + 5,000 = 25,150; 100 and 50 of it are to be claimed and locked. The debt of 30,000 is
// larger.
func TestADebtLargerThanTheAssetsIsANetBelowZero(t *testing.T) {
	s := valued(t,
		in("a", "aave-v3", "pool", secures("10 ETH"), owes("30000 USDC"), is(valuation.Supplied, "0 DAI")),
		in("a", "staking-rewards", "farm", is(valuation.Claimable, "100 DAI"), is(valuation.Locked, "50 USDC"),
			is(valuation.Staked, "2.5 ETH")))
	if got, want := worthText(s.Total), "25150 - 30000 = -4850, 100 to claim, 50 locked; 5, 0 unpriced, "+
		"0 unverified"; got != want {
		t.Error(got)
	}
	if !s.Complete() {
		t.Error(s.Incomplete)
	}
	var lines []string
	for _, p := range s.Breakdown() {
		lines = append(lines, fmt.Sprint(p.Protocol, " ", p.Share.Text('f'), " ", worthText(p.Worth)))
	}
	// 20,000 / 25,150 = 0.795228628…, 5,150 / 25,150 = 0.204771371…: the unit that is left goes to the larger
	// remainder.
	want := `aave-v3 0.79522863 20000 - 30000 = -10000, 0 to claim, 0 locked; 2, 0 unpriced, 0 unverified
staking-rewards 0.20477137 5150 - 0 = 5150, 100 to claim, 50 locked; 3, 0 unpriced, 0 unverified`
	if got := strings.Join(lines, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestWhatHasNoValueIsToldAndNeverZero(t *testing.T) {
	huge := secures("1 ETH")
	huge.Amount, huge.Decimals = new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 256), big.NewInt(1)), 0
	later := is("", "5 USDC")
	s := valued(t,
		in("a", "aave-v3", "pool", secures("1 ETH"), secures("7 NONE"), secures("3 UNLISTED"), secures("1 SPAM"), huge,
			later),
		in("b", "aave-v3", "pool", owes("2 SPAM")),
		missing(in("b", "steth", "token"), "its shares"))
	if got := worthText(s.Total); got != "2000 - 0 = 2000, 0 to claim, 0 locked; 7, 4 unpriced, 2 unverified" {
		t.Error(got)
	}
	var reasons []string
	for _, p := range s.Markets[0].Positions {
		value := "no value"
		if p.Value != nil {
			value = p.Value.Text('f')
		}
		reasons = append(reasons, value+" "+p.Unpriced)
	}
	if got := fmt.Sprint(reasons); got != "[2000.00000000  no value NO_PRICE no value UNKNOWN_TOKEN "+
		"1000000.00000000  no value VALUE_OUT_OF_RANGE no value UNKNOWN_KIND]" {
		t.Error(got)
	}
	want := `ETH in aave-v3 is unpriced: VALUE_OUT_OF_RANGE
NONE in aave-v3 is unpriced: NO_PRICE
USDC in aave-v3 is unpriced: UNKNOWN_KIND
a debt of SPAM in aave-v3 doesn't count: the token isn't verified
eip155:1/erc20:UNLISTED in aave-v3 is unpriced: UNKNOWN_TOKEN
steth eip155:1:token of wallet eip155:1:0xb: its shares`
	if got := strings.Join(s.Incomplete, "\n"); got != want {
		t.Errorf("got\n%s", got)
	}
	if p := s.Markets[0].Positions[2]; p.TokenAmount() != "" || p.UnitPrice != "" {
		t.Errorf("a token that nobody knows has %s of %s", p.TokenAmount(), p.UnitPrice)
	}
	if got := s.Markets[0].Positions[4].TokenAmount(); got != huge.Amount.String() {
		t.Error(got)
	}
	// The control: without any of that nothing is missing.
	if s := valued(t, in("a", "aave-v3", "pool", secures("1 ETH"), secures("1 SPAM"))); !s.Complete() {
		t.Error(s.Incomplete)
	}
}

func TestAStalePriceOrRateIsTold(t *testing.T) {
	old := secures("1 ETH")
	old.Price.Stale = true
	rate := currency.Rate{Currency: "EUR", Price: "1.25", Stale: true}
	s := valuedAt(t, rate, in("a", "aave-v3", "pool", old))
	if got := fmt.Sprint(s.Incomplete); got != "[the price of ETH is stale the rate of EUR is stale]" {
		t.Error(got)
	}
	if p := s.Markets[0].Positions[0]; p.Value.Text('f') != "1600.00000000" ||
		!strings.HasPrefix(p.UnitPrice, "1600.0") {
		t.Errorf("%s at %s", p.Value, p.UnitPrice)
	}
}

// A thousand wallets of which everything is missing don't make an answer of megabytes.
func TestReasonsAreToldUpToANumber(t *testing.T) {
	var markets []valuation.Market
	for i := range 1000 {
		markets = append(markets, missing(in(fmt.Sprint(i), "aave-v3", "pool"), strings.Repeat("x", 300)))
	}
	s := valued(t, markets...)
	if n := len(s.Incomplete); n != 51 || s.Incomplete[50] != "and 950 more" {
		t.Errorf("%d reasons, the last is %q", n, s.Incomplete[n-1])
	}
	if s := valued(t, markets[:50]...); len(s.Incomplete) != 50 || strings.HasPrefix(s.Incomplete[49], "and") {
		t.Errorf("%d reasons at the limit", len(s.Incomplete))
	}
}

// 2 % compounded each second is 2.0201340…% and 5 % is 5.1271096…%, which e^r - 1 bounds from above by r²/2n.
func TestYieldsAreWeightedByValue(t *testing.T) {
	s := valued(t, in("a", "aave-v3", "pool", secures("1 ETH 0.02"), is(valuation.Supplied, "6000 USDC 0.05"),
		is(valuation.Supplied, "2000 DAI 0"), is(valuation.Supplied, "1 BTC"), secures("9 SPAM 10"),
		secures("9 NONE 10"), owes("1000 DAI 0.1"), is(valuation.Claimable, "1 DAI NaN"), owes("0.1 DAI 10.5")))
	var apys []string
	for _, p := range s.Markets[0].Positions {
		apys = append(apys, text(p.APY))
	}
	want := "0.020201340020 0.051271096334 0.000000000000 NO_RATE 22025.430872109359 22025.430872109359 " +
		"0.105170917900 RATE_INVALID RATE_OUT_OF_RANGE"
	if got := strings.Join(apys, " "); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	// (2,000 × 0.02020134002 + 6,000 × 0.051271096334 + 2,000 × 0) / 10,000 = 0.0348029258044
	if got := text(s.Earning.APY) + " of " + s.Earning.Value.Text('f'); got != "0.034802925804 of 10000.00000000" {
		t.Error(got)
	}
	if got := text(s.Borrowing.APY) + " of " + s.Borrowing.Value.Text('f'); got != "0.105170917900 of 1000.00000000" {
		t.Error(got)
	}
	if s.BadRates != 2 {
		t.Errorf("%d bad rates", s.BadRates)
	}
	if s := valued(t); text(s.Earning.APY) != "NO_RATE" || text(s.Borrowing.APY) != "NO_RATE" {
		t.Errorf("nothing earns %s", text(s.Earning.APY))
	}
}

func TestRatesThatAreNoneAreToldAsSuch(t *testing.T) {
	for told, want := range map[string]string{
		"": "<nil> NO_RATE", "0": "0 0.000000000000", "10": "10 22025.430872109359",
		"10.0000001":                      "10.0000001 RATE_OUT_OF_RANGE",
		"1000000000000000000000000000000": "1000000000000000000000000000000 RATE_OUT_OF_RANGE",
		"1e30":                            "<nil> RATE_INVALID",
		"-0.05":                           "<nil> RATE_INVALID", "+0.05": "<nil> RATE_INVALID",
		"NaN": "<nil> RATE_INVALID", "Infinity": "<nil> RATE_INVALID", ".5": "<nil> RATE_INVALID",
		"5.": "<nil> RATE_INVALID", "1.2.3": "<nil> RATE_INVALID", "٣": "<nil> RATE_INVALID",
		"0." + strings.Repeat("1", 200): "<nil> RATE_INVALID",
	} {
		p := secures("1 ETH")
		p.YearlyRate = told
		got := valued(t, in("a", "aave-v3", "pool", p)).Markets[0].Positions[0]
		if rate := fmt.Sprint(got.Rate); rate+" "+text(got.APY) != want {
			t.Errorf("%q is told as %s %s, want %s", told, rate, text(got.APY), want)
		}
	}
}

// What is shown adds up: the positions to their markets, these to protocols, and these to the total; shares to one.
func TestWhatIsShownAddsUp(t *testing.T) {
	kinds := []valuation.PositionKind{valuation.Supplied, valuation.Borrowed, valuation.Staked, valuation.Liquidity,
		valuation.Claimable, valuation.Locked, ""}
	symbols := []string{"ETH", "USDC", "DAI", "BTC", "NONE", "SPAM", "UNLISTED"}
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 1))
		var markets []valuation.Market
		for w := range r.IntN(8) {
			for m := range r.IntN(8) {
				of := in(fmt.Sprint(w), fmt.Sprint("p", m%3), fmt.Sprint(m))
				for range r.IntN(9) {
					p := is(kinds[r.IntN(len(kinds))], "1 "+symbols[r.IntN(len(symbols))])
					p.Amount = new(big.Int).Rsh(big.NewInt(r.Int64()), uint(r.IntN(64)))
					p.Price.Amount = strings.Replace(p.Price.Amount, "000",
						fmt.Sprintf("%03d.%d", r.IntN(1000), r.IntN(1e9)), 1)
					of.Positions = append(of.Positions, p)
				}
				markets = append(markets, of)
			}
		}
		s := valuedAt(t, currency.Rate{Currency: "EUR", Price: fmt.Sprintf("1.%d", r.IntN(1e6)+1)}, markets...)
		assets, liabilities := new(big.Rat), new(big.Rat)
		count, unpriced, unverified := 0, 0, 0
		for _, m := range s.Markets {
			for _, p := range m.Positions {
				count++
				switch {
				case p.Value == nil:
					unpriced++
				case !p.Verified:
					unverified++
				case p.Kind == valuation.Borrowed:
					liabilities.Add(liabilities, rat(t, p.Value))
				default:
					assets.Add(assets, rat(t, p.Value))
				}
			}
		}
		shown := func(a, l *big.Rat, n, u, v int) string {
			net := new(big.Rat).Sub(a, l)
			return fmt.Sprint(a.FloatString(8), " ", l.FloatString(8), " ", net.FloatString(8), n, u, v)
		}
		of := func(w defi.Worth) string {
			if got := new(big.Rat).Sub(rat(t, w.Assets), rat(t, w.Liabilities)); got.Cmp(rat(t, w.Net)) != 0 {
				t.Fatalf("%s - %s is not %s", w.Assets, w.Liabilities, w.Net)
			}
			return shown(rat(t, w.Assets), rat(t, w.Liabilities), w.Positions, w.Unpriced, w.Unverified)
		}
		if got, want := of(s.Total), shown(assets, liabilities, count, unpriced, unverified); got != want {
			t.Fatalf("seed %d: the total is %s, the positions are %s", seed, got, want)
		}
		sums := map[string]*big.Rat{}
		add := func(what string, d *apd.Decimal) {
			if sums[what] == nil {
				sums[what] = new(big.Rat)
			}
			sums[what].Add(sums[what], rat(t, d))
		}
		for _, p := range s.Breakdown() {
			add("assets of protocols", p.Worth.Assets)
			add("claimable of protocols", p.Worth.Claimable)
			for _, m := range p.Markets {
				add("assets", m.Worth.Assets)
				add("net", m.Worth.Net)
				add("locked", m.Worth.Locked)
				if m.Share != nil {
					add("shares", m.Share)
					add("shares of "+p.Protocol, m.Share)
				}
			}
			if p.Share != nil && sums["shares of "+p.Protocol].Cmp(rat(t, p.Share)) != 0 {
				t.Fatalf("seed %d: the share of %s is %s", seed, p.Protocol, p.Share)
			}
		}
		for what, want := range map[string]*apd.Decimal{"assets of protocols": s.Total.Assets,
			"claimable of protocols": s.Total.Claimable, "assets": s.Total.Assets, "net": s.Total.Net,
			"locked": s.Total.Locked, "shares": apd.New(1, 0)} {
			if sum := sums[what]; sum != nil && sum.Cmp(rat(t, want)) != 0 {
				t.Fatalf("seed %d: %s sum to %s, want %s", seed, what, sum.FloatString(8), want)
			}
		}
	}
}
