package chain_test

import (
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/devstack/prices"
)

// The numbers on file, which the pool gives too, are those of a computation in Go with large integers that shares
// nothing with the contracts: indexes, rates and balances after each step, and the health of each account.
func TestAnIndependentComputationGivesTheAnswersOfTheLendingPool(t *testing.T) {
	t.Parallel()
	table := readLendingTable(t)
	var answers []lendingAnswer
	readJSON(t, "lending_answers.json", &answers)
	m := newModel(table)
	for i, s := range table.Steps {
		m.now = answers[i].Time
		if s.Refused == "" {
			m.step(t, s)
		}
		m.check(t, answers[i])
		if t.Failed() {
			t.Fatalf("at step %d, %s", i, s)
		}
	}
}

// Between touches a supply grows linearly. A debt grows as if it were compounded every second, less the terms from the
// fourth on, which is a third of a percent for a year at 60 %.
func TestTheSeriesOfADebtIsCloseToCompoundingEverySecond(t *testing.T) {
	t.Parallel()
	const year = 365 * 86_400
	for _, percent := range []int64{1, 6, 25, 60} {
		for _, seconds := range []int64{1, 2, 3, 3_600, 30 * 86_400, year} {
			series := compound(new(big.Int).Mul(big.NewInt(percent), tenTo(25)), seconds)
			// (1 + rate / year) ^ seconds, by squaring, with 400 bits.
			exact, base := float(1), float(1)
			base.Add(base, new(big.Float).Quo(float(percent), float(100*year)))
			for n := seconds; n > 0; n >>= 1 {
				if n&1 == 1 {
					exact.Mul(exact, base)
				}
				base.Mul(base, base)
			}
			exact.Mul(exact, new(big.Float).SetPrec(400).SetInt(tenTo(27)))
			difference := new(big.Float).Sub(exact, new(big.Float).SetInt(series))
			missing, _ := difference.Quo(difference, exact).Float64()
			x := float64(percent) / 100 * float64(seconds) / year
			// The fourth term, with its tail, and what the contract's division drops of the two before.
			if limit := x*x*x*x/24*1.3 + 1e-5*float64(seconds)/year; missing < -1e-26 || missing > limit+1e-26 {
				t.Errorf("%d %% for %d s: %g of the debt is missing, at most %g may be", percent, seconds, missing,
					limit)
			}
		}
	}
}

func float(n int64) *big.Float { return new(big.Float).SetPrec(400).SetInt64(n) }

func tenTo(n int64) *big.Int { return new(big.Int).Exp(big.NewInt(10), big.NewInt(n), nil) }

// nearest is a / b, a half rounded up.
func nearest(a, b *big.Int) *big.Int {
	half := new(big.Int).Rsh(b, 1)
	return half.Add(half, a).Div(half, b)
}

func times(a, b *big.Int) *big.Int { return new(big.Int).Mul(a, b) }

func sum(a, b *big.Int) *big.Int { return new(big.Int).Add(a, b) }

func ray() *big.Int { return tenTo(27) }

func rayTimes(a, b *big.Int) *big.Int { return nearest(times(a, b), ray()) }

func rayOver(a, b *big.Int) *big.Int { return nearest(times(a, ray()), b) }

// compound is the factor by which a debt grows.
func compound(rate *big.Int, seconds int64) *big.Int {
	year := big.NewInt(365 * 86_400)
	total := sum(ray(), new(big.Int).Div(times(rate, big.NewInt(seconds)), year))
	power := rate
	for k := int64(2); k <= 3; k++ {
		divisor := year
		if k == 2 {
			divisor = times(year, year)
		}
		power = new(big.Int).Div(rayTimes(power, rate), divisor)
		total.Add(total, times(new(big.Int).Binomial(seconds, k), power))
	}
	return total
}

// model is the state of the pool.
type model struct {
	now      int64
	reserves map[string]*modelReserve
	// collateral are the assets that a user borrows against.
	collateral map[string]map[string]bool
}

type modelReserve struct {
	params                    lendingReserve
	cash, treasury            *big.Int
	liquidityIndex, debtIndex *big.Int
	liquidityRate, debtRate   *big.Int
	supplied, borrowed        map[string]*big.Int // scaled, by user
	touched                   int64
}

func newModel(table lendingTable) *model {
	m := &model{reserves: map[string]*modelReserve{}, collateral: map[string]map[string]bool{}}
	for _, r := range table.Reserves {
		m.reserves[r.Symbol] = &modelReserve{params: r, cash: new(big.Int), treasury: new(big.Int),
			liquidityIndex: ray(), debtIndex: ray(), liquidityRate: new(big.Int), debtRate: new(big.Int),
			supplied: map[string]*big.Int{}, borrowed: map[string]*big.Int{}}
	}
	for _, user := range []string{"whale", "ann", "ben"} {
		m.collateral[user] = map[string]bool{}
	}
	return m
}

func amountOf(scaled map[string]*big.Int, user string) *big.Int {
	if n, ok := scaled[user]; ok {
		return n
	}
	return new(big.Int)
}

func totalOf(scaled map[string]*big.Int) *big.Int {
	total := new(big.Int)
	for _, n := range scaled {
		total.Add(total, n)
	}
	return total
}

func (m *model) income(r *modelReserve) *big.Int {
	if m.now == r.touched {
		return r.liquidityIndex
	}
	growth := new(big.Int).Div(times(r.liquidityRate, big.NewInt(m.now-r.touched)), big.NewInt(365*86_400))
	return rayTimes(growth.Add(growth, ray()), r.liquidityIndex)
}

func (m *model) debt(r *modelReserve) *big.Int {
	if m.now == r.touched {
		return r.debtIndex
	}
	return rayTimes(compound(r.debtRate, m.now-r.touched), r.debtIndex)
}

// touch brings a reserve up to now.
func (m *model) touch(r *modelReserve) {
	r.liquidityIndex = m.income(r)
	if total := totalOf(r.borrowed); total.Sign() > 0 {
		before := rayTimes(total, r.debtIndex)
		r.debtIndex = m.debt(r)
		interest := new(big.Int).Sub(rayTimes(total, r.debtIndex), before)
		share := nearest(times(interest, new(big.Int).SetUint64(r.params.Treasury)), big.NewInt(10_000))
		r.treasury = sum(r.treasury, rayOver(share, r.liquidityIndex))
	}
	r.touched = m.now
}

// setRates sets the rates by what is lent.
func (r *modelReserve) setRates() {
	debt := rayTimes(totalOf(r.borrowed), r.debtIndex)
	usage := new(big.Int)
	if debt.Sign() > 0 {
		usage = rayOver(debt, sum(r.cash, debt))
	}
	optimal := percents(r.params.Optimal)
	rate := percents(r.params.Base)
	if usage.Cmp(optimal) > 0 {
		excess := rayOver(new(big.Int).Sub(usage, optimal), new(big.Int).Sub(ray(), optimal))
		rate = sum(sum(rate, percents(r.params.Slope1)), rayTimes(percents(r.params.Slope2), excess))
	} else {
		rate = sum(rate, rayOver(rayTimes(percents(r.params.Slope1), usage), optimal))
	}
	r.debtRate, r.liquidityRate = rate, new(big.Int)
	if debt.Sign() > 0 {
		wide := times(debt, tenTo(9))
		paid := rayTimes(rayOver(rayTimes(wide, rate), wide), usage)
		r.liquidityRate = nearest(times(paid, new(big.Int).SetUint64(10_000-r.params.Treasury)), big.NewInt(10_000))
	}
}

func (m *model) step(t *testing.T, s lendingStep) {
	t.Helper()
	if s.Do == "look" {
		return
	}
	r := m.reserves[s.Asset]
	whom := s.By
	if s.For != "" {
		whom = s.For
	}
	amount, all := new(big.Int), s.Amount == "all"
	if s.Amount != "" && !all {
		whole, ok := new(big.Rat).SetString(s.Amount)
		if !ok {
			t.Fatalf("amount %q", s.Amount)
		}
		amount = whole.Mul(whole, new(big.Rat).SetInt(tenTo(decimalsOf(s.Asset)))).Num()
	}
	switch s.Do {
	case "collateral", "no collateral":
		m.collateral[s.By][s.Asset] = s.Do == "collateral"
		return
	case "send":
		m.send(r, s, amount)
		return
	case "treasury":
		income := m.income(r)
		r.supplied["treasury"] = sum(amountOf(r.supplied, "treasury"), rayOver(rayTimes(r.treasury, income), income))
		r.treasury = new(big.Int)
		return
	}
	m.touch(r)
	switch s.Do {
	case "supply":
		m.supplied(r, whom, s.Asset, rayOver(amount, r.liquidityIndex))
		r.cash = sum(r.cash, amount)
	case "withdraw":
		if balance := rayTimes(amountOf(r.supplied, s.By), r.liquidityIndex); all || amount.Cmp(balance) == 0 {
			amount, m.collateral[s.By][s.Asset] = balance, false
		}
		r.supplied[s.By] = new(big.Int).Sub(amountOf(r.supplied, s.By), rayOver(amount, r.liquidityIndex))
		r.cash = new(big.Int).Sub(r.cash, amount)
	case "borrow":
		r.borrowed[whom] = sum(amountOf(r.borrowed, whom), rayOver(amount, r.debtIndex))
		r.cash = new(big.Int).Sub(r.cash, amount)
	case "repay":
		if debt := rayTimes(amountOf(r.borrowed, whom), r.debtIndex); all || amount.Cmp(debt) > 0 {
			amount = debt
		}
		r.borrowed[whom] = new(big.Int).Sub(amountOf(r.borrowed, whom), rayOver(amount, r.debtIndex))
		r.cash = sum(r.cash, amount)
	default:
		t.Fatalf("unknown step %s", s)
	}
	r.setRates()
}

// supplied adds to a user's supply; the first of an asset that may be collateral is.
func (m *model) supplied(r *modelReserve, user, asset string, scaled *big.Int) {
	if amountOf(r.supplied, user).Sign() == 0 && r.params.LTV != 0 {
		m.collateral[user][asset] = true
	}
	r.supplied[user] = sum(amountOf(r.supplied, user), scaled)
}

func (m *model) send(r *modelReserve, s lendingStep, amount *big.Int) {
	scaled := rayOver(amount, m.income(r))
	r.supplied[s.By] = new(big.Int).Sub(amountOf(r.supplied, s.By), scaled)
	m.supplied(r, s.For, s.Asset, scaled)
}

func decimalsOf(symbol string) int64 {
	if symbol == "USDC" {
		return 6
	}
	return 18
}

// check compares the model with what the pool said.
func (m *model) check(t *testing.T, a lendingAnswer) {
	t.Helper()
	for symbol, r := range m.reserves {
		have := []*big.Int{r.liquidityIndex, r.liquidityRate, r.debtIndex, r.debtRate, r.treasury, m.income(r),
			m.debt(r)}
		data, now := strings.Fields(a.Reads[symbol]), strings.Fields(a.Reads[symbol+" now"])
		said := []string{data[1], data[2], data[3], data[4], data[len(data)-3], now[1], now[2]}
		if computed := decimals(have); !slices.Equal(computed, said) {
			t.Errorf("%s: computed\n%q, the pool says\n%q", symbol, computed, said)
		}
		for user := range m.collateral {
			supplied, borrowed := amountOf(r.supplied, user), amountOf(r.borrowed, user)
			computed := decimals([]*big.Int{rayTimes(supplied, m.income(r)), supplied,
				rayTimes(borrowed, m.debt(r)), borrowed})
			if said := strings.Fields(a.Reads[user+" "+symbol])[:4]; !slices.Equal(computed, said) {
				t.Errorf("%s of %s: computed\n%q, the pool says\n%q", symbol, user, computed, said)
			}
		}
	}
	for user := range m.collateral {
		m.checkHealth(t, user, a)
	}
}

// checkHealth compares Σ(collateral · threshold) / Σ(debt), of exact fractions, with what the pool says. It cuts the
// average threshold to a hundredth of a percent.
func (m *model) checkHealth(t *testing.T, user string, a lendingAnswer) {
	t.Helper()
	weighted, owed := new(big.Rat), new(big.Rat)
	for symbol, r := range m.reserves {
		text, _ := prices.PriceAt(symbol, time.Unix(a.Time, 0))
		price, _ := new(big.Rat).SetString(text)
		price.Quo(price, new(big.Rat).SetInt(tenTo(decimalsOf(symbol))))
		value := func(n *big.Int) *big.Rat { return new(big.Rat).Mul(new(big.Rat).SetInt(n), price) }
		if m.collateral[user][symbol] {
			v := value(rayTimes(amountOf(r.supplied, user), m.income(r)))
			weighted.Add(weighted, v.Mul(v, big.NewRat(int64(r.params.Threshold), 10_000)))
		}
		owed.Add(owed, value(rayTimes(amountOf(r.borrowed, user), m.debt(r))))
	}
	said, _ := new(big.Int).SetString(strings.Fields(a.Reads[user])[5], 10)
	if dust := big.NewRat(1, 100_000_000); owed.Cmp(dust) < 0 {
		if said.BitLen() != 256 {
			t.Errorf("%s owes nothing and has a health of %s", user, said)
		}
		return
	}
	computed, _ := weighted.Quo(weighted, owed).Float64()
	pool, _ := new(big.Rat).SetFrac(said, tenTo(18)).Float64()
	if pool > computed*1.00001 || pool < computed*(1-1.5e-4) {
		t.Errorf("%s has a health of %.9f by the pool, computed %.9f", user, pool, computed)
	}
}

func decimals(all []*big.Int) (said []string) {
	for _, n := range all {
		said = append(said, n.String())
	}
	return said
}
