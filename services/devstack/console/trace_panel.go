package console

import (
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/services/devstack/traces"
)

const (
	shownErrors = 8   // the newest
	shownGroups = 16  // those with the newest traces
	shownTraces = 6   // of each group, the newest
	shownSpans  = 100 // of each trace
	// maxFilterBytes bounds the text of a filter.
	maxFilterBytes = 100
)

// traceList is the data of the section "traces".
type traceList struct {
	// Stored is false if no traces are stored.
	Stored   bool
	Filter   traces.Filter
	Services []string
	// Errors are the newest traces whose root span failed, of TotalErrors.
	Errors      []traceRow
	TotalErrors int
	Groups      []traceGroup
	// HiddenGroups is the number of groups beyond shownGroups.
	HiddenGroups int
}

// traceGroup is the traces that one method or job began.
type traceGroup struct {
	ID string
	traces.Group
	Rows []traceRow
	// Hidden is the number of traces beyond shownTraces.
	Hidden int
}

// traceRow is a trace in a list.
type traceRow struct {
	ID, Title, Service, Reason string
	Start                      time.Time
	Duration                   time.Duration
	Failed                     bool
	// FailedInside is how many spans failed although the trace did not.
	FailedInside int
	Services     []string
}

// filterOf reads the filter of the traces from the query of a request.
func filterOf(r *http.Request) traces.Filter {
	q := r.URL.Query()
	short := func(name string) string { return q.Get(name)[:min(len(q.Get(name)), maxFilterBytes)] }
	return traces.Filter{Service: short("service"), Text: short("text"), Failed: q.Get("failed") != ""}
}

func (c *Console) traceList(f traces.Filter) traceList {
	list := traceList{Filter: f}
	if c.traces == nil {
		return list
	}
	list.Stored, list.Services = true, c.traces.Services()
	for _, g := range c.traces.Groups(f) {
		for _, t := range g.Traces {
			if t.Spans[0].Failed {
				list.Errors = append(list.Errors, rowOf(t))
			}
		}
		if len(list.Groups) == shownGroups {
			list.HiddenGroups++
			continue
		}
		shown := traceGroup{ID: groupID(g), Group: g, Hidden: max(0, len(g.Traces)-shownTraces)}
		for _, t := range g.Traces[:min(len(g.Traces), shownTraces)] {
			shown.Rows = append(shown.Rows, rowOf(t))
		}
		list.Groups = append(list.Groups, shown)
	}
	list.TotalErrors = len(list.Errors)
	slices.SortFunc(list.Errors, func(a, b traceRow) int { return b.Start.Compare(a.Start) })
	list.Errors = list.Errors[:min(len(list.Errors), shownErrors)]
	return list
}

// groupID is the same for a group whenever the page is loaded. A title can have any characters.
func groupID(g traces.Group) string {
	sum := sha256.Sum256([]byte(g.Service + "\x00" + g.Title))
	return hex.EncodeToString(sum[:6])
}

// serveTrace answers with the spans of a trace.
func (c *Console) serveTrace(w http.ResponseWriter, r *http.Request) {
	id, err := trace.TraceIDFromHex(r.PathValue("id"))
	if err != nil || c.traces == nil {
		http.NotFound(w, r)
		return
	}
	found := c.traces.Trace(id)
	if len(found.Spans) == 0 {
		http.NotFound(w, r)
		return
	}
	if body := c.execute(w, r, "trace", waterfallOf(found)); body != nil {
		serveCached(w, r, "text/html; charset=utf-8", body)
	}
}

func rowOf(t traces.Trace) traceRow {
	root := t.Spans[0]
	row := traceRow{ID: t.ID.String(), Title: root.Title(), Service: t.Service(), Reason: t.Reason(),
		Start: root.Start, Duration: root.Duration, Failed: root.Failed, Services: t.Services()}
	if !root.Failed {
		row.FailedInside = t.FailedInside()
	}
	return row
}

// waterfall is a trace as the page shows it: a bar for each span on the time of the root span.
type waterfall struct {
	ID   string
	Bars []spanBar
	// HiddenSpans is the number of spans beyond shownSpans.
	HiddenSpans int
}

type spanBar struct {
	Branch, Title, Service, Error string
	Failed                        bool
	// Offset is the start relative to the root span's.
	Offset, Duration time.Duration
	// Left and Width place the bar, in percent of the root span.
	Left, Width float64
}

func waterfallOf(t traces.Trace) waterfall {
	root := t.Spans[0]
	out := waterfall{ID: t.ID.String(), HiddenSpans: max(0, len(t.Spans)-shownSpans)}
	total := float64(max(root.Duration, time.Microsecond))
	for i, s := range t.Spans[:min(len(t.Spans), shownSpans)] {
		offset := s.Start.Sub(root.Start)
		left := min(max(100*float64(offset)/total, 0), 99.5)
		out.Bars = append(out.Bars, spanBar{
			Branch: t.Branch(i), Title: s.Title(), Service: s.Service, Error: s.ErrorText(), Failed: s.Failed,
			Offset: offset, Duration: s.Duration,
			Left: left, Width: min(max(100*float64(s.Duration)/total, 0.5), 100-left),
		})
	}
	return out
}
