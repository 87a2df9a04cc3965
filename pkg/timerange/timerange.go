// Package timerange checks the start_time and end_time of a request, and its single times: one set of rules and one
// wording for every list, timeline and backfill.
//
// A range holds the times at or after its start and before its end. Every error
// is errs.Invalid; it names the field, the rule and what was given.
package timerange

import (
	"fmt"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

// ClockSkew is how far a caller's clock may be ahead of this service's, so that
// "now" of the one is not "in the future" of the other.
const ClockSkew = time.Minute

// The fields of a request that errors name.
const (
	startField = "start_time"
	endField   = "end_time"
)

// Range is [Start, End). A zero time leaves that side open.
type Range struct{ Start, End time.Time }

// Timestamp is *timestamppb.Timestamp. This package doesn't import it, so that code
// without protobuf can check ranges too.
type Timestamp interface {
	comparable
	CheckValid() error
	AsTime() time.Time
	GetSeconds() int64
	GetNanos() int32
}

// FromProto returns the range of a request's start_time and end_time, as Time
// reads them.
func FromProto[T Timestamp](start, end T) (r Range, err error) {
	if r.Start, err = Time(startField, start); err != nil {
		return Range{}, err
	}
	if r.End, err = Time(endField, end); err != nil {
		return Range{}, err
	}
	return r, nil
}

// Time returns the time in a field of a request, in UTC; the zero time when it is
// unset. A timestamp outside of the years 1 to 9999, or with nanoseconds out of
// range, is errs.Invalid on the field.
func Time[T Timestamp](field string, t T) (time.Time, error) {
	if unset := *new(T); t == unset {
		return time.Time{}, nil
	}
	if t.CheckValid() != nil {
		hint := ""
		if ms := time.UnixMilli(t.GetSeconds()).UTC(); ms.Year() >= 1970 && ms.Year() <= 9999 {
			hint = "; as milliseconds that would be " + text(ms)
		}
		return time.Time{}, errs.Invalid(field, fmt.Sprintf(
			"must be a time within the years 1 to 9999, got %d seconds and %d nanoseconds since 1970%s",
			t.GetSeconds(), t.GetNanos(), hint))
	}
	return t.AsTime(), nil
}

// Rules are what a range has to follow besides that its start is before its
// end. The zero value adds none.
type Rules struct {
	// Required: both times must be set.
	Required bool
	// Now, unless zero, is the time that the end may be at most.
	Now time.Time
	// Skew is how much later than Now the end may be: ClockSkew, or 0 where a
	// time to come can't be answered for.
	Skew time.Duration
	// Earliest, unless zero, is the time that the start may not be before.
	Earliest time.Time
	// MaxYears, unless zero, is how long the range may be, in calendar years back
	// from its end.
	MaxYears int
}

// Check returns the first rule that r breaks, as errs.Invalid. What is about a
// time that is unset is not checked.
func (r Range) Check(rules Rules) error {
	hasStart, hasEnd := !r.Start.IsZero(), !r.End.IsZero()
	switch {
	case rules.Required && !hasStart:
		return errs.Invalid(startField, "must be set")
	case rules.Required && !hasEnd:
		return errs.Invalid(endField, "must be set")
	}
	latest := Rules{Now: rules.Now, Skew: rules.Skew}
	if err := CheckTime(endField, r.End, latest); err != nil {
		return err
	}
	if hasStart && hasEnd && !r.Start.Before(r.End) {
		return errs.Invalid(startField, fmt.Sprintf("must be before end_time (%s), got %s", text(r.End),
			text(r.Start)))
	}
	if err := CheckTime(startField, r.Start, Rules{Earliest: rules.Earliest}); err != nil {
		return err
	}
	if hasStart && hasEnd && rules.MaxYears > 0 && r.Start.Before(r.End.AddDate(-rules.MaxYears, 0, 0)) {
		return errs.Invalid(startField, fmt.Sprintf("must be at most %d years before end_time (%s), got %s",
			rules.MaxYears, text(r.End), text(r.Start)))
	}
	return nil
}

// CheckTime returns the first of the rules Now, Skew and Earliest that the time in a field breaks, as errs.Invalid.
// The zero time breaks none.
func CheckTime(field string, t time.Time, rules Rules) error {
	switch {
	case t.IsZero():
		return nil
	case !rules.Now.IsZero() && t.After(rules.Now.Add(rules.Skew)):
		return errs.Invalid(field, fmt.Sprintf("must not be in the future (now %s), got %s", text(rules.Now), text(t)))
	case !rules.Earliest.IsZero() && t.Before(rules.Earliest):
		return errs.Invalid(field, fmt.Sprintf("must be %s or later, got %s", text(rules.Earliest), text(t)))
	}
	return nil
}

// Hours returns the first hour that begins in r and the hour after the last
// one, both in UTC; they are equal when no hour begins in r. Both of r's times
// must be set.
func (r Range) Hours() (first, until time.Time) {
	first, until = ceilHour(r.Start), ceilHour(r.End)
	if first.After(until) {
		first = until
	}
	return first, until
}

// ceilHour returns the first full hour at or after t.
func ceilHour(t time.Time) time.Time {
	return t.UTC().Add(time.Hour - time.Nanosecond).Truncate(time.Hour)
}

func text(t time.Time) string { return t.UTC().Format(time.RFC3339Nano) }
