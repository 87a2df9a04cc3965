package timeline

import "time"

// Boundaries divides [start, end) into intervals, hours of UTC or days of a time
// zone, and returns their limits: interval i is [bounds[i], bounds[i+1]). The first
// interval contains start, the last one the instant before end, so there is at
// least one interval. Of more intervals than limit it returns the newest, and true.
func Boundaries(i Interval, zone *time.Location, start, end time.Time, limit int) (bounds []time.Time,
	truncated bool) {
	floor, next := hourOf, nextHour
	if i == Daily {
		floor = func(t time.Time) time.Time { return dayOf(t, zone) }
		next = func(t time.Time) time.Time { return nextDay(t, zone) }
	}
	bounds = []time.Time{floor(start)}
	for t := bounds[0]; t.Before(end); {
		t = next(t)
		bounds = append(bounds, t)
	}
	if excess := len(bounds) - 1 - limit; excess > 0 {
		return bounds[excess:], true
	}
	return bounds, false
}

func hourOf(t time.Time) time.Time   { return t.UTC().Truncate(time.Hour) }
func nextHour(t time.Time) time.Time { return t.Add(time.Hour) }

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
