package timeline_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
)

// Joined intervals cover the range without a gap, are at most as many as asked for and as
// few as that needs, and each but the first and the last joins the same number.
func TestJoinedIntervalsCoverTheRange(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		zones := []string{"UTC", "Europe/Zurich", "Pacific/Chatham", "Pacific/Apia", "America/Havana"}
		z := zone(t, rapid.SampledFrom(zones).Draw(rt, "zone"))
		interval := rapid.SampledFrom([]timeline.Interval{timeline.Hourly, timeline.Daily, timeline.Weekly,
			timeline.Monthly}).Draw(rt, "interval")
		end := now().Add(-time.Duration(rapid.IntRange(0, 20_000).Draw(rt, "hours ago")) * time.Hour)
		r := timeline.Request{Interval: interval, Zone: z.String(), End: end,
			Start:     end.Add(-time.Duration(rapid.IntRange(1, 43_000).Draw(rt, "hours")) * time.Hour),
			MaxPoints: rapid.IntRange(1, 600).Draw(rt, "points")}
		whole, _ := timeline.Boundaries(interval, z, r.Start, r.End, 1<<20)
		m := &fakeStore{}
		got, err := timeline.NewService(m, nil, now).Points(t.Context(), portfolio.Portfolio{}, r)
		if err != nil {
			rt.Fatal(err)
		}
		bounds := m.bounds
		if bounds[0] != whole[0] || bounds[len(bounds)-1] != whole[len(whole)-1] || len(bounds)-1 > r.MaxPoints {
			rt.Fatalf("%d points from %s to %s of %d intervals from %s to %s", len(bounds)-1, bounds[0],
				bounds[len(bounds)-1], len(whole)-1, whole[0], whole[len(whole)-1])
		}
		if (len(whole)-1)/(got.Joined+1) > r.MaxPoints || got.Joined > 1 && 2*(len(whole)-1) < r.MaxPoints {
			rt.Fatalf("%d intervals a point make %d points of %d intervals", got.Joined, len(bounds)-1, len(whole)-1)
		}
		for i := range bounds[:len(bounds)-1] {
			from, to := slices.Index(whole, bounds[i]), slices.Index(whole, bounds[i+1])
			edge := i == 0 || i == len(bounds)-2
			if n := to - from; from < 0 || n < 1 || n > got.Joined || n < got.Joined && !edge {
				rt.Fatalf("point %d joins %d intervals, others %d", i, n, got.Joined)
			}
		}
	})
}

// A chart whose range moves on keeps the points that it has.
func TestARangeThatMovesOnKeepsItsPoints(t *testing.T) {
	bounds := func(start time.Time) []time.Time {
		m := &fakeStore{}
		r := timeline.Request{Interval: timeline.Hourly, Start: start, End: start.Add(5000 * time.Hour),
			MaxPoints: 101}
		if _, err := timeline.NewService(m, nil, now).Points(t.Context(), portfolio.Portfolio{}, r); err != nil {
			t.Fatal(err)
		}
		return m.bounds
	}
	start := now().Add(-7000 * time.Hour)
	before := bounds(start)
	for range 60 {
		start = start.Add(time.Hour)
		after := bounds(start)
		for _, b := range after[1 : len(after)-2] {
			if !slices.Contains(before[1:], b) {
				t.Fatalf("from %s on there is a limit at %s that was none before", start, b)
			}
		}
		before = after
	}
}
