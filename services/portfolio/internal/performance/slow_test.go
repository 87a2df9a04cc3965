package performance_test

import (
	"fmt"
	"math"
	"math/big"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/portfolio/internal/performance"
)

// account is units of one asset at a price, hour by hour: what the figures are of,
// in rational numbers.
type account struct {
	hours []hour
}

type hour struct {
	at     time.Time
	price  *big.Rat
	change *big.Rat // of the units, after the price
	units  *big.Rat // after the change
}

func drawAccount(t *rapid.T) account {
	n := rapid.IntRange(2, 60).Draw(t, "hours")
	at := on(2026, 1, 1)
	units := big.NewRat(rapid.Int64Range(0, 1000).Draw(t, "units"), 7)
	var a account
	for i := range n {
		h := hour{at: at, price: big.NewRat(rapid.Int64Range(1, 5000).Draw(t, "price"), 16), change: new(big.Rat)}
		if i > 0 && rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
			h.change = big.NewRat(rapid.Int64Range(-800, 800).Draw(t, "change"), 8)
			if new(big.Rat).Add(units, h.change).Sign() < 0 {
				h.change.Neg(units) // all of it
			}
		}
		units = new(big.Rat).Add(units, h.change)
		h.units = units
		a.hours = append(a.hours, h)
		at = at.Add(time.Duration(rapid.IntRange(1, 40).Draw(t, "later")) * time.Hour)
	}
	return a
}

// text returns a number of up to 40 decimals.
func text(r *big.Rat) string { return r.FloatString(40) }

func (a account) marks(t testing.TB) []performance.Mark {
	var list []mark
	for _, h := range a.hours {
		list = append(list, mark{h.at, text(new(big.Rat).Mul(h.units, h.price)),
			text(new(big.Rat).Mul(h.change, h.price))})
	}
	return marks(t, list...)
}

// timeWeighted multiplies, for each run of hours without a change of the units, the
// price at its end by that at its start: units cancel out.
func (a account) timeWeighted() (growth *big.Rat, skipped int, any bool) {
	growth = big.NewRat(1, 1)
	for start := 0; start < len(a.hours)-1; {
		end := start + 1
		for end < len(a.hours)-1 && a.hours[end].change.Sign() == 0 {
			end++
		}
		worth := new(big.Rat).Mul(a.hours[start].units, a.hours[start].price)
		switch {
		case worth.Cmp(big.NewRat(1, 1)) >= 0:
			any = true
			growth.Mul(growth, new(big.Rat).Quo(a.hours[end].price, a.hours[start].price))
		case worth.Sign() > 0:
			skipped++
		}
		start = end
	}
	return growth, skipped, any
}

// modifiedDietz is the definition, over fractions of the period in hours.
func (a account) modifiedDietz() (*big.Rat, bool) {
	first, last := a.hours[0], a.hours[len(a.hours)-1]
	length := int64(last.at.Sub(first.at) / time.Hour)
	begin := new(big.Rat).Mul(first.units, first.price)
	gain := new(big.Rat).Sub(new(big.Rat).Mul(last.units, last.price), begin)
	capital := new(big.Rat).Set(begin)
	for _, h := range a.hours[1:] {
		flow := new(big.Rat).Mul(h.change, h.price)
		gain.Sub(gain, flow)
		left := big.NewRat(int64(last.at.Sub(h.at)/time.Hour), length)
		capital.Add(capital, new(big.Rat).Mul(flow, left))
	}
	if capital.Sign() <= 0 {
		return nil, false
	}
	return gain.Quo(gain, capital), true
}

func near(got float64, want *big.Rat) bool {
	w, _ := want.Float64()
	return math.Abs(got-w) <= 1e-12*math.Max(1, math.Abs(w))
}

func TestReturnsAreThoseOfASlowComputation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := drawAccount(rt)
		p, err := performance.Measure(performance.Input{Marks: a.marks(t)})
		if err != nil {
			rt.Fatal(err)
		}
		growth, skipped, any := a.timeWeighted()
		got := p.TimeWeighted.Period
		if any != (got.Unavailable == "") || any && !near(got.Figure, growth.Sub(growth, big.NewRat(1, 1))) {
			rt.Errorf("time-weighted %v, want %s", got, growth.FloatString(15))
		}
		if p.Skipped != skipped {
			rt.Errorf("%d skipped, want %d", p.Skipped, skipped)
		}
		dietz, ok := a.modifiedDietz()
		if got := p.ModifiedDietz; ok != (got.Unavailable == "") || ok && !near(got.Figure, dietz) {
			rt.Errorf("Modified Dietz %v, want %v", got, dietz)
		}
		wantFinite(rt, p)
	})
}

func wantFinite(t rapid.TB, p performance.Performance) {
	t.Helper()
	for name, r := range map[string]performance.Ratio{
		"time-weighted": p.TimeWeighted.Period, "a year of it": p.TimeWeighted.Annualized,
		"money-weighted": p.MoneyWeighted.Period, "a year of that": p.MoneyWeighted.Annualized,
		"Modified Dietz": p.ModifiedDietz, "volatility": p.Risk.Volatility, "downside": p.Risk.DownsideDeviation,
		"Sharpe": p.Risk.Sharpe, "Sortino": p.Risk.Sortino, "Calmar": p.Risk.Calmar, "drawdown": p.Drawdown.Depth,
	} {
		if math.IsNaN(r.Figure) || math.IsInf(r.Figure, 0) || r.Unavailable != "" && r.Figure != 0 {
			t.Errorf("%s is %v", name, r)
		}
	}
}

// npv is what all money of an account is worth at the growth of a day, relative to
// the sum of its parts.
func (a account) npv(logDay float64) float64 {
	byDate := map[int]*big.Rat{}
	add := func(at time.Time, money *big.Rat) {
		d := int(at.Sub(on(2026, 1, 1)) / (24 * time.Hour))
		if byDate[d] == nil {
			byDate[d] = new(big.Rat)
		}
		byDate[d].Add(byDate[d], money)
	}
	first, last := a.hours[0], a.hours[len(a.hours)-1]
	add(first.at, new(big.Rat).Neg(new(big.Rat).Mul(first.units, first.price)))
	for _, h := range a.hours[1:] {
		add(h.at, new(big.Rat).Neg(new(big.Rat).Mul(h.change, h.price)))
	}
	add(last.at, new(big.Rat).Mul(last.units, last.price))
	var sum, size float64
	for d, money := range byDate {
		m, _ := money.Float64()
		x := m * math.Exp(-logDay*float64(d))
		sum, size = sum+x, size+math.Abs(x)
	}
	if size == 0 {
		return 0
	}
	return sum / size
}

// Every crossing that a fine grid sees is found, and what is found is a root.
func TestEveryRateThatAGridSeesIsFound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a := drawAccount(rt)
		p, err := performance.Measure(performance.Input{Marks: a.marks(t)})
		if err != nil {
			rt.Fatal(err)
		}
		var found []float64 // logarithms of a day's growth
		switch r := p.MoneyWeighted.Annualized; r.Unavailable {
		case "":
			if r.Figure < -1+1e-9 || r.Figure > 1e15 {
				return // a grid of float64 tells nothing there
			}
			found = []float64{math.Log1p(r.Figure) / 365}
		case performance.ReasonSeveralRates:
			for _, rate := range p.Rates {
				found = append(found, math.Log1p(rate)/365)
			}
		case performance.ReasonUnresolved:
			rt.Fatal(r)
		}
		for _, x := range found {
			if x > -0.05 && math.Abs(a.npv(x)) > 1e-9 {
				rt.Errorf("at the rate %v the money is worth %v", x, a.npv(x))
			}
		}
		if p.MoneyWeighted.Annualized.Unavailable == performance.ReasonOutOfRange ||
			p.MoneyWeighted.Annualized.Unavailable == performance.ReasonTooShort {
			return
		}
		const step = 0.0005
		for x := -0.05; x < 0.08; x += step {
			if low, high := a.npv(x), a.npv(x+step); low < 0 && high > 0 || low > 0 && high < 0 {
				if !slices.ContainsFunc(found, func(r float64) bool { return r >= x-1e-9 && r <= x+step+1e-9 }) {
					rt.Errorf("a root from %v to %v is not among %v (%v)", x, x+step, found, p.MoneyWeighted)
				}
			}
		}
	})
}

// Yearly flows are the coefficients of a polynomial whose roots are known.
func TestAllRootsOfAPolynomialAreFound(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(rt, "roots")
		grid := rapid.SliceOfNDistinct(rapid.IntRange(1, 60), n, n, rapid.ID[int]).Draw(rt, "growths")
		slices.Sort(grid)
		coefficients := []*big.Rat{big.NewRat(-1000, 1)} // of the highest power first
		for _, g := range grid {
			root := big.NewRat(int64(g), 20) // growth of a year, 0.05 to 3
			next := make([]*big.Rat, len(coefficients)+1)
			for i := range next {
				next[i] = new(big.Rat)
				if i < len(coefficients) {
					next[i].Add(next[i], coefficients[i])
				}
				if i > 0 {
					next[i].Sub(next[i], new(big.Rat).Mul(root, coefficients[i-1]))
				}
			}
			coefficients = next
		}
		worth := big.NewRat(1_000_000_000, 1) // what else is there doesn't matter
		var list []mark
		for i, c := range coefficients {
			at := on(2000, 1, 1).AddDate(0, 0, 365*i)
			switch i {
			case 0:
				list = append(list, mark{at, text(new(big.Rat).Neg(c)), ""})
			case len(coefficients) - 1:
				end := new(big.Rat)
				if c.Sign() > 0 {
					list = append(list, mark{at, text(c), ""})
				} else {
					list = append(list, mark{at, text(end), text(new(big.Rat).Neg(c))})
				}
			default:
				list = append(list, mark{at, text(worth), text(new(big.Rat).Neg(c))})
			}
		}
		p, err := performance.Measure(performance.Input{Marks: marks(t, list...)})
		if err != nil {
			rt.Fatal(err)
		}
		rates := p.Rates
		if n == 1 {
			rates = []float64{p.MoneyWeighted.Annualized.Figure}
		}
		if len(rates) != n {
			rt.Fatalf("%v: %v, %v; want the growths %v twentieths", list, p.MoneyWeighted, p.Rates, grid)
		}
		for i, g := range grid {
			if want := float64(g)/20 - 1; math.Abs(rates[i]-want) > 1e-7 {
				rt.Errorf("rate %d is %v, want %v", i, rates[i], want)
			}
		}
	})
}

func TestDistinctRatesThatAreCloseAreTwo(t *testing.T) {
	for _, apart := range []float64{1e-2, 1e-4, 1e-5, 0} {
		t.Run(fmt.Sprint(apart), func(t *testing.T) {
			second := new(big.Rat).SetFloat64(1.1 + apart)
			first := big.NewRat(11, 10)
			year := func(n int) time.Time { return on(2026, 1, 1).AddDate(0, 0, 365*n) }
			middle := new(big.Rat).Mul(big.NewRat(1000, 1), new(big.Rat).Add(first, second))
			end := new(big.Rat).Mul(big.NewRat(1000, 1), new(big.Rat).Mul(first, second))
			p := measure(t, mark{year(0), "1000", ""}, mark{year(1), "9999", text(middle.Neg(middle))},
				mark{year(2), "0", text(end)})
			if apart == 0 {
				want(t, "the rate of a sum that touches zero", p.MoneyWeighted.Annualized, 0.1, 6)
				return
			}
			if len(p.Rates) != 2 || math.Abs(p.Rates[0]-0.1) > apart/100 ||
				math.Abs(p.Rates[1]-0.1-apart) > apart/100 {
				t.Errorf("the rates are %v", p.Rates)
			}
		})
	}
}
