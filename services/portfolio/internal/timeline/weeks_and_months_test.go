package timeline_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/timeline"
)

func TestWeeksBeginOnMondayAndMonthsOnTheFirstInEveryZone(t *testing.T) {
	for _, name := range []string{"UTC", "Europe/Zurich", "America/Sao_Paulo", "Pacific/Chatham", "Pacific/Apia",
		"Asia/Beirut", "Africa/Cairo", "America/Havana"} {
		t.Run(name, func(t *testing.T) {
			z := zone(t, name)
			// With a leap day and the 53 weeks of 2020; Brazil's, Lebanon's and Cuba's clocks change at midnight.
			start, end := time.Date(2015, 12, 30, 5, 0, 0, 0, time.UTC), time.Date(2021, 3, 3, 3, 0, 0, 0, time.UTC)
			for interval, begins := range map[timeline.Interval]func(time.Time) bool{
				timeline.Weekly:  func(local time.Time) bool { return local.Weekday() == time.Monday },
				timeline.Monthly: func(local time.Time) bool { return local.Day() == 1 },
			} {
				bounds, _ := timeline.Boundaries(interval, z, start, end, 1<<20)
				if bounds[0].After(start) || !bounds[1].After(start) || bounds[len(bounds)-1].Before(end) ||
					!bounds[len(bounds)-2].Before(end) {
					t.Errorf("from %s, %s to %s", bounds[0], bounds[1], bounds[len(bounds)-1])
				}
				for i, b := range bounds {
					local, before := b.In(z), b.Add(-time.Nanosecond).In(z)
					if !begins(local) || before.Day() == local.Day() || i > 0 && !b.After(bounds[i-1]) {
						t.Errorf("interval %d begins at %s", interval, local)
					}
				}
				want := map[timeline.Interval]int{timeline.Weekly: 271, timeline.Monthly: 64}[interval]
				if len(bounds)-1 != want {
					t.Errorf("%d intervals of kind %d, want %d", len(bounds)-1, interval, want)
				}
			}
		})
	}
}
