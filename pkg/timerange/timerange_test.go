package timerange_test

import (
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/timerange"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func TestARangeFollowsTheRulesOrItsErrorNamesTheFieldTheRuleAndWhatWasGiven(t *testing.T) {
	now := noon()
	past := timerange.Rules{Required: true, Now: now, Skew: timerange.ClockSkew, MaxYears: 5}
	exact := timerange.Rules{Now: now, Earliest: time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)}
	for name, tt := range map[string]struct {
		start, end time.Time
		rules      timerange.Rules
		want       string // the error's message
	}{
		"a range":                {now.Add(-time.Hour), now, past, ""},
		"a nanosecond":           {now.Add(-1), now, past, ""},
		"no start":               {time.Time{}, now, past, "start_time: must be set"},
		"no end":                 {now, time.Time{}, past, "end_time: must be set"},
		"neither":                {time.Time{}, time.Time{}, past, "start_time: must be set"},
		"neither, and none must": {time.Time{}, time.Time{}, exact, ""},
		"only a start":           {now, time.Time{}, exact, ""},
		"only an end":            {time.Time{}, now, exact, ""},
		"an end at the start": {now, now, past,
			"start_time: must be before end_time (2026-03-01T12:00:00Z), got 2026-03-01T12:00:00Z"},
		"an end before the start": {now, now.Add(-time.Hour), past,
			"start_time: must be before end_time (2026-03-01T11:00:00Z), got 2026-03-01T12:00:00Z"},
		"an end of a clock that is a minute ahead": {now, now.Add(time.Minute), past, ""},
		"an end past that": {now, now.Add(time.Minute + 1), past,
			"end_time: must not be in the future (now 2026-03-01T12:00:00Z), got 2026-03-01T12:01:00.000000001Z"},
		"an end after now where no clock may be ahead": {time.Time{}, now.Add(1), exact,
			"end_time: must not be in the future (now 2026-03-01T12:00:00Z), got 2026-03-01T12:00:00.000000001Z"},
		"an end in the future where it may be": {now, now.AddDate(9, 0, 0), timerange.Rules{}, ""},
		"a start at the earliest time":         {exact.Earliest, now, exact, ""},
		"a start before it": {exact.Earliest.Add(-time.Hour), now, exact,
			"start_time: must be 2015-01-01T00:00:00Z or later, got 2014-12-31T23:00:00Z"},
		"five years": {now.AddDate(-5, 0, 0), now, past, ""},
		"and more": {now.AddDate(-5, 0, -1), now, past,
			"start_time: must be at most 5 years before end_time (2026-03-01T12:00:00Z), got 2021-02-28T12:00:00Z"},
		"five years that end on a leap day": {time.Date(2019, 3, 1, 0, 0, 0, 0, time.UTC),
			time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC), past, ""},
		"the year 1": {time.Date(1, 1, 1, 0, 0, 1, 0, time.UTC), now, past,
			"start_time: must be at most 5 years before end_time (2026-03-01T12:00:00Z), got 0001-01-01T00:00:01Z"},
		"times of other zones, told in UTC": {now.In(time.FixedZone("", 3600)), now.In(time.FixedZone("", -3600)),
			past,
			"start_time: must be before end_time (2026-03-01T12:00:00Z), got 2026-03-01T12:00:00Z"},
	} {
		t.Run(name, func(t *testing.T) {
			err := timerange.Range{Start: tt.start, End: tt.end}.Check(tt.rules)
			if tt.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			e := errs.As(err)
			if e == nil || e.Kind != errs.KindInvalid || e.Message != tt.want || len(e.Violations) != 1 ||
				!strings.HasPrefix(tt.want, e.Violations[0].Field+": ") {
				t.Errorf("%v\nwant %s", err, tt.want)
			}
		})
	}
}

func TestTimesOfARequestThatAreNoneAreRefused(t *testing.T) {
	at := timestamppb.New(noon())
	for name, tt := range map[string]struct {
		start, end *timestamppb.Timestamp
		field      string // that is wrong; "" for none
	}{
		"two times":                {at, at, ""},
		"none":                     {nil, nil, ""},
		"only an end":              {nil, at, ""},
		"a start past any":         {&timestamppb.Timestamp{Seconds: 1 << 60}, at, "start_time"},
		"a start before any":       {&timestamppb.Timestamp{Seconds: -1 << 60}, at, "start_time"},
		"an end past any":          {at, &timestamppb.Timestamp{Seconds: 1 << 60}, "end_time"},
		"an end before its second": {at, &timestamppb.Timestamp{Nanos: -1}, "end_time"},
		"an end after its second":  {at, &timestamppb.Timestamp{Nanos: 1e9}, "end_time"},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := timerange.FromProto(tt.start, tt.end)
			if tt.field != "" {
				if e := errs.As(err); e == nil || e.Violations[0].Field != tt.field || r != (timerange.Range{}) {
					t.Errorf("%v, %v; want an error of %s", r, err, tt.field)
				}
				return
			}
			if err != nil || r.Start.IsZero() != (tt.start == nil) || r.End.IsZero() != (tt.end == nil) ||
				tt.end != nil && r.End != noon() {
				t.Errorf("%v, %v", r, err)
			}
		})
	}
}

func TestTheHoursOfARangeAreThoseThatBeginInIt(t *testing.T) {
	hour := func(n int) time.Time { return noon().Add(time.Duration(n) * time.Hour) }
	for name, tt := range map[string]struct{ start, end, first, until time.Time }{
		"whole hours":                     {hour(0), hour(2), hour(0), hour(2)},
		"a part of an hour at either end": {hour(0).Add(1), hour(2).Add(1), hour(1), hour(3)},
		"a range in which no hour begins": {hour(0).Add(1), hour(1), hour(1), hour(1)},
		"an end that was moved before":    {hour(3), hour(1), hour(1), hour(1)},
		"times of other zones, told in UTC": {hour(0).In(time.FixedZone("", 12345)),
			hour(1).In(time.FixedZone("", -1234)), hour(0), hour(1)},
	} {
		t.Run(name, func(t *testing.T) {
			first, until := timerange.Range{Start: tt.start, End: tt.end}.Hours()
			if first != tt.first || until != tt.until {
				t.Errorf("%s to %s", first, until)
			}
		})
	}
}

func TestASingleTimeFollowsTheRules(t *testing.T) {
	now := noon()
	rules := timerange.Rules{Now: now, Skew: timerange.ClockSkew, Earliest: now.AddDate(-1, 0, 0)}
	for name, tt := range map[string]struct {
		at    time.Time
		rules timerange.Rules
		want  string
	}{
		"unset":                         {time.Time{}, rules, ""},
		"now":                           {now, rules, ""},
		"a clock that is a minute fast": {now.Add(time.Minute), rules, ""},
		"the future": {now.Add(time.Minute + 1), rules,
			"as_of_time: must not be in the future (now 2026-03-01T12:00:00Z), got 2026-03-01T12:01:00.000000001Z"},
		"the earliest": {rules.Earliest, rules, ""},
		"before it": {rules.Earliest.Add(-1), rules,
			"as_of_time: must be 2025-03-01T12:00:00Z or later, got 2025-03-01T11:59:59.999999999Z"},
		"no rule": {now.AddDate(9, 0, 0), timerange.Rules{}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := timerange.CheckTime("as_of_time", tt.at, tt.rules)
			if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
