package timeline

import "time"

// Boundaries divides [start, end) into intervals, hours of UTC or days, weeks or months
// of a time zone, and returns their limits: interval i is [bounds[i], bounds[i+1]). The first
// interval contains start, the last one the instant before end, so there is at
// least one interval. Of more intervals than limit it returns the newest, and true.
func Boundaries(i Interval, zone *time.Location, start, end time.Time, limit int) (bounds []time.Time,
	truncated bool) {
	floor, next := hourOf, nextHour
	switch i {
	case Daily:
		floor = func(t time.Time) time.Time { return dayOf(t, zone) }
		next = func(t time.Time) time.Time { return nextDay(t, zone) }
	case Weekly:
		floor = func(t time.Time) time.Time { return weekOf(t, zone, 0) }
		next = func(t time.Time) time.Time { return weekOf(t, zone, 7) }
	case Monthly:
		floor = func(t time.Time) time.Time { return monthOf(t, zone, 0) }
		next = func(t time.Time) time.Time { return monthOf(t, zone, 1) }
	}
	bounds = []time.Time{floor(start)}
	for t := bounds[0]; t.Before(end); {
		following := next(t)
		if !following.After(t) { // the zone skipped the day that the interval begins with
			following = nextDay(t, zone)
		}
		t = following
		bounds = append(bounds, t)
	}
	if excess := len(bounds) - 1 - limit; excess > 0 {
		return bounds[excess:], true
	}
	return bounds, false
}

func hourOf(t time.Time) time.Time   { return t.UTC().Truncate(time.Hour) }
func nextHour(t time.Time) time.Time { return t.Add(time.Hour) }

// weekOf returns the first instant of the day that is days after the Monday of t's week in zone. A zone that skips a
// Monday begins its week with the day after.
func weekOf(t time.Time, zone *time.Location, days int) time.Time {
	y, m, d := t.In(zone).Date()
	sinceMonday := (int(t.In(zone).Weekday()) + 6) % 7
	return firstInstant(y, m, d-sinceMonday+days, zone)
}

// monthOf returns the first instant of t's month in zone, months later.
func monthOf(t time.Time, zone *time.Location, months int) time.Time {
	y, m, _ := t.In(zone).Date()
	return firstInstant(y, m+time.Month(months), 1, zone)
}

// dayOf returns the first instant of t's day in zone.
func dayOf(t time.Time, zone *time.Location) time.Time {
	y, m, d := t.In(zone).Date()
	return firstInstant(y, m, d, zone)
}

// nextDay returns the first instant of the day after t's day in zone.
func nextDay(t time.Time, zone *time.Location) time.Time {
	y, m, d := t.In(zone).Date()
	next := firstInstant(y, m, d+1, zone)
	if !next.After(t) { // the zone skipped a whole day, as Pacific/Apia did
		next = firstInstant(y, m, d+2, zone)
	}
	return next
}

// firstInstant returns the first instant of a day in zone. That is not always 00:00:
// when clocks go forward at midnight it is 01:00, and when they go back across
// midnight there are two instants 00:00, of which it is the first.
func firstInstant(y int, m time.Month, d int, zone *time.Location) time.Time {
	noon := time.Date(y, m, d, 12, 0, 0, 0, zone)
	t := time.Date(y, m, d, 0, 0, 0, 0, zone)
	if t.Day() != noon.Day() { // there is no 00:00: time.Date returned an instant before the gap
		_, t = t.ZoneBounds()
	}
	change, _ := t.ZoneBounds()
	if change.IsZero() || t.Sub(change) >= 3*time.Hour {
		return t.UTC()
	}
	// The offset changed shortly before t. If clocks went back, the same day may have
	// begun before the change.
	_, before := change.Add(-time.Second).Zone()
	_, after := t.Zone()
	earlier := t.Add(-time.Duration(before-after) * time.Second)
	if before > after && earlier.Before(change) && earlier.In(zone).Day() == noon.Day() {
		t = earlier
	}
	return t.UTC()
}

// join joins consecutive intervals of bounds, the same number of them each, so that at most
// maxPoints are left, and returns their limits and that number. Which intervals belong
// together follows from the calendar and that number alone, so that a range that moves on by
// an interval keeps them: the first and the last may join fewer.
func join(bounds []time.Time, i Interval, zone *time.Location, maxPoints int) ([]time.Time, int) {
	first, intervals := ordinal(i, zone, bounds[0]), len(bounds)-1
	joined := (intervals + maxPoints - 1) / maxPoints
	for (first%joined+intervals+joined-1)/joined > maxPoints {
		joined++
	}
	if joined == 1 {
		return bounds, 1
	}
	out := []time.Time{bounds[0]}
	for n := joined - first%joined; n < intervals; n += joined {
		out = append(out, bounds[n])
	}
	return append(out, bounds[intervals]), joined
}

// ordinal counts the intervals from 1970 to the one that begins at t. It is 0 for those before 1970.
func ordinal(i Interval, zone *time.Location, t time.Time) int {
	y, m, d := t.In(zone).Date()
	days := int(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / (24 * 60 * 60))
	n := int(t.Unix() / (60 * 60))
	switch i {
	case Daily:
		n = days
	case Weekly:
		n = (days + 3) / 7 // 1970 began on a Thursday
	case Monthly:
		n = (y-1970)*12 + int(m) - 1
	}
	return max(0, n)
}
