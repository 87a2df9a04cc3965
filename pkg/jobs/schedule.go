package jobs

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// maxYearsToNextTick bounds the search for a tick: the next 29 February can be
// eight years away.
const maxYearsToNextTick = 9

// CheckCron returns an error when spec is not a valid [Job.Cron].
func CheckCron(spec string) error {
	_, err := parse(spec)
	return err
}

// parse reads a schedule as robfig/cron does. It also refuses a zone without a
// schedule, on which robfig/cron panics, the zone Local, and fields that match no
// minute.
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
		return nil, errors.New("no minute matches it")
	}
	return calendar{fields}, nil
}

// calendar finds the minutes whose civil time matches. robfig/cron's own search
// misses ticks where the clocks change by other than an hour (Lord Howe) or at
// midnight (Cairo).
type calendar struct{ *cron.SpecSchedule }

// Next returns the first tick after t, or zero when there is none within
// maxYearsToNextTick.
func (c calendar) Next(t time.Time) time.Time {
	end := t.AddDate(maxYearsToNextTick, 0, 0)
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

// mismatch returns the time from t to the end of its day, hour or minute, which
// doesn't match, or 0 when t matches. It ignores clock changes.
func (c calendar) mismatch(t time.Time) time.Duration {
	hour, minute, second := t.Clock()
	past := time.Duration(second) * time.Second
	switch {
	case c.Month>>t.Month()&1 == 0 || !c.dayMatches(t):
		return 24*time.Hour - time.Duration(hour)*time.Hour - time.Duration(minute)*time.Minute - past
	case c.Hour>>hour&1 == 0:
		return time.Hour - time.Duration(minute)*time.Minute - past
	case c.Minute>>minute&1 == 0 || second != 0:
		return time.Minute - past
	}
	return 0
}

// dayMatches is the rule of crontab(5): when day of month and day of week are both
// restricted, one of them has to match.
func (c calendar) dayMatches(t time.Time) bool {
	const star = 63 // the bit that robfig/cron sets for *
	ofMonth, ofWeek := c.Dom>>t.Day()&1 == 1, c.Dow>>t.Weekday()&1 == 1
	if c.Dom>>star == 1 || c.Dow>>star == 1 {
		return ofMonth && ofWeek
	}
	return ofMonth || ofWeek
}
