package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/cockroachdb/apd/v3"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/terminal"
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
	if strings.HasPrefix(d, "-") {
		return terminal.Money(d)
	}
	return "+" + terminal.Money(d)
}

// chart draws the close of each day.
func (r *Result) chart() string {
	if len(r.Days) < 2 {
		return "Value by day: no chart before two days of history"
	}
	var closes []string
	for _, p := range r.Days {
		closes = append(closes, p.GetClose())
	}
	first, last := r.Days[0].GetStartTime().AsTime(), r.Days[len(r.Days)-1].GetStartTime().AsTime()
	return fmt.Sprintf("Value by day, %s to %s, in USD: the close of each day (UTC)\n\n%s\n\n"+
		"Best day   %s\nWorst day  %s\nA day's change is its close minus the close of the day before, deposits and "+
		"withdrawals included.",
		first.Format(time.DateOnly), last.Format(time.DateOnly), terminal.Chart(closes, first, last), r.Best, r.Worst)
}
