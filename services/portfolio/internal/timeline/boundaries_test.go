package timeline_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/portfolio/internal/timeline"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	z, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return z
}

func utc(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse("2006-01-02 15:04:05", text)
	if err != nil {
		t.Fatal(err)
	}
	return at.UTC()
}

// Days of unusual length, according to the tz database. start is within the first
// interval, end within the last.
func TestDaysBeginWhenTheZonesCalendarSays(t *testing.T) {
	for _, tc := range []struct{ name, zone, start, end, want string }{
		{"spring in Zurich has 23 hours", "Europe/Zurich", "2026-03-28 12:00:00", "2026-03-30 12:00:00",
			"03-27 23:00, 03-28 23:00, 03-29 22:00, 03-30 22:00"},
		{"autumn in Zurich has 25 hours", "Europe/Zurich", "2026-10-24 12:00:00", "2026-10-26 12:00:00",
			"10-23 22:00, 10-24 22:00, 10-25 23:00, 10-26 23:00"},
		{"a day in São Paulo that began at 01:00", "America/Sao_Paulo", "2018-11-03 12:00:00", "2018-11-05 01:00:00",
			"11-03 03:00, 11-04 03:00, 11-05 02:00"},
		{"a day in São Paulo of 25 hours, whose last came twice", "America/Sao_Paulo", "2018-02-17 12:00:00",
			"2018-02-18 12:00:00", "02-17 02:00, 02-18 03:00, 02-19 03:00"},
		{"the hour that came twice is the old day's", "America/Sao_Paulo", "2018-02-18 02:30:00",
			"2018-02-18 12:00:00", "02-17 02:00, 02-18 03:00, 02-19 03:00"},
		{"a day in Beirut that began at 01:00", "Asia/Beirut", "2022-03-26 12:00:00", "2022-03-28 12:00:00",
			"03-25 22:00, 03-26 22:00, 03-27 21:00, 03-28 21:00"},
		{"a day in Cairo that began at 01:00", "Africa/Cairo", "2023-04-27 12:00:00", "2023-04-28 12:00:00",
			"04-26 22:00, 04-27 22:00, 04-28 21:00"},
		{"a day in Havana that began at 01:00", "America/Havana", "2026-03-08 12:00:00", "2026-03-09 12:00:00",
			"03-08 05:00, 03-09 04:00, 03-10 04:00"},
		{"a day in Havana with midnight twice", "America/Havana", "2026-11-01 04:30:00", "2026-11-02 12:00:00",
			"11-01 04:00, 11-02 05:00, 11-03 05:00"},
		{"from the second midnight in Havana", "America/Havana", "2026-11-01 05:30:00", "2026-11-01 06:00:00",
			"11-01 04:00, 11-02 05:00"},
		{"thirteen hours and three quarters ahead", "Pacific/Chatham", "2026-01-10 12:00:00", "2026-01-11 12:00:00",
			"01-10 10:15, 01-11 10:15, 01-12 10:15"},
		{"the day that Apia skipped", "Pacific/Apia", "2011-12-29 12:00:00", "2011-12-31 12:00:00",
			"12-29 10:00, 12-30 10:00, 12-31 10:00, 01-01 10:00"},
		{"a leap day", "UTC", "2024-02-28 12:00:00", "2024-03-01 12:00:00",
			"02-28 00:00, 02-29 00:00, 03-01 00:00, 03-02 00:00"},
		{"an end on a boundary opens no other day", "UTC", "2026-01-01 00:00:00", "2026-01-03 00:00:00",
			"01-01 00:00, 01-02 00:00, 01-03 00:00"},
		{"half an hour after midnight that fell back past it", "America/St_Johns", "2010-11-06 12:00:00",
			"2010-11-07 12:00:00", "11-06 02:30, 11-07 02:30, 11-08 03:30"},
		{"half-hour daylight saving", "Australia/Lord_Howe", "2026-04-04 12:00:00", "2026-04-05 12:00:00",
			"04-03 13:00, 04-04 13:00, 04-05 13:30"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			bounds, cut := timeline.Boundaries(timeline.Daily, zone(t, tc.zone), utc(t, tc.start), utc(t, tc.end), 100)
			var got []string
			for _, b := range bounds {
				got = append(got, b.Format("01-02 15:04"))
			}
			if cut || strings.Join(got, ", ") != tc.want {
				t.Errorf("\n got %s\nwant %s", strings.Join(got, ", "), tc.want)
			}
		})
	}
}

func TestHoursAreUTCs(t *testing.T) {
	for _, name := range []string{"UTC", "Pacific/Chatham", "Asia/Kolkata"} {
		bounds, cut := timeline.Boundaries(timeline.Hourly, zone(t, name), utc(t, "2026-03-28 23:59:59"),
			utc(t, "2026-03-29 02:00:01"), 10)
		want := []time.Time{utc(t, "2026-03-28 23:00:00"), utc(t, "2026-03-29 00:00:00"),
			utc(t, "2026-03-29 01:00:00"), utc(t, "2026-03-29 02:00:00"), utc(t, "2026-03-29 03:00:00")}
		if cut || !slices.EqualFunc(bounds, want, time.Time.Equal) {
			t.Errorf("%s: %v", name, bounds)
		}
	}
}

func TestALimitKeepsTheNewest(t *testing.T) {
	start, end := utc(t, "2026-03-01 00:00:00"), utc(t, "2026-03-11 00:00:00")
	all, _ := timeline.Boundaries(timeline.Daily, time.UTC, start, end, 10)
	for limit, want := range map[int]int{1: 1, 9: 9, 10: 10, 11: 10} {
		got, cut := timeline.Boundaries(timeline.Daily, time.UTC, start, end, limit)
		if len(got)-1 != want || cut != (limit < 10) || !slices.EqualFunc(got, all[10-want:], time.Time.Equal) {
			t.Errorf("limit %d: %d intervals, cut %v, %v", limit, len(got)-1, cut, got)
		}
	}
}

// zones returns time zones with every kind of clock change: across midnight, by half an
// hour, by two hours and by a day.
func zones() []string {
	return []string{
		"UTC", "Europe/Zurich", "Europe/Lisbon", "America/Sao_Paulo", "Africa/Cairo", "Asia/Beirut", "America/Havana",
		"Pacific/Chatham", "Pacific/Apia", "Pacific/Kwajalein", "America/St_Johns", "America/Goose_Bay",
		"America/Scoresbysund",
		"Australia/Lord_Howe", "Asia/Tehran", "Asia/Kathmandu", "Africa/Monrovia", "America/Asuncion", "Asia/Amman",
		"Antarctica/Troll",
		"Asia/Gaza", "Africa/Casablanca", "Asia/Pyongyang", "America/Caracas", "Pacific/Fakaofo", "Atlantic/Azores",
	}
}

// firstInstants computes boundaries in another way: minute by minute it returns each
// minute in which a local date occurs for the first time.
func firstInstants(z *time.Location, from, to time.Time) []time.Time {
	var out []time.Time
	newest := 0
	for t := from; !t.After(to); t = t.Add(time.Minute) {
		y, m, d := t.In(z).Date()
		if date := y*10000 + int(m)*100 + d; date > newest {
			newest = date
			out = append(out, t)
		}
	}
	return out[1:] // the scan began within the first
}

func check(z *time.Location, start, end time.Time) error {
	bounds, cut := timeline.Boundaries(timeline.Daily, z, start, end, 1<<20)
	if cut || len(bounds) < 2 {
		return fmt.Errorf("%d boundaries, cut %v", len(bounds), cut)
	}
	last := len(bounds) - 1
	if bounds[0].After(start) || bounds[last].Before(end) ||
		!bounds[1].After(start) && bounds[1].Sub(start) < -24*time.Hour {
		return fmt.Errorf("%v don't cover %s to %s", bounds, start, end)
	}
	if !bounds[last-1].Before(end) {
		return fmt.Errorf("%v has a day too many for %s", bounds, end)
	}
	slow := firstInstants(z, bounds[0].Add(-26*time.Hour).Truncate(time.Minute), bounds[last].Add(time.Hour))
	i := slices.IndexFunc(slow, bounds[0].Equal)
	if i < 0 || !slices.EqualFunc(bounds, slow[i:], time.Time.Equal) {
		return fmt.Errorf("boundaries\n%v, by minutes\n%v", bounds, slow)
	}
	return nil
}

func TestBoundariesAreTheFirstInstantsOfTheirDates(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		name := rapid.SampledFrom(zones()).Draw(r, "zone")
		// 1973 to 2034: whole minutes of offset
		start := time.Unix(rapid.Int64Range(94694400, 2051222400).Draw(r, "start"), 0).UTC()
		end := start.Add(time.Duration(rapid.Int64Range(1, int64(12*24*time.Hour)).Draw(r, "span")))
		if err := check(zone(t, name), start, end); err != nil {
			r.Fatalf("%s: %v", name, err)
		}
	})
}

// Random times rarely meet a clock change: this tests every change of these zones since
// 1990.
func TestBoundariesAroundEveryChangeOfClocks(t *testing.T) {
	for _, name := range zones() {
		z := zone(t, name)
		for at := utc(t, "1990-01-01 00:00:00"); at.Before(utc(t, "2028-01-01 00:00:00")); {
			_, change := at.In(z).ZoneBounds()
			if change.IsZero() {
				break
			}
			for _, start := range []time.Duration{-26 * time.Hour, 30 * time.Minute} {
				if err := check(z, change.Add(start).UTC(), change.Add(27*time.Hour).UTC()); err != nil {
					t.Errorf("%s at %s, from %s: %v", name, change.UTC(), start, err)
				}
			}
			at = change.Add(time.Second)
		}
	}
}
