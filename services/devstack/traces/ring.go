// Package traces keeps the latest spans of the suite's process in memory, adds to each the name of
// its service, and prints a trace as a waterfall.
//
// The suite runs the three services in one process with one OpenTelemetry resource, so an attribute of
// each span names its service. Services that run as separate programs have a resource each and do not
// need this package.
package traces

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
)

// errorReason is the attribute of a server's span with the reason of the answered error.
const errorReason attribute.Key = "purser.error.reason"

// identityProvider is the tracer of the library that the embedded identity provider is made of.
const identityProvider = "github.com/zitadel/oidc/pkg/op"

// maxTextBytes limits the stored part of a name or an error.
const maxTextBytes = 256

// Span is an ended span.
type Span struct {
	ID, Parent trace.SpanID
	// Service is "" when it isn't known.
	Service string
	Name    string
	Kind    trace.SpanKind
	// System is the database system, such as "redis"; "" if the span is not of a database.
	System   string
	Start    time.Time
	Duration time.Duration
	// Failed is true for an error status, and for a call that was answered with any code but OK and CANCELLED.
	Failed bool
	// Error of a failed span; may be "".
	Error string
	// Code of a call that was answered with an error, such as NOT_FOUND; "" otherwise.
	Code string
	// Reason of that error, such as WALLET_UNAVAILABLE, which only the server's span has.
	Reason string
}

// Ring is a span processor with a ring buffer of the latest ended spans. It is safe for concurrent
// use.
type Ring struct {
	mu      sync.Mutex
	entries []entry
	next    int // index of the oldest entry once the ring is full
}

type entry struct {
	trace trace.TraceID
	span  Span
}

// NewRing makes a ring of at most this many spans, of up to about 1 KiB each.
func NewRing(spans int) *Ring { return &Ring{entries: make([]entry, 0, spans)} }

// OnStart sets the Service attribute of a span.
func (r *Ring) OnStart(parent context.Context, s sdktrace.ReadWriteSpan) { setService(parent, s) }

// OnEnd stores a span. Spans of the embedded chain and of the embedded identity provider are left out: their callers
// send no trace context, so each answer would be a trace of its own.
func (r *Ring) OnEnd(s sdktrace.ReadOnlySpan) {
	attrs := s.Attributes()
	if value(attrs, Service) == chain || s.InstrumentationScope().Name == identityProvider {
		return
	}
	code := value(attrs, "rpc.response.status_code")
	if code == "OK" {
		code = ""
	}
	// A caller who ends a stream or a call has not met a failure.
	failed := code != "CANCELLED" && code != "CANCELED" && (code != "" || s.Status().Code == codes.Error)
	e := entry{s.SpanContext().TraceID(), Span{
		ID: s.SpanContext().SpanID(), Parent: s.Parent().SpanID(),
		Service: truncate(value(attrs, Service)), Name: truncate(s.Name()), Kind: s.SpanKind(),
		System: truncate(value(attrs, "db.system.name")),
		Start:  s.StartTime(), Duration: s.EndTime().Sub(s.StartTime()),
		Failed: failed, Error: truncate(s.Status().Description),
		Code: truncate(code), Reason: truncate(value(attrs, errorReason)),
	}}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.entries) < cap(r.entries) {
		r.entries = append(r.entries, e)
		return
	}
	r.entries[r.next] = e
	r.next = (r.next + 1) % len(r.entries)
}

// truncate returns a copy, so that the ring does not keep a long string alive.
func truncate(s string) string { return string([]byte(s[:min(len(s), maxTextBytes)])) }

// Shutdown does nothing.
func (*Ring) Shutdown(context.Context) error { return nil }

// ForceFlush does nothing.
func (*Ring) ForceFlush(context.Context) error { return nil }

// Trace returns the stored spans of a trace; none if the trace is unknown.
func (r *Ring) Trace(id trace.TraceID) Trace {
	t := Trace{ID: id}
	r.mu.Lock()
	for _, e := range r.entries {
		if e.trace == id {
			t.Spans = append(t.Spans, e.span)
		}
	}
	r.mu.Unlock()
	return t.sorted()
}

// Recent returns up to limit traces, the latest ended first. A trace whose root span has not ended
// is left out, unless the root may be in the caller's process.
func (r *Ring) Recent(limit int) []Trace {
	found := map[trace.TraceID]*Trace{}
	r.mu.Lock()
	for _, e := range r.entries {
		t := found[e.trace]
		if t == nil {
			t = &Trace{ID: e.trace}
			found[e.trace] = t
		}
		t.Spans = append(t.Spans, e.span)
	}
	r.mu.Unlock()
	var all []Trace
	for _, unsorted := range found {
		t := unsorted.sorted()
		if len(t.Spans) == 0 {
			continue
		}
		if root := t.Spans[0]; !root.Parent.IsValid() || root.Kind == trace.SpanKindServer {
			all = append(all, t)
		}
	}
	slices.SortFunc(all, func(a, b Trace) int {
		return cmp.Or(b.End().Compare(a.End()), slices.Compare(a.ID[:], b.ID[:]))
	})
	return all[:min(len(all), limit)]
}
