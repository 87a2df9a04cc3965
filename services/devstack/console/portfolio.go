package console

import (
	"context"
	"math/big"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/terminal"
)

const (
	day = 24 * time.Hour
	// hourlyRange and dailyRange are how far back the value is shown.
	hourlyRange = 7 * day
	dailyRange  = 90 * day
)

// timeline is the data of the section "timeline".
type timeline struct {
	Currency      string
	Hourly, Daily []point
	// Newest snapshot; nil if there is none.
	Newest *snapshot
}

// point is the value at the end of an interval.
type point struct {
	Time           time.Time
	Value          string // decimal
	CarriedForward bool
	Complete       bool
}

// snapshot is a stored value.
type snapshot struct {
	Total, Currency string // Total is a decimal
	// Time is when it was taken; for a past hour the hour.
	Time     time.Time
	Complete bool
	// Missing says why there is no total.
	Missing string
}

// DailyNewestFirst returns the daily points in reverse order.
func (t timeline) DailyNewestFirst() []point {
	points := slices.Clone(t.Daily)
	slices.Reverse(points)
	return points
}

// change of the value over a period, deposits and withdrawals included.
type change struct {
	Period string
	// Text is the difference in money, with its sign.
	Text string
	// From is the time of the older value.
	From time.Time
}

// changes returns the change from each period ago to a value of now. A period that the history does not reach back to
// is left out, and one that begins with an incomplete value too.
func (t timeline) changes(value string, now time.Time) []change {
	var out []change
	for _, p := range []struct {
		name   string
		length time.Duration
		points []point
	}{{"24 hours", day, t.Hourly}, {"7 days", 7 * day, t.Hourly}, {"90 days", 90 * day, t.Daily}} {
		from := pointAt(p.points, now.Add(-p.length), p.length/4)
		if from == nil || !from.Complete {
			continue
		}
		if text := difference(from.Value, value); text != "" {
			out = append(out, change{Period: p.name, Text: text, From: from.Time})
		}
	}
	return out
}

// pointAt returns the first point at or after a time; nil if there is none within the tolerance.
func pointAt(points []point, at time.Time, tolerance time.Duration) *point {
	i := slices.IndexFunc(points, func(p point) bool { return !p.Time.Before(at) })
	if i < 0 || i == 0 && points[i].Time.Sub(at) > tolerance {
		return nil
	}
	return &points[i]
}

// difference returns to − from with its sign, in money; "" if one of them is no decimal.
func difference(from, to string) string {
	a, ok := new(big.Rat).SetString(from)
	b, also := new(big.Rat).SetString(to)
	if !ok || !also {
		return ""
	}
	d := b.Sub(b, a)
	text := fiat(strings.TrimPrefix(d.FloatString(8), "-"))
	switch {
	case d.Sign() < 0:
		return "−" + text
	case d.Sign() > 0:
		return "+" + text
	}
	return text
}

// fiat formats a decimal as money with two places; what is smaller than them is "<0.01", or ">-0.01" of a debt.
func fiat(d string) string {
	text := terminal.Money(d)
	if whole, fraction, ok := strings.Cut(text, "."); ok && len(fraction) > 2 {
		text = whole + "." + fraction[:2]
		switch text {
		case "0.00":
			return "<0.01"
		case "-0.00":
			return ">-0.01"
		}
	}
	return text
}

func (s *services) timeline(ctx context.Context, currency string) (any, error) {
	client := portfoliov1.NewPortfolioServiceClient(s.portfolio)
	var t timeline
	for _, series := range []struct {
		interval portfoliov1.Interval
		length   time.Duration
		points   *[]point
	}{{portfoliov1.Interval_INTERVAL_HOURLY, hourlyRange, &t.Hourly},
		{portfoliov1.Interval_INTERVAL_DAILY, dailyRange, &t.Daily}} {
		resp, err := client.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{
			Interval: series.interval, StartTime: timestamppb.New(time.Now().Add(-series.length)), Currency: currency,
		})
		if err != nil {
			return nil, err
		}
		t.Currency = resp.GetCurrency()
		for _, p := range resp.GetPoints() {
			*series.points = append(*series.points, point{Time: p.GetStartTime().AsTime(), Value: p.GetClose(),
				CarriedForward: p.GetCarriedForward(), Complete: p.GetComplete()})
		}
	}
	resp, err := client.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PageSize: 1, Currency: currency})
	if err != nil {
		return nil, err
	}
	for _, n := range resp.GetSnapshots() {
		t.Newest = &snapshot{Total: n.GetTotal(), Currency: n.GetCurrency(), Time: n.GetSnapshotTime().AsTime(),
			Complete: n.GetComplete(), Missing: reason(n.GetUnavailableReason())}
		if n.GetBackfilled() {
			t.Newest.Time = n.GetBucketTime().AsTime()
		}
	}
	return t, nil
}

// summary is what the section "value" shows: the value now, the last snapshot and the changes.
type summary struct {
	// Now is nil until the valuation was loaded once.
	Now      *portfolio
	Snapshot *snapshot
	Changes  []change
	// Loaded is true once the history was loaded.
	Loaded bool
}

func summaryOf(sections map[string][]state) summary {
	var s summary
	for _, of := range sections["holdings"] {
		if p, ok := of.Data.(portfolio); ok {
			s.Now = &p
		}
	}
	for _, of := range sections["timeline"] {
		t, ok := of.Data.(timeline)
		if !ok {
			continue
		}
		s.Loaded, s.Snapshot = true, t.Newest
		if s.Now != nil && len(s.Now.Incomplete) == 0 && s.Now.SnapshotTime.IsZero() {
			s.Changes = t.changes(s.Now.Total, s.Now.Time)
		}
	}
	return s
}
