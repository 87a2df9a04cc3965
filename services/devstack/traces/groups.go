package traces

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// Filter selects traces by what began them. The zero Filter selects all.
type Filter struct {
	// Service that the trace began in, see Trace.Service.
	Service string
	// Text that the root span's name contains, in any case.
	Text string
	// Failed selects those whose root span failed.
	Failed bool
}

// Matches reports whether the filter selects a trace.
func (f Filter) Matches(t Trace) bool {
	root := t.Spans[0]
	return (f.Service == "" || f.Service == t.Service()) && (!f.Failed || root.Failed) &&
		strings.Contains(strings.ToLower(root.Name), strings.ToLower(f.Text))
}

// Group is the traces that the same method of the same service, or the same job, began.
type Group struct {
	// Title of the root spans, and the service that the traces began in.
	Title, Service string
	// Traces, the latest ended first. There is at least one.
	Traces []Trace
	// Failed is how many of their root spans failed.
	Failed int
	// Median and Slowest of the root spans' durations.
	Median, Slowest time.Duration
}

// Groups returns the stored traces that a filter selects, grouped by what began them: the group with the latest trace
// first.
func (r *Ring) Groups(f Filter) []Group {
	type origin struct{ title, service string }
	index := map[origin]int{}
	var groups []Group
	for _, t := range r.Recent(math.MaxInt) {
		if !f.Matches(t) {
			continue
		}
		root := t.Spans[0]
		of := origin{root.Title(), t.Service()}
		i, seen := index[of]
		if !seen {
			i = len(groups)
			index[of] = i
			groups = append(groups, Group{Title: of.title, Service: of.service})
		}
		g := &groups[i]
		g.Traces = append(g.Traces, t)
		g.Slowest = max(g.Slowest, root.Duration)
		if root.Failed {
			g.Failed++
		}
	}
	for i := range groups {
		groups[i].Median = median(groups[i].Traces)
	}
	return groups
}

func median(of []Trace) time.Duration {
	all := make([]time.Duration, 0, len(of))
	for _, t := range of {
		all = append(all, t.Spans[0].Duration)
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// Services returns the services that the stored traces begin in, sorted.
func (r *Ring) Services() []string {
	var found []string
	for _, t := range r.Recent(math.MaxInt) {
		if s := t.Service(); s != "" && !slices.Contains(found, s) {
			found = append(found, s)
		}
	}
	slices.Sort(found)
	return found
}

// Reason says why a trace failed: the reason that the service answered with, else the gRPC code, else the error of the
// root span. It is "" if the root span has not failed.
func (t Trace) Reason() string {
	root := t.Spans[0]
	if !root.Failed {
		return ""
	}
	for i, s := range t.Spans {
		// Deeper spans may have failed without the call having done so.
		if s.Reason != "" && (i == 0 || s.Name == root.Name) {
			return printable(s.Reason)
		}
	}
	return printable(cmp.Or(root.Code, root.Error, "ERROR"))
}

// FailedInside is how many spans under the root have failed.
func (t Trace) FailedInside() int {
	n := 0
	for _, s := range t.Spans[1:] {
		if s.Failed {
			n++
		}
	}
	return n
}
