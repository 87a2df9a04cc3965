// Package timeline answers how a portfolio's value moved.
//
// It promises: days begin and end at midnight of the asked zone, whatever its
// clocks do; boundaries are computed here and passed to SQL; the newest points
// are the ones kept when there are too many; an interval without a snapshot
// carries the last known value forward and says so; nothing is made up before
// the first snapshot.
//
// A snapshot belongs to the interval that its hour begins in. Hours are UTC's
// own: zones whose offset is not whole hours don't shift them.
package timeline

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// Interval is the width of a point.
type Interval int

// The intervals.
const (
	Hourly Interval = iota + 1
	Daily
)

// Bounds of a request.
const (
	DefaultSpan  = 30 * 24 * time.Hour
	maxYears     = 5
	DefaultLimit = 1000
	MaxLimit     = 5000
	// skew is how far a caller's clock may be ahead.
	skew = time.Minute
)

// Request says which points to answer with. Zero times take the defaults.
type Request struct {
	Interval   Interval
	Start, End time.Time
	Zone       string // IANA name, UTC when empty
	Limit      int
}

// Point is the value within one interval.
type Point struct {
	Start, End time.Time
	// Decimal numbers.
	Open, Close, Min, Max string
	Snapshots             int
	Carried               bool
	Complete              bool
}

// Bucket is what a store knows of one interval.
type Bucket struct {
	// Index of the interval.
	Index                 int
	Open, Close, Min, Max string
	Snapshots             int
	Complete              bool
}

// Value is a total and whether it was complete.
type Value struct {
	Total    string
	Complete bool
}

// History is what a store knows of a row of intervals.
type History struct {
	// Buckets in order; intervals without a snapshot are left out.
	Buckets []Bucket
	// Before is of the newest snapshot before the first interval; nil when
	// there is none.
	Before *Value
}

// Store aggregates snapshots.
type Store interface {
	// History aggregates the snapshots within each interval [bounds[i],
	// bounds[i+1]). It is shared with other callers: don't change it.
	History(ctx context.Context, p portfolio.Portfolio, bounds []time.Time) (History, error)
}

// Service is the rules.
type Service struct {
	store Store
	now   func() time.Time
}

// NewService returns the rules.
func NewService(s Store, now func() time.Time) *Service { return &Service{store: s, now: now} }

// Of returns the points of a portfolio, oldest first, and whether older ones
// were left out for the limit. errs.Invalid names the field that is wrong.
func (s *Service) Of(ctx context.Context, p portfolio.Portfolio, r Request) ([]Point, bool, error) {
	r, zone, err := s.complete(r)
	if err != nil {
		return nil, false, err
	}
	bounds, truncated := Boundaries(r.Interval, zone, r.Start, r.End, r.Limit)
	h, err := s.store.History(ctx, p, bounds)
	if err != nil {
		return nil, false, err
	}
	return h.points(bounds), truncated, nil
}

// points carries the last known value into intervals without a snapshot.
func (h History) points(bounds []time.Time) []Point {
	points := make([]Point, 0, len(bounds)-1)
	buckets, last := h.Buckets, h.Before
	for i := range len(bounds) - 1 {
		p := Point{Start: bounds[i], End: bounds[i+1]}
		switch {
		case len(buckets) > 0 && buckets[0].Index == i:
			b := buckets[0]
			buckets = buckets[1:]
			p.Open, p.Close, p.Min, p.Max = b.Open, b.Close, b.Min, b.Max
			p.Snapshots, p.Complete = b.Snapshots, b.Complete
			last = &Value{Total: b.Close, Complete: b.Complete}
		case last != nil:
			p.Open, p.Close, p.Min, p.Max = last.Total, last.Total, last.Total, last.Total
			p.Carried, p.Complete = true, last.Complete
		default:
			continue
		}
		points = append(points, p)
	}
	return points
}

// complete fills in the defaults and checks the rules.
func (s *Service) complete(r Request) (Request, *time.Location, error) {
	now := s.now()
	switch {
	case r.End.IsZero():
		r.End = now
	case r.End.After(now.Add(skew)):
		return r, nil, errs.Invalid("end_time", "must not be in the future")
	}
	if r.Start.IsZero() {
		r.Start = r.End.Add(-DefaultSpan)
	}
	if !r.Start.Before(r.End) {
		return r, nil, errs.Invalid("start_time", "must be before end_time")
	}
	if r.Start.Before(r.End.AddDate(-maxYears, 0, 0)) {
		return r, nil, errs.Invalid("start_time", fmt.Sprintf("must be at most %d years before end_time", maxYears))
	}
	if r.Interval == 0 {
		r.Interval = Daily
	}
	if r.Limit == 0 {
		r.Limit = DefaultLimit
	}
	zone, err := time.LoadLocation(r.Zone)
	if err != nil || strings.EqualFold(r.Zone, "local") {
		return r, nil, errs.Invalid("time_zone", `must be an IANA time zone, for example "Europe/Zurich"`)
	}
	return r, zone, nil
}

// Boundaries returns the limits of the intervals that cover [start, end), the
// newest ones when there are more than limit, and whether older ones were cut
// off. There is at least one interval: two boundaries.
func Boundaries(i Interval, zone *time.Location, start, end time.Time, limit int) (bounds []time.Time, cut bool) {
	floor, step := hourOf, nextHour
	if i == Daily {
		floor = func(t time.Time) time.Time { return dayOf(t, zone) }
		step = func(t time.Time) time.Time { return nextDay(t, zone) }
	}
	bounds = []time.Time{floor(start)}
	for t := bounds[0]; t.Before(end); {
		t = step(t)
		bounds = append(bounds, t)
	}
	if over := len(bounds) - 1 - limit; over > 0 {
		return bounds[over:], true
	}
	return bounds, false
}

func hourOf(t time.Time) time.Time   { return t.UTC().Truncate(time.Hour) }
func nextHour(t time.Time) time.Time { return t.Add(time.Hour) }

// dayOf returns the first instant of t's day in zone.
func dayOf(t time.Time, zone *time.Location) time.Time {
	y, m, d := t.In(zone).Date()
	return midnight(y, m, d, zone)
}

func nextDay(t time.Time, zone *time.Location) time.Time {
	y, m, d := t.In(zone).Date()
	next := midnight(y, m, d+1, zone)
	if !next.After(t) { // a zone that skipped a whole day
		next = midnight(y, m, d+2, zone)
	}
	return next
}

// midnight returns the first instant of a day. Where clocks go forward at
// midnight that is 01:00; where they go back over it, the first of two 00:00.
func midnight(y int, m time.Month, d int, zone *time.Location) time.Time {
	noon := time.Date(y, m, d, 12, 0, 0, 0, zone)
	t := time.Date(y, m, d, 0, 0, 0, 0, zone)
	if t.Day() != noon.Day() { // 00:00 does not exist: t is before the gap
		_, t = t.ZoneBounds()
	}
	if from, _ := t.ZoneBounds(); !from.IsZero() && t.Sub(from) < 3*time.Hour {
		// Clocks changed shortly before: the same day may have begun earlier.
		_, was := from.Add(-time.Second).Zone()
		_, is := t.Zone()
		if first := t.Add(-time.Duration(was-is) * time.Second); was > is && first.Before(from) &&
			first.In(zone).Day() == noon.Day() {
			t = first
		}
	}
	return t.UTC()
}
