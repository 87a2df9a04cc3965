package performance_test

import (
	"math"
	"strconv"
	"testing"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/performance"
)

func on(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

func dec(t testing.TB, text string) *apd.Decimal {
	t.Helper()
	d, _, err := apd.NewFromString(text)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// mark is a mark in text: what the portfolio is worth after the flow.
type mark struct {
	at    time.Time
	worth string
	flow  string // "0" when ""
}

func marks(t testing.TB, list ...mark) []performance.Mark {
	t.Helper()
	out := make([]performance.Mark, len(list))
	for i, m := range list {
		if m.flow == "" {
			m.flow = "0"
		}
		out[i] = performance.Mark{Time: m.at, Value: dec(t, m.worth), NetFlow: dec(t, m.flow)}
	}
	return out
}

func measure(t testing.TB, list ...mark) performance.Performance {
	t.Helper()
	p, err := performance.Measure(performance.Input{Marks: marks(t, list...)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// want expects a figure to the given number of decimals.
func want(t testing.TB, name string, got performance.Ratio, want float64, decimals int) {
	t.Helper()
	if got.Unavailable != "" || math.Abs(got.Figure-want) > 0.5*math.Pow10(-decimals)+1e-15 {
		t.Errorf("%s is %v, want %s", name, got, strconv.FormatFloat(want, 'f', decimals, 64))
	}
}

func wantUnavailable(t testing.TB, name string, got performance.Ratio, reason performance.Reason) {
	t.Helper()
	if got.Unavailable != reason || got.Figure != 0 {
		t.Errorf("%s is %v, want it unavailable because of %s", name, got, reason)
	}
}

// Portfolio Performance, IRR test (name.abuchen.portfolio.math.IRRTest): years of 365 days.
func TestTheMoneyWeightedReturnOfPortfolioPerformancesFirstCase(t *testing.T) {
	p := measure(t, mark{on(2010, 1, 1), "200", ""}, mark{on(2010, 12, 31), "210", ""})
	want(t, "a year's rate", p.MoneyWeighted.Annualized, 0.050140747, 8)
	want(t, "the period's", p.MoneyWeighted.Period, 0.05, 15)
	if !p.MoneyWeighted.Extrapolated {
		t.Error("364 days are a year")
	}
}

// Portfolio Performance, IRR calculation test: a dividend is paid out.
func TestTheMoneyWeightedReturnOfPortfolioPerformancesSecondCase(t *testing.T) {
	p := measure(t, mark{on(2015, 12, 31), "1000", ""}, mark{on(2016, 6, 1), "1050", "-150"},
		mark{on(2016, 12, 31), "1230", ""})
	want(t, "a year's rate", p.MoneyWeighted.Annualized, 0.412128788, 8)
	if p.MoneyWeighted.Extrapolated || p.Days != 366 {
		t.Errorf("%d days, extrapolated %v", p.Days, p.MoneyWeighted.Extrapolated)
	}
}

// CFA preparation text: Modified Dietz over 31 days.
func TestModifiedDietzOfACFAText(t *testing.T) {
	start := on(2015, 7, 31)
	day := func(n int) time.Time { return start.AddDate(0, 0, n) }
	p := measure(t, mark{start, "585.60", ""}, mark{day(5), "570.55", "-15.05"}, mark{day(9), "590", "19.82"},
		mark{day(15), "610", "16.42"}, mark{day(24), "600", "-18.96"}, mark{day(31), "602.34", ""})
	want(t, "Modified Dietz", p.ModifiedDietz, 0.02454, 5)
	if p.Inflow.String() != "36.24" || p.Outflow.String() != "34.01" || p.Gain.String() != "14.51" || p.Flows != 4 {
		t.Errorf("in %s, out %s, gain %s in %d flows", p.Inflow, p.Outflow, p.Gain, p.Flows)
	}
}

// CFA slides: one share at 100, a dividend of 2 and another share at 120 after a year,
// dividends of 2 each and both sold at 130 after two.
func TestBothReturnsOfTheCFASlides(t *testing.T) {
	p := measure(t, mark{on(2013, 1, 1), "100", ""},
		mark{on(2014, 1, 1), "240", "118"}, // worth 122 with the dividend, which is paid out for 120 paid in
		mark{on(2015, 1, 1), "264", ""})
	want(t, "the time-weighted rate", p.TimeWeighted.Annualized, 0.15845, 5)
	want(t, "the money-weighted rate", p.MoneyWeighted.Annualized, 0.13861, 5)
	want(t, "the time-weighted return of both years", p.TimeWeighted.Period, 1.22*1.1-1, 15)
}

// Portfolio Performance, risk test. Its own figures are of logarithmic returns; ours
// are of simple ones: the sample deviation, and the downside below the risk-free rate
// over all returns, both a year's.
func TestDeviationsOfPortfolioPerformancesReturns(t *testing.T) {
	returns := []float64{0.005, -1.0 / 300, -0.005, 0.01, 0.01, -0.005}
	in := performance.Input{DayBefore: on(2026, 1, 1)}
	level := dec(t, "1000")
	exact := apd.BaseContext.WithPrecision(60)
	note := func(at time.Time) {
		in.Days = append(in.Days, at)
		in.Marks = append(in.Marks, performance.Mark{Time: at, Value: new(apd.Decimal).Set(level),
			NetFlow: new(apd.Decimal)})
	}
	note(on(2026, 1, 2))
	for i, factor := range []string{"1.005", "299", "0.995", "1.01", "1.01", "0.995"} {
		if _, err := exact.Mul(level, level, dec(t, factor)); err != nil {
			t.Fatal(err)
		}
		if factor == "299" { // a fall by a 300th
			if _, err := exact.Quo(level, level, dec(t, "300")); err != nil {
				t.Fatal(err)
			}
		}
		note(on(2026, 1, 3+i))
	}
	p, err := performance.Measure(in)
	if err != nil {
		t.Fatal(err)
	}
	var mean, squares, below float64
	for _, r := range returns {
		mean += r / 6
	}
	for _, r := range returns {
		squares += (r - mean) * (r - mean) / 5
		if r < 0 {
			below += r * r / 6
		}
	}
	want(t, "volatility", p.Risk.Volatility, math.Sqrt(squares*365), 12)
	want(t, "downside deviation", p.Risk.DownsideDeviation, math.Sqrt(below*365), 12)
	want(t, "Sharpe", p.Risk.Sharpe, mean/math.Sqrt(squares)*math.Sqrt(365), 9)
	want(t, "Sortino", p.Risk.Sortino, mean/math.Sqrt(below)*math.Sqrt(365), 9)
	want(t, "the largest drawdown", p.Drawdown.Depth, 299.0/300*0.995-1, 14)
	if !p.Drawdown.Peak.Equal(on(2026, 1, 3)) || !p.Drawdown.Trough.Equal(on(2026, 1, 5)) ||
		!p.Drawdown.Recovery.Equal(on(2026, 1, 6)) || p.Risk.Returns != 6 {
		t.Errorf("%+v of %d returns", p.Drawdown, p.Risk.Returns)
	}
}

// A leap year of +10 % is 9.97 % a year, as in LibreOffice.
func TestALeapYearIsLongerThanAYear(t *testing.T) {
	p := measure(t, mark{on(2024, 1, 1), "100", ""}, mark{on(2025, 1, 1), "110", ""})
	want(t, "time-weighted", p.TimeWeighted.Annualized, 0.0997, 4)
	want(t, "money-weighted", p.MoneyWeighted.Annualized, 0.0997, 4)
	if p.TimeWeighted.Extrapolated {
		t.Error("a leap year is extrapolated")
	}
}

func TestPeriodsChainToTheWhole(t *testing.T) {
	all := []mark{{on(2026, 1, 1), "100", ""}, {on(2026, 1, 5), "90", "-30"}, {on(2026, 1, 9), "190.1", "77"},
		{on(2026, 1, 20), "170", ""}, {on(2026, 1, 25), "150", "-0.5"}, {on(2026, 2, 3), "181", ""}}
	whole := measure(t, all...).TimeWeighted.Period.Figure
	for cut := 1; cut < len(all)-1; cut++ {
		a, b := measure(t, all[:cut+1]...), measure(t, all[cut:]...)
		if got := (1+a.TimeWeighted.Period.Figure)*(1+b.TimeWeighted.Period.Figure) - 1; math.Abs(got-whole) > 1e-14 {
			t.Errorf("cut at %s the parts are %v, the whole %v", all[cut].at, got, whole)
		}
	}
}

// A whole unit of some currency is much money: what counts as dust is told by US dollars.
func TestDustIsToldByDollars(t *testing.T) {
	for dollars, want := range map[string]performance.Reason{"600": "", "0.50": performance.ReasonBelowEpsilon} {
		list := marks(t, mark{at: on(2026, 1, 1), worth: "0.01"}, mark{at: on(2026, 1, 2), worth: "0.02"})
		for i := range list {
			list[i].Dollars = dec(t, dollars)
		}
		got, err := performance.TimeWeighted(list)
		if err != nil || got.Period.Unavailable != want || want == "" && got.Period.Figure != 1 {
			t.Errorf("of %s US dollars: %+v, %v", dollars, got, err)
		}
	}
}
