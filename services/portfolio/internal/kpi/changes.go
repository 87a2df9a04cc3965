package kpi

import (
	"fmt"
	"strconv"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/portfolio/internal/performance"
)

// growth returns (now - before) / before of two prices, or why there is none.
func growth(now, before string) (*apd.Decimal, string, error) {
	x, _, err := apd.NewFromString(now)
	if err != nil {
		return nil, "", fmt.Errorf("price %q: %w", now, err)
	}
	y, _, err := apd.NewFromString(before)
	if err != nil {
		return nil, "", fmt.Errorf("price %q: %w", before, err)
	}
	if y.Sign() <= 0 {
		return nil, ReasonBelowThreshold, nil
	}
	var a arithmetic
	r := a.ratio(a.sub(x, y), y)
	return r, "", a.err
}

// below reports whether a value in US dollars is too small for ratios of it.
func below(v *apd.Decimal) bool {
	threshold, _, err := apd.NewFromString(performance.Epsilon)
	return err != nil || v.Cmp(threshold) < 0
}

// changesOf returns the changes of all periods up to the last mark.
func changesOf(marks []performance.Mark, starts map[Period]time.Time) ([]Change, error) {
	var changes []Change
	for p := Day; p <= All; p++ {
		c := Change{Period: p, Start: starts[p]}
		within := tolerance
		if p == Day {
			within = dayTolerance
		}
		if p == All && len(marks) > 0 {
			c.Start = marks[0].Time
		}
		if n := len(marks); n > 0 {
			c.End = marks[n-1].Time
		}
		base, missing := baseOf(marks, c.Start, within)
		if missing == "" && !c.End.After(c.Start) && p != All { // nothing since then
			missing = ReasonNoSnapshotAtStart
		}
		if err := c.measure(marks, base, missing); err != nil {
			return nil, err
		}
		changes = append(changes, c)
	}
	return changes, nil
}

// measure computes the figures from a mark on, or says why there are none.
func (c *Change) measure(marks []performance.Mark, base int, missing string) error {
	if missing != "" {
		none := Figure{Unavailable: missing}
		c.StartValue, c.Gross, c.GrossRatio, c.NetFlow, c.Net, c.NetRate = none, none, none, none, none, none
		return nil
	}
	first, last := marks[base], marks[len(marks)-1]
	c.Snapshot = first.Time
	none := Figure{Unavailable: ReasonRateUnavailable}
	c.StartValue, c.Gross, c.GrossRatio, c.NetFlow, c.Net, c.NetRate = none, none, none, none, none, none
	if first.Value == nil {
		return nil
	}
	c.StartValue = Figure{Value: first.Value}
	if last.Value == nil {
		return nil
	}
	var a arithmetic
	gross := a.sub(last.Value, first.Value)
	c.Gross, c.GrossRatio = Figure{Value: gross}, Figure{Unavailable: ReasonBelowThreshold}
	if !below(first.InDollars()) && !first.Value.IsZero() {
		c.GrossRatio = Figure{Value: a.ratio(gross, first.Value)}
	}
	flow, counted := new(apd.Decimal), []performance.Mark{first}
	for _, m := range marks[base+1:] {
		if m.NetFlow == nil {
			return a.err
		}
		flow = a.add(flow, m.NetFlow)
		if m.Value != nil { // one without a rate and without a flow doesn't matter in between
			counted = append(counted, m)
		}
	}
	c.NetFlow, c.Net = Figure{Value: flow}, Figure{Value: a.sub(gross, flow)}
	if a.err != nil {
		return a.err
	}
	rate, err := performance.TimeWeighted(counted)
	if err != nil {
		return err
	}
	c.NetRate, err = rateOf(rate.Period)
	return err
}

// rateOf returns a rate of return as a decimal. -1 is the loss of everything, and nothing else is.
func rateOf(r performance.Ratio) (Figure, error) {
	if r.Unavailable != "" {
		return Figure{Unavailable: string(r.Unavailable)}, nil
	}
	exact, _, err := apd.NewFromString(strconv.FormatFloat(r.Figure, 'f', -1, 64))
	if err != nil {
		return Figure{}, err
	}
	d := new(apd.Decimal)
	if _, err := decimals().Quantize(d, exact, -RatioScale); err != nil {
		return Figure{Unavailable: string(performance.ReasonOutOfRange)}, nil //nolint:nilerr // more digits than that
	}
	if everything := apd.New(-1, 0); r.Figure > -1 && d.Cmp(everything) == 0 {
		d = apd.New(-999_999_999_999, -RatioScale)
	}
	return Figure{Value: d}, nil
}

// highestOf returns the higher one of the highest snapshot and the last mark, and how far the last mark is below.
func highestOf(p *Peak, marks []performance.Mark) (Highest, error) {
	none := Figure{Unavailable: ReasonNoSnapshots}
	if p == nil {
		return Highest{Value: none, Drawdown: none}, nil
	}
	if p.Total == nil || len(marks) > 0 && marks[len(marks)-1].Value == nil {
		none.Unavailable = ReasonRateUnavailable
		return Highest{Value: none, Drawdown: none}, nil
	}
	h := Highest{Value: Figure{Value: p.Total}, Time: p.Bucket, Drawdown: none}
	if len(marks) == 0 {
		return h, nil
	}
	now, dollars := marks[len(marks)-1], p.Dollars
	if now.Value.Cmp(p.Total) > 0 {
		h.Value, h.Time, dollars = Figure{Value: now.Value}, now.Time, now.InDollars()
	}
	h.Drawdown = Figure{Unavailable: ReasonBelowThreshold}
	if !below(dollars) && !h.Value.Value.IsZero() {
		var a arithmetic
		h.Drawdown = Figure{Value: a.ratio(a.sub(now.Value, h.Value.Value), h.Value.Value)}
		return h, a.err
	}
	return h, nil
}
