package app

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/cockroachdb/apd/v3"

	"github.com/purserhq/purser/services/internal/terminal"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
)

// chartPoints is how many points a chart has: a lowest and a highest value each, so that no extreme is lost.
const chartPoints = 40

// chartCommand draws the value of a portfolio.
type chartCommand struct{ *options }

func parseChart(args []string) (command, error) {
	c := chartCommand{newOptions("chart")}
	return c, c.parse(args, 0)
}

func (c chartCommand) run(ctx context.Context, e environment, out io.Writer) error {
	t, err := timeline.NewService(store.NewSnapshots(e.db, nil), nil, time.Now).Points(ctx, e.portfolio,
		timeline.Request{Interval: timeline.Hourly, Start: c.start, End: c.end, MaxPoints: chartPoints})
	if err != nil {
		return err
	}
	if len(t.Points) == 0 {
		_, err = fmt.Fprintln(out, "no snapshots in this time")
		return err
	}
	text, err := drawPoints(t.Points)
	if err == nil {
		_, err = fmt.Fprintln(out, text)
	}
	return err
}

// drawPoints returns the chart of points, of which there is at least one, with the exact values below.
func drawPoints(points []timeline.Point) (string, error) {
	var values []string
	lowest, highest := points[0], points[0]
	snapshots, leftOut, incomplete := 0, 0, 0
	for _, p := range points {
		rising, err := compare(p.Open, p.Close)
		if err != nil {
			return "", err
		}
		if rising <= 0 {
			values = append(values, p.Min, p.Max)
		} else {
			values = append(values, p.Max, p.Min)
		}
		if n, err := compare(p.Min, lowest.Min); err != nil {
			return "", err
		} else if n < 0 {
			lowest = p
		}
		if n, err := compare(p.Max, highest.Max); err != nil {
			return "", err
		} else if n > 0 {
			highest = p
		}
		snapshots, leftOut = snapshots+p.Snapshots, leftOut+p.LeftOut
		if !p.Complete {
			incomplete++
		}
	}
	first, last := points[0], points[len(points)-1]
	when := func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04") }
	within := func(p timeline.Point) string { return "between " + when(p.Start) + " and " + when(p.End) }
	return fmt.Sprintf("Value from %s to %s (UTC), in USD\n\n%s\n\n"+
		"First    %s\nLast     %s\nLowest   %s, %s\nHighest  %s, %s\n\n"+
		"Each point of the chart is the lowest or the highest value of %s. %d hours have a snapshot;\n"+
		"%d of them are left out for a price gap. %d of %d points are incomplete. Deposits and\n"+
		"withdrawals are included.",
		when(first.Start), when(last.End), terminal.Chart(values, first.Start, last.End),
		terminal.Money(first.Open), terminal.Money(last.Close), terminal.Money(lowest.Min), within(lowest),
		terminal.Money(highest.Max), within(highest), longest(points), snapshots, leftOut, incomplete,
		len(points)), nil
}

// longest returns the longest time that a point covers.
func longest(points []timeline.Point) string {
	var d time.Duration
	for _, p := range points {
		d = max(d, p.End.Sub(p.Start))
	}
	if d == time.Hour {
		return "an hour"
	}
	return fmt.Sprint(int(d/time.Hour), " hours")
}

// compare compares decimals.
func compare(a, b string) (int, error) {
	x, _, err := apd.NewFromString(a)
	if err != nil {
		return 0, err
	}
	y, _, err := apd.NewFromString(b)
	if err != nil {
		return 0, err
	}
	return x.Cmp(y), nil
}
