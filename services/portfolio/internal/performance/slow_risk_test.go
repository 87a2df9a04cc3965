package performance_test

import (
	"math"
	"math/big"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/portfolio/internal/performance"
)

// drawDays is an account with a mark at the noon of most days of a range, which begins at the first mark's midnight
// and ends at the last limit. Its worth is always above the threshold. The account's hours at noon of the i-th day are
// in byDay, nil for a day without a mark.
func drawDays(t *rapid.T) (a account, byDay []*hour, limits []time.Time) {
	n := rapid.IntRange(1, 40).Draw(t, "days")
	units := big.NewRat(500, 1)
	for i := range n {
		limits = append(limits, on(2026, 1, 1).AddDate(0, 0, i+1))
		if i > 0 && rapid.IntRange(0, 5).Draw(t, "without a mark") == 0 {
			byDay = append(byDay, nil)
			continue
		}
		h := hour{at: on(2026, 1, 1).AddDate(0, 0, i).Add(12 * time.Hour),
			price: big.NewRat(rapid.Int64Range(1, 40).Draw(t, "price"), 16), change: new(big.Rat)}
		if len(a.hours) > 0 && rapid.Bool().Draw(t, "has a flow") {
			after := big.NewRat(rapid.Int64Range(100, 900).Draw(t, "units"), 1)
			h.change.Sub(after, units)
			units = after
		}
		h.units = units
		a.hours = append(a.hours, h)
		byDay = append(byDay, &a.hours[len(a.hours)-1])
	}
	for i, n := 0, 0; i < len(byDay); i++ { // the slice may have been moved while it grew
		if byDay[i] != nil {
			byDay[i] = &a.hours[n]
			n++
		}
	}
	return a, byDay, limits
}

func float(r *big.Rat) float64 { f, _ := r.Float64(); return f }

// risk is by the definitions, in rational numbers up to the root: reason is set instead of a figure.
type risk struct {
	figure float64
	reason performance.Reason
}

// slowRisk returns the figures of daily returns.
func slowRisk(returns []*big.Rat, riskFree float64) map[string]risk {
	if len(returns) < 2 {
		few := risk{reason: performance.ReasonFewReturns}
		return map[string]risk{"volatility": few, "downside": few, "Sharpe": few, "Sortino": few}
	}
	ofDay := new(big.Rat).SetFloat64(math.Pow(1+riskFree, 1./365) - 1)
	n := big.NewRat(int64(len(returns)), 1)
	mean := new(big.Rat)
	for _, r := range returns {
		mean.Add(mean, new(big.Rat).Quo(r, n))
	}
	variance, below := new(big.Rat), new(big.Rat)
	for _, r := range returns {
		d := new(big.Rat).Sub(r, mean)
		variance.Add(variance, d.Mul(d, d).Quo(d, new(big.Rat).Sub(n, big.NewRat(1, 1))))
		if under := new(big.Rat).Sub(r, ofDay); under.Sign() < 0 {
			below.Add(below, under.Mul(under, under).Quo(under, n))
		}
	}
	year := math.Sqrt(365)
	deviation, downside := math.Sqrt(float(variance)), math.Sqrt(float(below))
	excess := float(new(big.Rat).Sub(mean, ofDay))
	all := map[string]risk{"volatility": {figure: deviation * year}, "downside": {figure: downside * year},
		"Sharpe":  {reason: performance.ReasonNoDeviation},
		"Sortino": {reason: performance.ReasonNoDownside}}
	if variance.Sign() > 0 {
		all["Sharpe"] = risk{figure: excess / deviation * year}
	}
	if below.Sign() > 0 {
		all["Sortino"] = risk{figure: excess / downside * year}
	}
	return all
}

// slowDrawdown compares all pairs. Without flows the growth is that of the price. Several pairs can be the deepest.
func (a account) slowDrawdown() (depth *big.Rat, deepest [][2]int) {
	depth = new(big.Rat)
	for j := range a.hours {
		for i := range j {
			d := new(big.Rat).Quo(a.hours[j].price, a.hours[i].price)
			switch c := d.Sub(d, big.NewRat(1, 1)).Cmp(depth); {
			case c < 0:
				depth, deepest = d, [][2]int{{i, j}}
			case c == 0 && d.Sign() < 0:
				deepest = append(deepest, [2]int{i, j})
			}
		}
	}
	return depth, deepest
}

// checkDrawdown compares the depth and the dates with those of one of the deepest pairs: of the only trough with the
// last of its peaks, if there is one.
func (a account) checkDrawdown(t *rapid.T, got performance.Drawdown) (depth *big.Rat) {
	depth, deepest := a.slowDrawdown()
	if len(deepest) == 0 {
		if got.Depth.Unavailable != performance.ReasonNoDrawdown || !got.Trough.IsZero() || !got.Peak.IsZero() {
			t.Errorf("the drawdown is %+v, want none", got)
		}
		return depth
	}
	if got.Depth.Unavailable != "" || !near(got.Depth.Figure, depth) {
		t.Errorf("the drawdown is %+v, want %s", got, depth.FloatString(15))
	}
	for n, pair := range deepest {
		peak, trough := a.hours[pair[0]], a.hours[pair[1]]
		sameTrough := n+1 < len(deepest) && deepest[n+1][1] == pair[1]
		if sameTrough || !got.Peak.Equal(peak.at) || !got.Trough.Equal(trough.at) {
			continue
		}
		recovery := time.Time{}
		for _, h := range a.hours[pair[1]+1:] {
			if h.price.Cmp(peak.price) >= 0 {
				recovery = h.at
				break
			}
		}
		if !got.Recovery.Equal(recovery) {
			t.Errorf("%+v recovers at %s", got, recovery)
		}
		return depth
	}
	t.Errorf("%+v is none of %v", got, deepest)
	return depth
}

func TestRiskIsThatOfASlowComputation(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		a, byDay, limits := drawDays(rt)
		riskFree := rapid.SampledFrom([]float64{0, 0.02, -0.01, 0.5}).Draw(rt, "risk-free")
		p, err := performance.Measure(performance.Input{Marks: a.marks(t), Days: limits, DayBefore: on(2026, 1, 1),
			RiskFree: riskFree})
		if err != nil {
			rt.Fatal(err)
		}
		var returns []*big.Rat
		for i := 1; i < len(byDay); i++ {
			if before, after := byDay[i-1], byDay[i]; before != nil && after != nil {
				r := new(big.Rat).Quo(after.price, before.price)
				returns = append(returns, r.Sub(r, big.NewRat(1, 1)))
			}
		}
		if p.Risk.Returns != len(returns) {
			rt.Fatalf("%d returns, want %d", p.Risk.Returns, len(returns))
		}
		want := slowRisk(returns, riskFree)
		for name, got := range map[string]performance.Ratio{"volatility": p.Risk.Volatility,
			"downside": p.Risk.DownsideDeviation, "Sharpe": p.Risk.Sharpe, "Sortino": p.Risk.Sortino} {
			w := want[name]
			if got.Unavailable != w.reason || math.Abs(got.Figure-w.figure) > 1e-10*max(1, math.Abs(w.figure)) {
				rt.Errorf("%s is %v, want %v", name, got, w)
			}
		}
		if len(a.hours) < 2 {
			return
		}
		depth := a.checkDrawdown(rt, p.Drawdown)
		first, last := a.hours[0], a.hours[len(a.hours)-1]
		days := last.at.Sub(first.at).Hours() / 24
		year := math.Pow(float(new(big.Rat).Quo(last.price, first.price)), 365/days) - 1
		calmar := risk{figure: year / -float(depth)}
		switch {
		case math.IsInf(year, 0):
			calmar = risk{reason: performance.ReasonOutOfRange}
		case depth.Sign() == 0:
			calmar = risk{reason: performance.ReasonNoDrawdown}
		}
		if got := p.Risk.Calmar; got.Unavailable != calmar.reason ||
			math.Abs(got.Figure-calmar.figure) > 1e-9*max(1, math.Abs(calmar.figure)) {
			rt.Errorf("Calmar is %v, want %v", got, calmar)
		}
	})
}
