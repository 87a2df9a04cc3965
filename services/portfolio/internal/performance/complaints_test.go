package performance_test

import (
	"math"
	"testing"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/performance"
)

// wealthfolio#497: when nearly all is taken out, the time-weighted return is about -100 %.
func TestAnAccountThatIsNearlyEmptiedHasNotLostEverything(t *testing.T) {
	p := measure(t, mark{on(2026, 1, 1), "1000", ""}, mark{on(2026, 1, 10), "0.40", "-1099.60"}, // after +10 %
		mark{on(2026, 1, 11), "0.01", "-0.20"}, // dust, and what it loses
		mark{on(2026, 1, 20), "0", ""}, mark{on(2026, 2, 1), "500", "500"}, mark{on(2026, 2, 10), "550", ""})
	want(t, "the return", p.TimeWeighted.Period, 1.1*1.1-1, 15)
	if p.Skipped != 2 {
		t.Errorf("%d sub-periods are skipped, want 2", p.Skipped)
	}
	if p.Drawdown.Depth.Unavailable != performance.ReasonNoDrawdown {
		t.Errorf("it fell: %+v", p.Drawdown)
	}
}

// A sub-period that began with enough counts to its end, also below the threshold:
// otherwise the loss would count and the recovery would not.
func TestAFallBelowTheThresholdAndBackIsNoLoss(t *testing.T) {
	p := measure(t, mark{on(2026, 1, 1), "100", ""}, mark{on(2026, 1, 2), "0.5", ""}, mark{on(2026, 1, 3), "50", ""})
	want(t, "the return", p.TimeWeighted.Period, -0.5, 15)
	if p.Skipped != 0 {
		t.Errorf("%d skipped", p.Skipped)
	}
}

// wealthfolio#1414: an account that joins isn't a gain of the ones before.
func TestAWalletThatJoinsIsAFlow(t *testing.T) {
	p := measure(t, mark{on(2026, 1, 1), "100", ""}, mark{on(2026, 2, 1), "10110", "10000"},
		mark{on(2026, 3, 1), "10110", ""})
	want(t, "the return", p.TimeWeighted.Period, 0.1, 15)
	want(t, "Modified Dietz", p.ModifiedDietz, 10/(100+10000*28.0/59), 12)
}

// portfolio#1517: a period that begins before the first money made the rate explode or NaN.
func TestAPeriodLongerThanTheInvestmentHasItsRate(t *testing.T) {
	short := measure(t, mark{on(2020, 1, 1), "1000", ""}, mark{on(2021, 1, 1), "300", ""})
	long := measure(t, mark{on(2010, 1, 1), "0", ""}, mark{on(2020, 1, 1), "1000", "1000"},
		mark{on(2021, 1, 1), "300", ""})
	if a, b := short.MoneyWeighted, long.MoneyWeighted; a != b || a.Annualized.Figure > -0.69 {
		t.Errorf("alone %v, in a longer period %v", a, b)
	}
	if a, b := short.TimeWeighted, long.TimeWeighted; a != b {
		t.Errorf("alone %v, in a longer period %v", a, b)
	}
	if long.Skipped != 0 {
		t.Errorf("%d skipped of the time without money", long.Skipped)
	}
}

// portfolio#1904, #5095: -99.x % was NaN. formulajs gives Infinity or NaN, LibreOffice
// Err:502 for a fall of half a year's value or of a tenth in a day.
func TestOrdinaryLossesHaveARate(t *testing.T) {
	year := measure(t, mark{on(2025, 1, 1), "100", ""}, mark{on(2026, 1, 1), "50", ""})
	want(t, "half in a year", year.MoneyWeighted.Annualized, -0.5, 15)
	day := measure(t, mark{on(2026, 1, 1), "100", ""}, mark{on(2026, 1, 2), "90", ""})
	want(t, "a tenth in a day", day.MoneyWeighted.Period, -0.1, 14)
	if f := day.MoneyWeighted.Annualized.Figure; f == -1 || f > -0.9999999999 || !day.MoneyWeighted.Extrapolated {
		t.Errorf("a tenth a day is %v in a year", f)
	}
	nearly := measure(t, mark{on(2025, 1, 1), "1000000", ""}, mark{on(2026, 1, 1), "1", ""})
	want(t, "nearly all", nearly.MoneyWeighted.Annualized, -0.999999, 15)
}

func TestATotalLossIsMinusOne(t *testing.T) {
	for name, list := range map[string][]mark{
		"at once":             {{on(2026, 1, 1), "100", ""}, {on(2026, 1, 9), "0", ""}},
		"with more put in":    {{on(2026, 1, 1), "100", ""}, {on(2026, 1, 5), "60", "50"}, {on(2026, 1, 9), "0", ""}},
		"before more came in": {{on(2026, 1, 1), "100", ""}, {on(2026, 1, 5), "0", ""}, {on(2026, 1, 9), "50", "50"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := measure(t, list...)
			for _, r := range []performance.Return{p.TimeWeighted, p.MoneyWeighted} {
				want(t, "the period's return", r.Period, -1, 17)
				want(t, "a year's", r.Annualized, -1, 17)
			}
			want(t, "drawdown", p.Drawdown.Depth, -1, 17)
		})
	}
}

func TestAShortPeriodOfAnExplosiveGainHasNoInfiniteRate(t *testing.T) {
	p := measure(t, mark{on(2026, 1, 1), "10", ""}, mark{on(2026, 1, 2), "10000000", ""})
	want(t, "the period", p.TimeWeighted.Period, 999999, 6)
	want(t, "the period, by money", p.MoneyWeighted.Period, 999999, 6)
	wantUnavailable(t, "a year", p.TimeWeighted.Annualized, performance.ReasonOutOfRange)
	wantUnavailable(t, "a year, by money", p.MoneyWeighted.Annualized, performance.ReasonOutOfRange)
	wantUnavailable(t, "Calmar", p.Risk.Calmar, performance.ReasonOutOfRange)
}

func TestHoursOfOneDateHaveAReturnAndNoRate(t *testing.T) {
	at := on(2026, 1, 1)
	p := measure(t, mark{at, "100", ""}, mark{at.Add(6 * time.Hour), "103", ""})
	want(t, "the period", p.TimeWeighted.Period, 0.03, 15)
	want(t, "Modified Dietz", p.ModifiedDietz, 0.03, 15)
	wantUnavailable(t, "a year", p.TimeWeighted.Annualized, performance.ReasonTooShort)
	wantUnavailable(t, "the period, by money", p.MoneyWeighted.Period, performance.ReasonTooShort)
}

// Every tool answers 10 % for these in silence, where 40 % is a rate too.
func TestSeveralRatesAreSaidAndNotGuessed(t *testing.T) {
	year := func(n int) time.Time { return on(2026, 1, 1).AddDate(0, 0, 365*n) }
	p := measure(t, mark{year(0), "1000", ""}, mark{year(1), "1540", "-2500"}, mark{year(2), "0", "1540"})
	wantUnavailable(t, "the rate", p.MoneyWeighted.Annualized, performance.ReasonSeveralRates)
	wantUnavailable(t, "the period's", p.MoneyWeighted.Period, performance.ReasonSeveralRates)
	if len(p.Rates) != 2 || math.Abs(p.Rates[0]-0.1) > 1e-12 || math.Abs(p.Rates[1]-0.4) > 1e-12 {
		t.Errorf("the rates are %v", p.Rates)
	}
}

func TestFlowsThatNoRateExplainsHaveNone(t *testing.T) {
	year := func(n int) time.Time { return on(2026, 1, 1).AddDate(0, 0, 365*n) }
	p := measure(t, mark{year(0), "1000", ""}, mark{year(1), "900", "-1500"}, mark{year(2), "0", "900"})
	wantUnavailable(t, "the rate", p.MoneyWeighted.Annualized, performance.ReasonNoRate)
	p = measure(t, mark{year(0), "0", ""}, mark{year(1), "0", ""})
	wantUnavailable(t, "without money", p.MoneyWeighted.Annualized, performance.ReasonNoMoneyIn)
	wantUnavailable(t, "without money", p.TimeWeighted.Period, performance.ReasonBelowEpsilon)
	wantUnavailable(t, "without money", p.ModifiedDietz, performance.ReasonNoCapital)
}

func TestPriceDoublesThenADepositIsAHundredPerCent(t *testing.T) {
	p := measure(t, mark{on(2026, 1, 1), "100", ""}, mark{on(2026, 1, 2), "300", "100"},
		mark{on(2026, 1, 3), "300", ""})
	want(t, "the return", p.TimeWeighted.Period, 1, 15)
}

func TestTenPerCentInAMonthLeadAndTheYearIsMarked(t *testing.T) {
	p := measure(t, mark{on(2026, 1, 1), "100", ""}, mark{on(2026, 2, 1), "110", ""})
	want(t, "the period", p.TimeWeighted.Period, 0.1, 15)
	want(t, "a year", p.TimeWeighted.Annualized, 2.072, 3)
	if !p.TimeWeighted.Extrapolated || !p.MoneyWeighted.Extrapolated {
		t.Error("a month's rate of a year isn't marked")
	}
}

func TestEqualReturnsHaveNoSharpeRatio(t *testing.T) {
	in := performance.Input{DayBefore: on(2025, 12, 31)}
	for i, worth := range []string{"100", "110", "121", "133.1", "146.41"} {
		in.Days = append(in.Days, on(2026, 1, 1+i))
		in.Marks = append(in.Marks, marks(t, mark{on(2026, 1, 1+i), worth, ""})...)
	}
	p, err := performance.Measure(in)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "volatility", p.Risk.Volatility, 0, 12)
	wantUnavailable(t, "Sharpe", p.Risk.Sharpe, performance.ReasonNoDeviation)
	wantUnavailable(t, "Sortino", p.Risk.Sortino, performance.ReasonNoDownside)
	wantUnavailable(t, "Calmar", p.Risk.Calmar, performance.ReasonNoDrawdown)
}

func TestADayWithoutAMarkHasNoReturn(t *testing.T) {
	in := performance.Input{DayBefore: on(2025, 12, 31), RiskFree: 0.05}
	for d := 1; d <= 9; d++ {
		in.Days = append(in.Days, on(2026, 1, d))
	}
	in.Marks = marks(t, mark{on(2026, 1, 1), "100", ""}, mark{on(2026, 1, 2), "110", ""},
		mark{on(2026, 1, 3), "99", ""}, mark{on(2026, 1, 8), "150", ""}, mark{on(2026, 1, 9), "300", "135"})
	p, err := performance.Measure(in)
	if err != nil {
		t.Fatal(err)
	}
	if p.Risk.Returns != 3 { // +10 %, -10 %, +10 %; the week between is none
		t.Errorf("%d returns", p.Risk.Returns)
	}
	want(t, "volatility", p.Risk.Volatility, math.Sqrt(0.04/3)*math.Sqrt(365), 12)
	ofDay := math.Pow(1.05, 1.0/365) - 1
	want(t, "downside deviation", p.Risk.DownsideDeviation, (0.1+ofDay)*math.Sqrt(365.0/3), 12)
	want(t, "Sortino", p.Risk.Sortino, (0.1/3-ofDay)/((0.1+ofDay)/math.Sqrt(3))*math.Sqrt(365), 9)
	want(t, "Calmar", p.Risk.Calmar, p.TimeWeighted.Annualized.Figure*10, -2)
}

func TestTheDifferenceToABenchmark(t *testing.T) {
	in := performance.Input{Marks: marks(t, mark{on(2026, 1, 1), "100", ""}, mark{on(2026, 2, 1), "125", ""}),
		Benchmark: &performance.Reference{Start: dec(t, "2000"), End: dec(t, "2200")}}
	p, err := performance.Measure(in)
	if err != nil {
		t.Fatal(err)
	}
	want(t, "the benchmark's return", p.Benchmark.Return, 0.1, 15)
	want(t, "the difference", p.Benchmark.Difference, 0.15, 15)
	in.Benchmark.Start = nil
	if p, err = performance.Measure(in); err != nil {
		t.Fatal(err)
	}
	wantUnavailable(t, "without a price", p.Benchmark.Difference, performance.ReasonNoReference)
}

func TestMoreThanThereWasCannotLeave(t *testing.T) {
	p := measure(t, mark{on(2026, 1, 1), "100", ""}, mark{on(2026, 1, 2), "90", "100"}, mark{on(2026, 1, 3), "90", ""})
	wantUnavailable(t, "the return", p.TimeWeighted.Period, performance.ReasonInconsistent)
	wantUnavailable(t, "the drawdown", p.Drawdown.Depth, performance.ReasonInconsistent)
}

// What nothing was earned on has a return of exactly 0, whatever the value: 1/2020 × 2020 is not 1 in decimals.
func TestAValueThatStaysHasAReturnOfZero(t *testing.T) {
	p := measure(t, mark{on(2026, 1, 1), "2020", ""}, mark{on(2026, 1, 2), "2020", ""},
		mark{on(2026, 1, 9), "2020", ""})
	if p.TimeWeighted.Period.Figure != 0 || p.TimeWeighted.Period.Unavailable != "" {
		t.Errorf("the return is %v", p.TimeWeighted.Period)
	}
}

// Of money that is owed there is no rate of return: what 100 became when it fell to -20 is no multiple of it. Nothing
// is NaN for that, and what is a sum stays one.
func TestAValueBelowZeroHasNoReturn(t *testing.T) {
	for name, marks := range map[string][]mark{
		"at the end":   {{on(2026, 1, 1), "100", ""}, {on(2026, 2, 1), "-20", ""}},
		"at the start": {{on(2026, 1, 1), "-20", ""}, {on(2026, 2, 1), "100", ""}},
		"in between": {{on(2026, 1, 1), "100", ""}, {on(2026, 1, 9), "-20", "0.01"},
			{on(2026, 2, 1), "100", ""}},
		"only": {{on(2026, 1, 1), "-100", ""}, {on(2026, 2, 1), "-20", "5"}},
	} {
		p := measure(t, marks...)
		for what, r := range map[string]performance.Ratio{"the return": p.TimeWeighted.Period,
			"the return of a year": p.TimeWeighted.Annualized, "the drawdown": p.Drawdown.Depth} {
			if r.Unavailable != performance.ReasonBelowZero {
				t.Errorf("%s, %s: %+v", name, what, r)
			}
		}
		for what, r := range map[string]performance.Ratio{"XIRR": p.MoneyWeighted.Period, "Dietz": p.ModifiedDietz} {
			if r.Unavailable == "" && (math.IsNaN(r.Figure) || math.IsInf(r.Figure, 0)) ||
				what == "XIRR" && name != "in between" && r.Unavailable != performance.ReasonBelowZero {
				t.Errorf("%s, %s: %+v", name, what, r)
			}
		}
	}
	p := measure(t, mark{on(2026, 1, 1), "-100", ""}, mark{on(2026, 2, 1), "-20", "50"})
	if p.Gain.Text('f') != "30" || p.Inflow.Text('f') != "50" {
		t.Errorf("the gain is %s of an inflow of %s", p.Gain, p.Inflow)
	}
}
