package demo

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/cockroachdb/apd/v3"
	"github.com/guptarohit/asciigraph"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// Change of a portfolio's value in one day: its close minus the close of the day before, deposits and
// withdrawals included.
type Change struct {
	Day time.Time
	// Amount in USD and Percent of the close before, decimals with two places,
	// rounded half to even. Percent is "" when that close was zero.
	Amount, Percent string

	exact *apd.Decimal
}

// extremes returns the days with the largest and the smallest change; nil if no day has one. A day has a
// change if its close and that of the day before are complete.
func extremes(days []*portfoliov1.TimelinePoint) (best, worst *Change, err error) {
	for i := 1; i < len(days); i++ {
		if !days[i-1].GetComplete() || !days[i].GetComplete() {
			continue
		}
		c, err := change(days[i-1].GetClose(), days[i].GetClose())
		if err != nil {
			return nil, nil, err
		}
		c.Day = days[i].GetStartTime().AsTime()
		if best == nil || c.exact.Cmp(best.exact) > 0 {
			best = c
		}
		if worst == nil || c.exact.Cmp(worst.exact) < 0 {
			worst = c
		}
	}
	return best, worst, nil
}

func change(before, after string) (*Change, error) {
	decimals := apd.BaseContext.WithPrecision(80)
	decimals.Rounding = apd.RoundHalfEven
	var from, to, percent apd.Decimal
	c := &Change{exact: new(apd.Decimal)}
	_, _, err := from.SetString(before)
	if err == nil {
		_, _, err = to.SetString(after)
	}
	if err == nil {
		_, err = decimals.Sub(c.exact, &to, &from)
	}
	if err == nil {
		c.Amount, err = twoPlaces(decimals, c.exact)
	}
	if err == nil && !from.IsZero() {
		if _, err = decimals.Quo(&percent, c.exact, &from); err == nil {
			percent.Exponent += 2
			c.Percent, err = twoPlaces(decimals, &percent)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("change from %q to %q: %w", before, after, err)
	}
	return c, nil
}

// twoPlaces formats d with two decimal places.
func twoPlaces(c *apd.Context, d *apd.Decimal) (string, error) {
	var rounded apd.Decimal
	if _, err := c.Quantize(&rounded, d, -2); err != nil {
		return "", err
	}
	return rounded.Text('f'), nil
}

func (c *Change) String() string {
	if c == nil {
		return "no complete day"
	}
	text := c.Day.Format(time.DateOnly) + "  " + signed(c.Amount) + " USD"
	if c.Percent != "" {
		text += "  (" + signed(c.Percent) + " %)"
	}
	return text
}

func signed(d string) string {
	if amount, negative := strings.CutPrefix(d, "-"); negative {
		return "-" + Money(amount)
	}
	return "+" + Money(d)
}

const (
	chartWidth  = 98 // columns
	chartHeight = 12
	dateWidth   = len(time.DateOnly)
	yAxisWidth  = 3
)

// chart draws the close of each day.
func (r *Result) chart() string {
	if len(r.Days) < 2 {
		return "Value by day: no chart before two days of history"
	}
	var closes []float64 // only for drawing
	maxLabelWidth := 0
	for _, p := range r.Days {
		f, _ := strconv.ParseFloat(p.GetClose(), 64) // beyond 1e308: the upper edge
		closes = append(closes, f)
		maxLabelWidth = max(maxLabelWidth, utf8.RuneCountInString(axis(f)))
	}
	first, last := r.Days[0].GetStartTime().AsTime(), r.Days[len(r.Days)-1].GetStartTime().AsTime()
	day := func(v float64) string { return time.Unix(int64(v), 0).UTC().Format(time.DateOnly) }
	width := max(dateWidth, chartWidth-maxLabelWidth-yAxisWidth-dateWidth/2)
	plot := asciigraph.Plot(closes,
		asciigraph.Width(width), asciigraph.Height(chartHeight), asciigraph.YAxisValueFormatter(axis),
		asciigraph.XAxisRange(float64(first.Unix()), float64(last.Unix())), asciigraph.XAxisValueFormatter(day),
		asciigraph.XAxisTickCount(min(len(closes), 1+width/(2*dateWidth-5))))
	return fmt.Sprintf("Value by day, %s to %s, in USD: the close of each day (UTC)\n\n%s\n\n"+
		"Best day   %s\nWorst day  %s\nA day's change is its close minus the close of the day before, deposits and "+
		"withdrawals included.",
		day(float64(first.Unix())), day(float64(last.Unix())), plot, r.Best, r.Worst)
}

func axis(v float64) string { return Money(strconv.FormatFloat(v, 'f', 2, 64)) }
