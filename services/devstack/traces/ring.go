// Package traces keeps the last spans of the suite's process in memory, names
// the service that each is of, and shows a trace as a tree.
//
// In the suite the three services are one process with one OpenTelemetry
// resource, so each span says in an attribute whose it is. As programs of
// their own they have resources of their own and need none of this.
package traces

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// maxText is how many bytes of a name or an error are kept.
const maxText = 256

// Span is one that has ended.
type Span struct {
	ID, Parent trace.SpanID
	// Service is "" when it isn't known.
	Service string
	Name    string
	Kind    trace.SpanKind
	// System is the database's name, as in "redis"; "" for what is none.
	System   string
	Start    time.Time
	Duration time.Duration
	// Failed spans may say why.
	Failed bool
	Error  string
}

// Ring is a span processor that keeps the last spans that ended. It is safe
// for concurrent use.
type Ring struct {
	mu   sync.Mutex
	kept []entry
	next int // where the next one goes
}

type entry struct {
	trace trace.TraceID
	span  Span
}

// NewRing keeps at most this many spans, of at most a kilobyte each.
func NewRing(spans int) *Ring { return &Ring{kept: make([]entry, 0, spans)} }

// OnStart names the service that a span is of.
func (r *Ring) OnStart(parent context.Context, s sdktrace.ReadWriteSpan) { name(parent, s) }

// OnEnd keeps a span, unless it is of the embedded chain: a node is not told
// which trace asks it, so each answer would be a trace of its own.
func (r *Ring) OnEnd(s sdktrace.ReadOnlySpan) {
	attrs := s.Attributes()
	if value(attrs, Service) == chain {
		return
	}
	e := entry{s.SpanContext().TraceID(), Span{
		ID: s.SpanContext().SpanID(), Parent: s.Parent().SpanID(),
		Service: cut(value(attrs, Service)), Name: cut(s.Name()), Kind: s.SpanKind(),
		System: cut(value(attrs, "db.system.name")),
		Start:  s.StartTime(), Duration: s.EndTime().Sub(s.StartTime()),
		Failed: s.Status().Code == codes.Error, Error: cut(s.Status().Description),
	}}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.kept) < cap(r.kept) {
		r.kept = append(r.kept, e)
		return
	}
	r.kept[r.next] = e
	r.next = (r.next + 1) % len(r.kept)
}

func cut(s string) string { return string([]byte(s[:min(len(s), maxText)])) } // a copy, or the whole would stay

// Shutdown does nothing: what is kept ends with the process.
func (*Ring) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing.
func (*Ring) ForceFlush(context.Context) error { return nil }

// Trace returns what is kept of a trace; without spans when that is nothing.
func (r *Ring) Trace(id trace.TraceID) Trace {
	t := Trace{ID: id}
	r.mu.Lock()
	for _, e := range r.kept {
		if e.trace == id {
			t.Spans = append(t.Spans, e.span)
		}
	}
	r.mu.Unlock()
	return t.arranged()
}

// Recent returns the traces that ended last, newest first, at most limit. One
// whose first span hasn't ended is left out, unless that may be a span of the
// caller's, in another process.
func (r *Ring) Recent(limit int) []Trace {
	found := map[trace.TraceID]*Trace{}
	r.mu.Lock()
	for _, e := range r.kept {
		t := found[e.trace]
		if t == nil {
			t = &Trace{ID: e.trace}
			found[e.trace] = t
		}
		t.Spans = append(t.Spans, e.span)
	}
	r.mu.Unlock()
	var all []Trace
	for _, t := range found {
		arranged := t.arranged()
		if len(arranged.Spans) == 0 {
			continue
		}
		if first := arranged.Spans[0]; !first.Parent.IsValid() || first.Kind == trace.SpanKindServer {
			all = append(all, arranged)
		}
	}
	slices.SortFunc(all, func(a, b Trace) int {
		return cmp.Or(b.End().Compare(a.End()), slices.Compare(a.ID[:], b.ID[:]))
	})
	return all[:min(len(all), limit)]
}
