// Package performance measures how well a portfolio did in a period.
//
// Conventions, which hold for every figure:
//   - Figures are fractions: 0.05 is five per cent.
//   - The value at a time is that of the last mark at or before it. A flow counts
//     before the value of its mark, so [a, b) and [b, c) chain to [a, c).
//   - What is undefined is unavailable, with a reason. No figure is infinite or NaN.
//   - A year has 365 days, and the days of a period are whole UTC dates. The figure
//     of a year that is extrapolated from a shorter period says so.
//   - Money is decimals, exact in sums. Growth is a decimal of 40 digits. float64 is
//     used for figures without a unit only: for what becomes of growth in the end, for
//     powers and roots, and for deviations. Their relative error is below 1e-12, of
//     deviations below 1e-12 absolute, unless a figure says otherwise.
package performance

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cockroachdb/apd/v3"
)

// Epsilon is the value in US dollars below which a sub-period is skipped: returns on
// dust say nothing, and what is left of an account that was emptied may well lose all
// of its value. It is the same whichever currency figures are in: 1.00 of some is much.
const Epsilon = "1.00"

// yearDays is the number of days of a year, also of a leap year.
const yearDays = 365

// Reason is why a figure is unavailable.
type Reason string

// The reasons.
const (
	ReasonTooShort        Reason = "PERIOD_TOO_SHORT"        // no date passes, or there is one value only
	ReasonBelowEpsilon    Reason = "VALUE_BELOW_THRESHOLD"   // in the whole period
	ReasonInconsistent    Reason = "FLOW_EXCEEDS_VALUE"      // more left than there was
	ReasonBelowZero       Reason = "VALUE_BELOW_ZERO"        // more was owed than owned, of which there is no return
	ReasonNoMoneyIn       Reason = "NO_MONEY_IN"             // nothing was invested
	ReasonNoRate          Reason = "NO_RATE"                 // no rate of return explains the flows
	ReasonSeveralRates    Reason = "SEVERAL_RATES"           // several do
	ReasonUnresolved      Reason = "RATES_NOT_RESOLVED"      // there may be several, too close to each other
	ReasonOutOfRange      Reason = "OUT_OF_RANGE"            // finite, but beyond 1.8e308
	ReasonNoCapital       Reason = "NO_AVERAGE_CAPITAL"      // the average capital is not above zero
	ReasonFewReturns      Reason = "TOO_FEW_RETURNS"         // fewer than two daily returns
	ReasonNoDeviation     Reason = "NO_DEVIATION"            // all daily returns are equal
	ReasonNoDownside      Reason = "NO_DOWNSIDE"             // no daily return is below the risk-free rate
	ReasonNoDrawdown      Reason = "NO_DRAWDOWN"             // it never fell
	ReasonNoReference     Reason = "NO_BENCHMARK_PRICE"      // at the start or at the end
	ReasonReferenceIsZero Reason = "BENCHMARK_PRICE_IS_ZERO" // at the start
)

// Ratio is a figure without a unit.
type Ratio struct {
	Figure      float64
	Unavailable Reason // Figure is undefined unless this is ""
}

// Return is a rate of return.
type Return struct {
	// Period is the return of the period, not annualised.
	Period Ratio
	// Annualized is the rate of a year that has the same effect in the period's days.
	Annualized Ratio
	// Extrapolated when the period has fewer than 365 days: Period leads then.
	Extrapolated bool
}

// Mark is what the portfolio is worth at a time.
type Mark struct {
	Time time.Time
	// Value after NetFlow. It is below 0 where more is owed than owned.
	Value *apd.Decimal
	// NetFlow is what came in since the mark before, less what went out, valued at
	// this mark's prices.
	NetFlow *apd.Decimal
	// Dollars is Value in US dollars; nil when Value is in them.
	Dollars *apd.Decimal
}

// InDollars returns the value in US dollars.
func (m Mark) InDollars() *apd.Decimal {
	if m.Dollars != nil {
		return m.Dollars
	}
	return m.Value
}

// Input is what a performance is computed from.
type Input struct {
	// Marks by time, each later than the one before. The first is the value at the
	// start, its flow doesn't count; the last is the value at the end. They have every
	// mark with a flow, and the last one at or before each of Days.
	Marks []Mark
	// Days are the limits of consecutive days within the period; nil for no risk
	// figures. DayBefore is the limit before the first.
	Days      []time.Time
	DayBefore time.Time
	// RiskFree is the rate of a year that is free of risk, above -1.
	RiskFree float64
	// Benchmark has prices at the times of the first and the last mark; nil for none.
	Benchmark *Reference
}

// Reference has the prices of a benchmark; nil where one isn't known.
type Reference struct{ Start, End *apd.Decimal }

// Performance is how well a portfolio did.
type Performance struct {
	Start, End           time.Time
	StartValue, EndValue *apd.Decimal
	// Inflow and Outflow are the sums of the flows, both not below 0, and Flows is
	// how many there are.
	Inflow, Outflow *apd.Decimal
	Flows           int
	// Gain is EndValue - StartValue - Inflow + Outflow.
	Gain *apd.Decimal
	// Days are the UTC dates from Start to End.
	Days int
	// Skipped is how many sub-periods begin with a value below Epsilon, above zero.
	Skipped int

	TimeWeighted  Return
	MoneyWeighted Return
	// Rates are all rates of a year that explain the flows, ascending, if
	// MoneyWeighted is unavailable with ReasonSeveralRates.
	Rates         []float64
	ModifiedDietz Ratio
	Risk          Risk
	Drawdown      Drawdown
	Benchmark     *Comparison // nil without one
}

// Comparison is the portfolio beside a benchmark.
type Comparison struct {
	Return Ratio // of the benchmark in the period
	// Difference is the time-weighted return of the period less Return.
	Difference Ratio
}

// Measure computes all figures. It fails for an input that breaks a rule of Input, or
// for an amount of more digits than decimals of 80 digits can add up.
func Measure(in Input) (Performance, error) {
	if err := in.check(); err != nil {
		return Performance{}, err
	}
	first, last := in.Marks[0], in.Marks[len(in.Marks)-1]
	p := Performance{
		Start: first.Time, End: last.Time, StartValue: first.Value, EndValue: last.Value,
		Days: daysBetween(first.Time, last.Time),
	}
	var sum arithmetic
	p.Inflow, p.Outflow = new(apd.Decimal), new(apd.Decimal)
	for _, m := range in.Marks[1:] {
		switch m.NetFlow.Sign() {
		case 1:
			p.Inflow = sum.add(p.Inflow, m.NetFlow)
			p.Flows++
		case -1:
			p.Outflow = sum.sub(p.Outflow, m.NetFlow)
			p.Flows++
		}
	}
	p.Gain = sum.add(sum.sub(sum.sub(last.Value, first.Value), p.Inflow), p.Outflow)
	if sum.err != nil {
		return Performance{}, sum.err
	}
	growth, err := chain(in.Marks)
	if err != nil {
		return Performance{}, err
	}
	p.TimeWeighted, p.Skipped = growth.timeWeighted(), growth.skipped
	if p.MoneyWeighted, p.Rates, err = moneyWeighted(in.Marks); err != nil {
		return Performance{}, err
	}
	if p.ModifiedDietz, err = modifiedDietz(in.Marks, p.Gain); err != nil {
		return Performance{}, err
	}
	p.Drawdown = growth.maxDrawdown()
	p.Risk = riskOf(growth.dailyReturns(in.Days, in.DayBefore), in.RiskFree)
	p.Risk.Calmar = calmar(p.TimeWeighted, p.Drawdown)
	p.Benchmark, err = compare(p.TimeWeighted, in.Benchmark)
	return p, err
}

func (in Input) check() error {
	if len(in.Marks) == 0 {
		return errors.New("performance: no marks")
	}
	for i, m := range in.Marks {
		switch {
		case m.Value == nil || m.Value.Form != apd.Finite:
			return fmt.Errorf("performance: value at %s: %v, must be a number", m.Time, m.Value)
		case m.NetFlow == nil || m.NetFlow.Form != apd.Finite:
			return fmt.Errorf("performance: flow at %s: %v, must be a number", m.Time, m.NetFlow)
		case i > 0 && !m.Time.After(in.Marks[i-1].Time):
			return fmt.Errorf("performance: mark at %s after the one at %s", m.Time, in.Marks[i-1].Time)
		}
	}
	if in.RiskFree <= -1 || math.IsInf(in.RiskFree, 0) || math.IsNaN(in.RiskFree) {
		return fmt.Errorf("performance: risk-free rate %v, must be above -1", in.RiskFree)
	}
	return nil
}

// compare returns the return of a benchmark and how far that of the portfolio is off.
func compare(own Return, r *Reference) (*Comparison, error) {
	if r == nil {
		return nil, nil //nolint:nilnil // no benchmark, no comparison
	}
	c := &Comparison{}
	switch {
	case r.Start == nil || r.End == nil:
		c.Return.Unavailable = ReasonNoReference
	case r.Start.Sign() <= 0:
		c.Return.Unavailable = ReasonReferenceIsZero
	default:
		var a arithmetic
		c.Return = a.fraction(a.quo(a.sub(r.End, r.Start), r.Start))
		if a.err != nil {
			return nil, a.err
		}
	}
	c.Difference = Ratio{Figure: own.Period.Figure - c.Return.Figure}
	switch {
	case own.Period.Unavailable != "":
		c.Difference = own.Period
	case c.Return.Unavailable != "":
		c.Difference = c.Return
	}
	return c, nil
}

// annualized returns a return of a number of days from the logarithm of its growth.
func annualized(logGrowth float64, days int) Return {
	r := Return{Period: grown(logGrowth), Extrapolated: days < yearDays}
	if days < 1 {
		r.Annualized.Unavailable = ReasonTooShort
		return r
	}
	r.Annualized = grown(logGrowth * yearDays / float64(days))
	return r
}

// grown returns exp(logGrowth) - 1. It is -1 for -Inf only: a loss that is not total
// is never rounded to one that is.
func grown(logGrowth float64) Ratio {
	f := math.Expm1(logGrowth)
	switch {
	case math.IsInf(f, 1):
		return Ratio{Unavailable: ReasonOutOfRange}
	case f == -1 && !math.IsInf(logGrowth, -1):
		return Ratio{Figure: math.Nextafter(-1, 0)}
	}
	return Ratio{Figure: f}
}

// unavailable returns a return that is undefined.
func unavailable(r Reason) Return {
	return Return{Period: Ratio{Unavailable: r}, Annualized: Ratio{Unavailable: r}}
}

// daysBetween returns how many UTC dates later b is.
func daysBetween(a, b time.Time) int { return int(dateOf(b) - dateOf(a)) }

// dateOf numbers UTC dates.
func dateOf(t time.Time) int64 {
	const day = 24 * 60 * 60
	s := t.Unix()
	if s < 0 {
		s -= day - 1
	}
	return s / day
}
