package timeline_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
)

// fakeStore returns these aggregates and notes the boundaries that it was called with.
type fakeStore struct {
	intervals []timeline.Aggregate
	before    *timeline.Value
	bounds    []time.Time
}

func (m *fakeStore) Aggregate(_ context.Context, _ portfolio.Portfolio, bounds []time.Time,
	_ string) (timeline.Aggregates, error) {
	m.bounds = bounds
	return timeline.Aggregates{Intervals: m.intervals, Before: m.before}, nil
}

func (m *fakeStore) FirstSnapshot(context.Context, uuid.UUID, time.Time) (time.Time, error) {
	return time.Time{}, nil
}

func now() time.Time { return time.Date(2026, 3, 11, 15, 30, 0, 0, time.UTC) }

func points(t *testing.T, m *fakeStore, r timeline.Request) ([]string, bool) {
	t.Helper()
	got, err := timeline.NewService(m, nil, now).Points(t.Context(), portfolio.Portfolio{}, r)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range got.Points {
		s := fmt.Sprintf("%s %s/%s/%s/%s of %d", p.Start.Format("2"), p.Open, p.Close, p.Min, p.Max, p.Snapshots)
		if p.CarriedForward {
			s += " carried"
		}
		if !p.Complete {
			s += " incomplete"
		}
		if p.End.Sub(p.Start) != 24*time.Hour {
			s += " until " + p.End.String()
		}
		out = append(out, s)
	}
	return out, got.Truncated
}

func aggregate(index int, complete bool) timeline.Aggregate {
	return timeline.Aggregate{Index: index, Open: "2", Close: "3", Min: "1", Max: "4", Snapshots: 24,
		Complete: complete}
}

func TestTheLastValueIsCarriedForwardAndNothingIsMadeUp(t *testing.T) {
	// the 7th to the 11th
	days := timeline.Request{Interval: timeline.Daily, Start: now().AddDate(0, 0, -4), End: now()}
	for _, tc := range []struct {
		name      string
		intervals []timeline.Aggregate
		before    *timeline.Value
		want      []string
	}{
		{"no snapshot at all", nil, nil, nil},
		{"none before the first", []timeline.Aggregate{aggregate(3, true)}, nil,
			[]string{"10 2/3/1/4 of 24", "11 3/3/3/3 of 0 carried"}},
		{"gaps carry the last close", []timeline.Aggregate{aggregate(0, true), aggregate(2, false),
			aggregate(4, true)}, nil,
			[]string{
				"7 2/3/1/4 of 24", "8 3/3/3/3 of 0 carried", "9 2/3/1/4 of 24 incomplete",
				"10 3/3/3/3 of 0 carried incomplete", "11 2/3/1/4 of 24",
			}},
		{"a snapshot from before carries into the first", []timeline.Aggregate{aggregate(1, true)},
			&timeline.Value{Total: "9", Complete: true}, []string{
				"7 9/9/9/9 of 0 carried", "8 2/3/1/4 of 24", "9 3/3/3/3 of 0 carried", "10 3/3/3/3 of 0 carried",
				"11 3/3/3/3 of 0 carried",
			}},
		{"only one from before, and incomplete", nil, &timeline.Value{Total: "9"}, []string{
			"7 9/9/9/9 of 0 carried incomplete", "8 9/9/9/9 of 0 carried incomplete",
			"9 9/9/9/9 of 0 carried incomplete", "10 9/9/9/9 of 0 carried incomplete",
			"11 9/9/9/9 of 0 carried incomplete",
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := &fakeStore{intervals: tc.intervals, before: tc.before}
			if got, truncated := points(t, m, days); truncated || !slices.Equal(got, tc.want) {
				t.Errorf("points\n%q, want\n%q", got, tc.want)
			}
		})
	}
}

func TestDefaults(t *testing.T) {
	m := &fakeStore{}
	if _, truncated := points(t, m, timeline.Request{}); truncated || len(m.bounds) != 32 {
		t.Errorf("%d boundaries, truncated %v", len(m.bounds), truncated)
	}
	if first, last := m.bounds[0], m.bounds[31]; !first.Equal(time.Date(2026, 2, 9, 0, 0, 0, 0, time.UTC)) ||
		!last.Equal(time.Date(2026, 3, 12, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("from %s to %s", first, last)
	}
	if _, truncated := points(t, m, timeline.Request{Interval: timeline.Hourly,
		Start: now().AddDate(-5, 0, 0)}); !truncated || len(m.bounds) != 1001 {
		t.Errorf("%d boundaries of five years by the hour, truncated %v", len(m.bounds), truncated)
	}
	if last := m.bounds[1000]; !last.Equal(now().Truncate(time.Hour).Add(time.Hour)) {
		t.Errorf("the newest ends %s", last)
	}
}

func TestRequestsThatNameTheFieldThatIsWrong(t *testing.T) {
	hour := func(n int) time.Time { return now().Add(time.Duration(n) * time.Hour) }
	for _, tc := range []struct {
		name  string
		r     timeline.Request
		field string // "" for none
	}{
		{"a start after the end", timeline.Request{Start: hour(-1), End: hour(-2)}, "start_time"},
		{"a start at the end", timeline.Request{Start: hour(-1), End: hour(-1)}, "start_time"},
		{"a start after now", timeline.Request{Start: hour(1)}, "start_time"},
		{"a nanosecond is a range", timeline.Request{Start: hour(-1).Add(-1), End: hour(-1)}, ""},
		{"an end in the future", timeline.Request{End: hour(1)}, "end_time"},
		{"an end of a clock that is a minute ahead", timeline.Request{End: now().Add(time.Minute)}, ""},
		{"an end past that", timeline.Request{End: now().Add(time.Minute + 1)}, "end_time"},
		{"exactly five years", timeline.Request{Start: now().AddDate(-5, 0, 0), End: now()}, ""},
		{"a nanosecond more", timeline.Request{Start: now().AddDate(-5, 0, 0).Add(-1), End: now()}, "start_time"},
		{"five years that end on a leap day",
			timeline.Request{Start: time.Date(2019, 3, 1, 0, 0, 0, 0, time.UTC),
				End: time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)}, ""},
		{"the time of the first Christians", timeline.Request{Start: time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC),
			End: now()}, "start_time"},
		{"a zone", timeline.Request{Zone: "Pacific/Chatham"}, ""},
		{"a zone that nobody has", timeline.Request{Zone: "Mars/Olympus"}, "time_zone"},
		{"the server's own zone", timeline.Request{Zone: "Local"}, "time_zone"},
		{"the same in other letters", timeline.Request{Zone: "LOCAL"}, "time_zone"},
		{"a path", timeline.Request{Zone: "../../../etc/passwd"}, "time_zone"},
		{"an absolute path", timeline.Request{Zone: "/etc/localtime"}, "time_zone"},
		{"a file that is no zone", timeline.Request{Zone: "zone.tab"}, "time_zone"},
		{"a limit of joined points", timeline.Request{MaxPoints: 10, Limit: 10}, "limit"},
		{"a NUL byte", timeline.Request{Zone: "UTC\x00"}, "time_zone"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := timeline.NewService(&fakeStore{}, nil, now).Points(t.Context(), portfolio.Portfolio{}, tc.r)
			e := errs.As(err)
			switch {
			case tc.field == "" && err == nil:
			case tc.field != "" && e != nil && e.Kind == errs.KindInvalid && e.Violations[0].Field == tc.field:
			default:
				t.Errorf("answered %v, want a violation of %q", err, tc.field)
			}
		})
	}
}
