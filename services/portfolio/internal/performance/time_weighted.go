package performance

import (
	"math"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// growth is how a portfolio grew, without its flows.
type growth struct {
	// index has a point for each mark, the first is 1.
	index []indexPoint
	// total is the last point of the index, exact to growthDigits.
	total *apd.Decimal
	// skipped counts the sub-periods that were skipped with a value above zero.
	skipped int
	// start and end are those of the first and the last sub-period that were not
	// skipped; zero if all were.
	start, end time.Time
	// inconsistent: more left than there was.
	inconsistent bool
	// belowZero: more was owed than owned at a time. The index ends before that.
	belowZero bool
}

// indexPoint is the growth since the first mark.
type indexPoint struct {
	at     time.Time
	growth float64
	// exact is growth, to growthDigits.
	exact *apd.Decimal
	// measured counts the steps up to here that were not skipped.
	measured int
}

// chain multiplies the growth of the sub-periods, from flow to flow. A sub-period
// begins with the value after a flow and ends with the one before the next, at the
// prices of then: the value of a mark less its flow. What the value is in between
// doesn't matter to it.
//
// A sub-period that begins with less than Epsilon is skipped: it grows by nothing. Below 0 there is no growth.
func chain(marks []Mark) (growth, error) {
	var a arithmetic
	epsilon, _, err := apd.NewFromString(Epsilon)
	if err != nil {
		return growth{}, err
	}
	g := growth{total: apd.New(1, 0), index: make([]indexPoint, 0, len(marks))}
	if marks[0].Value.Sign() < 0 {
		g.belowZero = true
		return g, nil
	}
	g.index = append(g.index, indexPoint{at: marks[0].Time, growth: 1, exact: g.total})
	base, since, measured := marks[0], marks[0].Time, 0
	var perUnit *apd.Decimal // growth for each unit of value; nil when the sub-period is skipped
	open := func() {
		perUnit = nil
		if base.InDollars().Cmp(epsilon) >= 0 && !base.Value.IsZero() {
			perUnit = a.quo(g.total, base.Value)
		}
	}
	open()
	for i, m := range marks[1:] {
		before := m.Value
		hasFlow := !m.NetFlow.IsZero()
		if hasFlow {
			before = a.sub(m.Value, m.NetFlow)
		}
		if m.Value.Sign() < 0 || before.Sign() < 0 {
			g.belowZero = m.Value.Sign() < 0
			g.inconsistent = !g.belowZero
			return g, a.err
		}
		now := g.total
		if perUnit != nil {
			now = a.mul(perUnit, before)
			measured++
		}
		g.index = append(g.index, indexPoint{at: m.Time, growth: a.toFloat(now), exact: now, measured: measured})
		if !hasFlow && i < len(marks)-2 {
			continue
		}
		switch {
		case perUnit != nil:
			if g.start.IsZero() {
				g.start = since
			}
			g.end = m.Time
		case !base.Value.IsZero():
			g.skipped++
		}
		g.total, base, since = now, m, m.Time
		open()
	}
	return g, a.err
}

// TimeWeighted returns the time-weighted return from the first to the last of the marks, which are as
// Input.Marks says.
func TimeWeighted(marks []Mark) (Return, error) {
	if err := (Input{Marks: marks}).check(); err != nil {
		return Return{}, err
	}
	g, err := chain(marks)
	return g.timeWeighted(), err
}

// timeWeighted returns the rate of return. A year's is that of the days between the
// start of the first sub-period that isn't skipped and the end of the last.
func (g growth) timeWeighted() Return {
	switch {
	case g.belowZero:
		return unavailable(ReasonBelowZero)
	case g.inconsistent:
		return unavailable(ReasonInconsistent)
	case len(g.index) < 2:
		return unavailable(ReasonTooShort)
	case g.start.IsZero():
		return unavailable(ReasonBelowEpsilon)
	}
	days := daysBetween(g.start, g.end)
	var a arithmetic
	f := a.toFloat(g.total)
	r := annualized(math.Log(f), days)
	r.Period = a.period(g.total) // no power of it is needed
	return r
}

// period returns growth as a rate of return. A loss that is not total is never rounded to one that is.
func (a *arithmetic) period(growth *apd.Decimal) Ratio {
	r := a.fraction(a.lessOne(growth))
	if r.Unavailable == "" && r.Figure == -1 && !growth.IsZero() {
		r.Figure = math.Nextafter(-1, 0)
	}
	return r
}

// dailyReturns returns the growth of each day between two limits. A day counts if
// there are marks within the day that ends at its start, or at its start, and within
// itself: a return over a gap would be that of several days. Days of skipped
// sub-periods have no return.
func (g growth) dailyReturns(days []time.Time, dayBefore time.Time) []float64 {
	if g.inconsistent || g.belowZero || len(days) < 2 {
		return nil
	}
	var returns []float64
	previous, last := dayBefore, -1 // the limit before, and the last point at or before it
	start := -1                     // the point at the start of the day; -1 if there is none
	for i, limit := range days {
		for last+1 < len(g.index) && !g.index[last+1].at.After(limit) {
			last++
		}
		end := -1
		if last >= 0 && g.index[last].at.After(previous) {
			end = last
		}
		if i > 0 && start >= 0 && end >= 0 && g.index[end].measured > g.index[start].measured &&
			g.index[start].growth > 0 {
			returns = append(returns, g.index[end].growth/g.index[start].growth-1)
		}
		previous, start = limit, end
	}
	return returns
}

// Drawdown is the largest fall of the time-weighted growth from a peak.
type Drawdown struct {
	// Depth is the fall as a fraction of the peak, from -1 to below 0.
	Depth Ratio
	// Peak, Trough and Recovery are when it began, was deepest, and when the peak was
	// reached again; zero if it wasn't.
	Peak, Trough, Recovery time.Time
}

// maxDrawdown looks at the marks. Of equal drawdowns it returns the first.
func (g growth) maxDrawdown() Drawdown {
	switch {
	case g.belowZero:
		return Drawdown{Depth: Ratio{Unavailable: ReasonBelowZero}}
	case g.inconsistent:
		return Drawdown{Depth: Ratio{Unavailable: ReasonInconsistent}}
	case len(g.index) < 2:
		return Drawdown{Depth: Ratio{Unavailable: ReasonTooShort}}
	case g.start.IsZero():
		return Drawdown{Depth: Ratio{Unavailable: ReasonBelowEpsilon}}
	}
	var found Drawdown
	peak, worstPeak := g.index[0], g.index[0].growth
	for _, p := range g.index[1:] {
		if !found.Trough.IsZero() && found.Recovery.IsZero() && p.growth >= worstPeak {
			found.Recovery = p.at
		}
		if p.growth >= peak.growth {
			peak = p
			continue
		}
		if depth := p.growth/peak.growth - 1; depth < found.Depth.Figure {
			found = Drawdown{Depth: Ratio{Figure: depth}, Peak: peak.at, Trough: p.at}
			worstPeak = peak.growth
		}
	}
	if found.Trough.IsZero() {
		found.Depth.Unavailable = ReasonNoDrawdown
	}
	return found
}
