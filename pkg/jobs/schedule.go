package jobs

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// horizon is how far ahead a tick is looked for: 29 February can be eight
// years away.
const horizon = 9 // years

// CheckCron reports what is wrong with what is to be a Job's Cron.
func CheckCron(spec string) error {
	_, err := parse(spec)
	return err
}

// parse reads a schedule as robfig/cron does, but for a zone that it panics
// over, the process's own zone, and fields that name no instant.
func parse(spec string) (cron.Schedule, error) {
	if zone, _, more := strings.Cut(spec, " "); strings.Contains(zone, "TZ=") &&
		(!more || strings.HasSuffix(zone, "=Local")) {
		return nil, errors.New("a time zone is written CRON_TZ=Europe/Berlin, with a schedule after it")
	}
	schedule, err := cron.ParseStandard(spec)
	if err != nil {
		return nil, fmt.Errorf("%w", err)
	}
	fields, ok := schedule.(*cron.SpecSchedule)
	if !ok {
		return schedule, nil // @every
	}
	if fields.Location == time.Local {
		fields.Location = time.UTC
	}
	if fields.Minute == 0 || (calendar{fields}).Next(time.Unix(0, 0)).IsZero() {
		return nil, errors.New("no day has such a time")
	}
	return calendar{fields}, nil
}

// calendar finds the minutes whose civil time matches. robfig/cron's own search
// passes ticks over where a change of the clocks isn't one hour (Lord Howe) or
// is at midnight (Cairo).
type calendar struct{ *cron.SpecSchedule }

// Next returns the first tick after t, or zero when there is none for years.
func (c calendar) Next(t time.Time) time.Time {
	end := t.AddDate(horizon, 0, 0)
	t = t.In(c.Location).Truncate(time.Second).Add(time.Second)
	for t.Before(end) {
		wait := c.mismatch(t)
		if wait == 0 {
			return t.UTC()
		}
		next := t.Add(wait)
		if _, change := t.ZoneBounds(); !change.IsZero() && change.Before(next) {
			next = change
		}
		t = next
	}
	return time.Time{}
}

// mismatch is how long t's day, hour or minute lasts when it doesn't match, as
// long as nobody changes the clocks.
func (c calendar) mismatch(t time.Time) time.Duration {
	hour, minute, second := t.Clock()
	past := time.Duration(second) * time.Second
	switch {
	case c.Month>>t.Month()&1 == 0 || !c.day(t):
		return 24*time.Hour - time.Duration(hour)*time.Hour - time.Duration(minute)*time.Minute - past
	case c.Hour>>hour&1 == 0:
		return time.Hour - time.Duration(minute)*time.Minute - past
	case c.Minute>>minute&1 == 0 || second != 0:
		return time.Minute - past
	}
	return 0
}

// day is crontab(5)'s rule: where both days are restricted, either will do.
func (c calendar) day(t time.Time) bool {
	const star = 63 // the bit that robfig/cron sets for *
	ofMonth, ofWeek := c.Dom>>t.Day()&1 == 1, c.Dow>>t.Weekday()&1 == 1
	if c.Dom>>star == 1 || c.Dow>>star == 1 {
		return ofMonth && ofWeek
	}
	return ofMonth || ofWeek
}
