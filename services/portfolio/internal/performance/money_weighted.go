package performance

import (
	"math"
	"slices"

	"github.com/cockroachdb/apd/v3"
)

// dated is money of one UTC date: what was put in is negative, what was taken out or
// is there at the end is positive.
type dated struct {
	date  int64
	money *apd.Decimal
}

// moneyWeighted returns the internal rate of return (XIRR): the rate at which the
// value at the start, the flows and the value at the end are worth nothing together.
// Flows of one UTC date are added up.
//
// A year's rate is that of the days between the first and the last date with money,
// so a period that begins before the first money has the same one; the rate of the
// period is of these days too.
//
// All rates above -1 are found. If there are several the return is unavailable and
// they are returned, as rates of a year. The loss of all money is -1.
//
// With a negative value at the start or the end there is no rate: debt is not invested money.
func moneyWeighted(marks []Mark) (Return, []float64, error) {
	if marks[0].Value.Sign() < 0 || marks[len(marks)-1].Value.Sign() < 0 {
		return unavailable(ReasonBelowZero), nil, nil
	}
	money, err := moneyByDate(marks)
	if err != nil {
		return Return{}, nil, err
	}
	if daysBetween(marks[0].Time, marks[len(marks)-1].Time) == 0 {
		return unavailable(ReasonTooShort), nil, nil
	}
	in := slices.ContainsFunc(money, func(d dated) bool { return d.money.Sign() < 0 })
	out := slices.ContainsFunc(money, func(d dated) bool { return d.money.Sign() > 0 })
	end := marks[len(marks)-1]
	switch {
	case !in:
		return unavailable(ReasonNoMoneyIn), nil, nil
	case !out && (end.Value.IsZero() || money[len(money)-1].date < dateOf(end.Time)):
		// What is there at the end came in on that date.
		total := annualized(math.Inf(-1), daysBetween(marks[0].Time, end.Time))
		return total, nil, nil
	case !out:
		return unavailable(ReasonNoRate), nil, nil
	}
	terms, err := termsOf(money)
	if err != nil {
		return Return{}, nil, err
	}
	days := int(money[len(money)-1].date - money[0].date)
	roots, ok := rootsOf(terms)
	switch {
	case !ok:
		return unavailable(ReasonUnresolved), nil, nil
	case len(roots) == 0:
		return unavailable(ReasonNoRate), nil, nil
	case len(roots) == 1:
		return annualized(roots[0], days), nil, nil
	}
	rates := make([]float64, 0, len(roots))
	for _, x := range roots {
		if r := annualized(x, days).Annualized; r.Unavailable == "" {
			rates = append(rates, r.Figure)
		}
	}
	return unavailable(ReasonSeveralRates), rates, nil
}

// moneyByDate returns the dates whose money isn't zero, in order.
func moneyByDate(marks []Mark) ([]dated, error) {
	var a arithmetic
	var all []dated
	note := func(date int64, money *apd.Decimal) {
		if n := len(all); n > 0 && all[n-1].date == date {
			all[n-1].money = a.add(all[n-1].money, money)
			return
		}
		all = append(all, dated{date, money})
	}
	zero := new(apd.Decimal)
	note(dateOf(marks[0].Time), a.sub(zero, marks[0].Value))
	for _, m := range marks[1:] {
		if !m.NetFlow.IsZero() {
			note(dateOf(m.Time), a.sub(zero, m.NetFlow))
		}
	}
	last := marks[len(marks)-1]
	note(dateOf(last.Time), last.Value)
	return slices.DeleteFunc(all, func(d dated) bool { return d.money.IsZero() }), a.err
}

// termsOf returns the money as coefficients, relative to the largest, at times from 0
// to 1. It needs two dates.
func termsOf(money []dated) ([]term, error) {
	var a arithmetic
	largest := new(apd.Decimal)
	for _, d := range money {
		if abs := new(apd.Decimal).Set(d.money); abs.Abs(abs).Cmp(largest) > 0 {
			largest = abs
		}
	}
	first := money[0].date
	span := float64(money[len(money)-1].date - first)
	terms := make([]term, len(money))
	for i, d := range money {
		terms[i] = term{at: float64(d.date-first) / span, c: a.toFloat(a.quo(d.money, largest))}
	}
	return terms, a.err
}
