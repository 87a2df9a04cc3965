package jobs

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/robfig/cron/v3"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/pkg/testkit"
)

// zones: an hour at night, a half one, one at midnight either side of it, a
// double one, none, and an offset of three quarters.
var zones = []string{
	"America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "Africa/Cairo", "America/Asuncion",
	"Antarctica/Troll", "UTC", "Asia/Kathmandu", "Pacific/Chatham", "Asia/Beirut",
}

var first = time.Date(2018, 1, 1, 0, 0, 0, 0, time.UTC)

// field is one field of a schedule, as text and as what the text means.
type field struct {
	text string
	has  map[int]bool
	star bool
}

func anyField(t *rapid.T, name string, low, high int) field {
	f := field{has: map[int]bool{}}
	add := func(from, to, step int) {
		for i := from; i <= to; i += step {
			f.has[i] = true
		}
	}
	from := rapid.IntRange(low, high).Draw(t, name)
	switch rapid.IntRange(0, 4).Draw(t, name+" kind") {
	case 0:
		f.text, f.star = "*", true
		add(low, high, 1)
	case 1:
		f.text = fmt.Sprint(from)
		add(from, from, 1)
	case 2:
		other := rapid.IntRange(low, high).Draw(t, name+" other")
		f.text = fmt.Sprintf("%d,%d", from, other)
		add(from, from, 1)
		add(other, other, 1)
	case 3:
		to := rapid.IntRange(from, high).Draw(t, name+" to")
		f.text = fmt.Sprintf("%d-%d", from, to)
		add(from, to, 1)
	case 4:
		step := rapid.IntRange(2, 30).Draw(t, name+" step")
		f.text = fmt.Sprintf("*/%d", step)
		add(low, high, step)
	}
	return f
}

// spec is a schedule whose meaning the test knows without reading it.
type spec struct {
	zone                            string
	minute, hour, day, month, wkday field
}

func (s spec) String() string {
	return fmt.Sprintf("CRON_TZ=%s %s %s %s %s %s", s.zone, s.minute.text, s.hour.text, s.day.text, s.month.text,
		s.wkday.text)
}

func anySpec(t *rapid.T) spec {
	return spec{rapid.SampledFrom(zones).Draw(t, "zone"), anyField(t, "minute", 0, 59), anyField(t, "hour", 0, 23),
		anyField(t, "day", 1, 31), anyField(t, "month", 1, 12), anyField(t, "weekday", 0, 6)}
}

// civil is what clocks on a wall show in one minute.
type civil struct{ minute, hour, day, month, wkday int8 }

func civilAt(t time.Time) civil {
	hour, minute, _ := t.Clock()
	_, month, day := t.Date()
	return civil{int8(minute), int8(hour), int8(day), int8(month), int8(t.Weekday())}
}

func (s spec) matches(c civil) bool {
	day, wkday := s.day.has[int(c.day)], s.wkday.has[int(c.wkday)]
	either := day || wkday
	if s.day.star || s.wkday.star {
		either = day && wkday
	}
	return s.minute.has[int(c.minute)] && s.hour.has[int(c.hour)] && s.month.has[int(c.month)] && either
}

// ticks asks the package.
func (s spec) ticks(t testing.TB, from, to time.Time) (found []time.Time) {
	schedule, err := parse(s.String())
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	for at := schedule.Next(from); !at.IsZero() && at.Before(to); at = schedule.Next(at) {
		found = append(found, at)
	}
	return found
}

// TestTicksAreTheMinutesWhoseCivilTimeMatches looks at a week and a half around
// a change of the clocks, minute by minute.
func TestTicksAreTheMinutesWhoseCivilTimeMatches(t *testing.T) {
	t.Parallel()
	for range testkit.Size(1, 10) {
		rapid.Check(t, func(rt *rapid.T) {
			s := anySpec(rt)
			if _, err := parse(s.String()); err != nil && strings.Contains(err.Error(), "no minute matches") {
				rt.Skip("30 February")
			}
			location, err := time.LoadLocation(s.zone)
			if err != nil {
				rt.Fatal(err)
			}
			middle := first.Add(time.Duration(
				rapid.IntRange(0, 10*365*24*60).Draw(rt, "minute of ten years")) * time.Minute)
			if _, change := middle.In(location).ZoneBounds(); change.Year() < first.Year()+10 && !change.IsZero() {
				middle = change
			}
			from := middle.Add(-24 * time.Hour).UTC()
			to := from.Add(10 * 24 * time.Hour)
			var want []time.Time
			for at := from.Add(time.Minute); at.Before(to); at = at.Add(time.Minute) {
				if s.matches(civilAt(at.In(location))) {
					want = append(want, at)
				}
			}
			got := s.ticks(t, from, to)
			for i := range max(len(got), len(want)) {
				if i >= len(got) || i >= len(want) || !got[i].Equal(want[i]) {
					rt.Fatalf("%s from %s: %d ticks, want %d; the first wrong after %s", s, from, len(got), len(want),
						want[:i][max(0, i-1):])
				}
			}
		})
	}
}

// TestTenYearsOfTicks walks ten years of each zone without a gap, at full size.
func TestTenYearsOfTicks(t *testing.T) {
	t.Parallel()
	days, each := testkit.Size(150, 3652), testkit.Size(2, 5)
	specs := rapid.Custom(anySpec)
	total := 0
	for i, zone := range zones {
		location, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		to := first.AddDate(0, 0, days)
		minutes := make([]civil, to.Sub(first)/time.Minute)
		for m := range minutes {
			minutes[m] = civilAt(first.Add(time.Duration(m) * time.Minute).In(location))
		}
		for n := range each {
			s := specs.Example(i*each + n)
			s.zone = zone
			if _, err := parse(s.String()); err != nil {
				continue // 30 February
			}
			got := s.ticks(t, first.Add(-time.Second), to)
			total += len(got)
			for m, c := range minutes {
				if !s.matches(c) {
					continue
				}
				at := first.Add(time.Duration(m) * time.Minute)
				if len(got) == 0 || !got[0].Equal(at) {
					t.Fatalf("%s misses %s, or has one before it", s, at.In(location))
				}
				got = got[1:]
			}
			if len(got) > 0 {
				t.Fatalf("%s has %d ticks too many", s, len(got))
			}
		}
	}
	testkit.Figure(t, "%d ticks of %d schedules in %d zones over %d days: each as brute force has it", total,
		each*len(zones), len(zones), days)
}

func TestWhereTheClocksChange(t *testing.T) {
	for name, c := range map[string]struct{ spec, from, to, want string }{
		"an hour that doesn't exist has no tick": {"CRON_TZ=Europe/Berlin 30 2 * * *", "2026-03-28T12:00:00Z",
			"2026-03-30T12:00:00Z", "2026-03-30T00:30"},
		"an hour that comes twice has its ticks twice": {"CRON_TZ=America/New_York 30 1 * * *", "2026-10-31T12:00:00Z",
			"2026-11-01T12:00:00Z", "2026-11-01T05:30 2026-11-01T06:30"},
		"a half hour's shift moves no other tick": {"CRON_TZ=Australia/Lord_Howe 0 3 * * *",
			"2026-10-03T00:00:00Z", "2026-10-05T00:00:00Z", "2026-10-03T16:00 2026-10-04T16:00"},
		"a day without midnight has its ticks": {"CRON_TZ=Africa/Cairo 0 12 * * 5", "2026-04-20T00:00:00Z",
			"2026-05-02T00:00:00Z", "2026-04-24T09:00 2026-05-01T09:00"},
		"29 February can be far": {"0 0 29 2 *", "2096-03-01T00:00:00Z", "2105-01-01T00:00:00Z",
			"2104-02-29T00:00"},
		"every is counted from the last": {"@every 90s", "2026-01-01T00:00:00.7Z",
			"2026-01-01T00:04:00Z", "2026-01-01T00:01 2026-01-01T00:03"},
	} {
		t.Run(name, func(t *testing.T) {
			schedule, err := parse(c.spec)
			if err != nil {
				t.Fatal(err)
			}
			from, _ := time.Parse(time.RFC3339, c.from)
			to, _ := time.Parse(time.RFC3339, c.to)
			var got []string
			for at := schedule.Next(from); at.Before(to) && !at.IsZero(); at = schedule.Next(at) {
				got = append(got, at.UTC().Format("2006-01-02T15:04"))
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("%v, want %s", got, c.want)
			}
		})
	}
	t.Run("control: robfig/cron's own search misses the last three of them", func(t *testing.T) {
		for spec, from := range map[string]string{
			"CRON_TZ=Australia/Lord_Howe 0 3 * * *": "2026-10-03T00:00:00Z",
			"CRON_TZ=Africa/Cairo 0 12 * * 5":       "2026-04-20T00:00:00Z",
			"0 0 29 2 *":                            "2096-03-01T00:00:00Z",
		} {
			theirs, _ := cron.ParseStandard(spec)
			ours, _ := parse(spec)
			at, _ := time.Parse(time.RFC3339, from)
			if theirs.Next(at).Equal(ours.Next(at)) {
				t.Errorf("%s: as ours; the search may no longer be needed", spec)
			}
		}
	})
}

func TestSchedulesThatAreRefused(t *testing.T) {
	for _, spec := range []string{
		"CRON_TZ=UTC", "TZ=", "CRON_TZ=Local * * * * *", "CRON_TZ=Nowhere/Else * * * * *", "0 0 30 2 *", ", * * * *",
		"* * * *", "60 * * * *", "@every soon", "@never", " ", "* * * * * *",
	} {
		err := New(nil, Options{}).Add(Job{Name: "j", Cron: spec,
			Run: func(context.Context, *Run) error { return nil }})
		if err == nil {
			t.Errorf("%q is taken", spec)
		}
	}
}

func FuzzAdd(f *testing.F) {
	for _, spec := range []string{
		"* * * * *", "CRON_TZ=UTC", "TZ=\x00 * * * * *", ",,, , , , ,", "0 0 30 2 *", "*/9223372036854775807 * * * *",
		"@every -1h", "@every 2562047h",
		"@hourly", "0-59/7 1,2,3 ? jan-dec mon", "59 23 31 12 6", "CRON_TZ=Australia/Lord_Howe 0 2 * * *",
		"1-1-1 * * * *", "1/2/3 * * * *", "CRON_TZ= 0 0 29 2 1",
	} {
		f.Add(spec, int64(1_760_000_000))
	}
	f.Fuzz(func(t *testing.T, spec string, from int64) {
		r := New(nil, Options{})
		defer r.cancel()
		if r.Add(Job{Name: "j", Cron: spec, Run: func(context.Context, *Run) error { return nil }}) != nil ||
			spec == "" {
			return
		}
		at := time.Unix(from%4_000_000_000, 0)
		for range 10 {
			next := r.jobs["j"].schedule.Next(at)
			if next.IsZero() {
				return
			}
			if !next.After(at) || next.Nanosecond() != 0 {
				t.Fatalf("%q: %s after %s", spec, next, at)
			}
			at = next
		}
	})
}
