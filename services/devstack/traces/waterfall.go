package traces

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"go.opentelemetry.io/otel/trace"
)

// Trace holds the stored spans of a trace in the order of a waterfall: the root first, each span
// before its children, siblings by their start.
type Trace struct {
	ID    trace.TraceID
	Spans []Span
	// Depth of each span in the tree; 0 for the root.
	Depth []int
}

// End is when the root span ended.
func (t Trace) End() time.Time { return t.Spans[0].Start.Add(t.Spans[0].Duration) }

// Whole reports whether every span but the root has its parent in the trace.
func (t Trace) Whole() bool {
	for _, d := range t.Depth[min(1, len(t.Depth)):] {
		if d == 0 {
			return false
		}
	}
	return len(t.Spans) > 0
}

// Has reports whether a service has a span of a database system, such as "redis" or "postgresql".
func (t Trace) Has(service, system string) bool {
	return slices.ContainsFunc(t.Spans, func(s Span) bool { return s.Service == service && s.System == system })
}

// Service that the trace began in: that of the root span, else of the first span that has one, since a caller outside
// of the suite has none.
func (t Trace) Service() string {
	for _, s := range t.Spans {
		if s.Service != "" {
			return s.Service
		}
	}
	return ""
}

// Services returns the services of the spans, each once, in the order of the spans.
func (t Trace) Services() []string {
	var found []string
	for _, s := range t.Spans {
		if s.Service != "" && !slices.Contains(found, s.Service) {
			found = append(found, s.Service)
		}
	}
	return found
}

// sorted returns the trace with its spans in depth-first order. A span whose parent is not stored is
// a root.
func (t Trace) sorted() Trace {
	stored := map[trace.SpanID]bool{}
	for _, s := range t.Spans {
		stored[s.ID] = true
	}
	children := map[trace.SpanID][]Span{}
	for _, s := range t.Spans {
		parent := s.Parent
		if !stored[parent] {
			parent = trace.SpanID{}
		}
		children[parent] = append(children[parent], s)
	}
	out := Trace{ID: t.ID}
	var add func(parent trace.SpanID, depth int)
	add = func(parent trace.SpanID, depth int) {
		spans := children[parent]
		delete(children, parent) // each span is added once, even if its parent links form a cycle
		slices.SortFunc(spans, func(a, b Span) int {
			return cmp.Or(a.Start.Compare(b.Start), slices.Compare(a.ID[:], b.ID[:]))
		})
		for _, s := range spans {
			out.Spans, out.Depth = append(out.Spans, s), append(out.Depth, depth)
			add(s.ID, depth+1)
		}
	}
	add(trace.SpanID{}, 0)
	return out
}

// Title is a span's name for display: a gRPC method without its package, an outgoing call with an
// arrow, a database statement with its system.
func (s Span) Title() string {
	name := s.Name
	if i := strings.LastIndexByte(name, '.'); i >= 0 && strings.HasPrefix(name, "purser.") {
		name = name[i+1:]
		if s.Kind == trace.SpanKindClient {
			name = "→ " + name
		}
	}
	if s.System != "" {
		name = strings.TrimSuffix(s.System, "ql") + ": " + name
	}
	return printable(name)
}

// ErrorText is the error of a failed span, on one line, with its reason in front of it.
func (s Span) ErrorText() string {
	reason := cmp.Or(s.Reason, s.Code)
	if reason == "" || s.Error == "" {
		return printable(reason + s.Error)
	}
	return printable(reason + ": " + s.Error)
}

// printable returns text on one line without control characters, which could drive a terminal:
// the name of an unknown method is chosen by the caller.
func printable(text string) string {
	return strings.Join(strings.FieldsFunc(text,
		func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }), " ")
}

// maxTitleWidth limits the first column, so that a printed waterfall fits into 100 columns.
const maxTitleWidth = 54

// String prints the trace as a waterfall: the tree of spans, with the start of each relative to the
// root's and its duration.
func (t Trace) String() string {
	w := table.NewWriter()
	w.SetStyle(table.StyleLight)
	w.SetTitle(fmt.Sprintf("Trace %s", t.ID))
	w.AppendHeader(table.Row{"Span", "Service", "Start", "Took"})
	for i, s := range t.Spans {
		title := s.Title()
		if s.Failed {
			title = strings.TrimSuffix("✗ "+title+": "+s.ErrorText(), ": ")
		}
		w.AppendRow(table.Row{text.Snip(t.Branch(i)+title, maxTitleWidth, "…"), s.Service,
			millis(s.Start.Sub(t.Spans[0].Start)), millis(s.Duration)})
	}
	w.SetColumnConfigs([]table.ColumnConfig{
		{Name: "Start", Align: text.AlignRight, AlignHeader: text.AlignRight},
		{Name: "Took", Align: text.AlignRight, AlignHeader: text.AlignRight},
	})
	return w.Render()
}

// Branch returns the lines of the tree in front of the i-th span.
func (t Trace) Branch(i int) string {
	if t.Depth[i] == 0 {
		return ""
	}
	lines := make([]string, t.Depth[i])
	for level := range lines {
		more := t.hasSibling(i, level+1)
		switch last := level == len(lines)-1; {
		case last && more:
			lines[level] = "├ "
		case last:
			lines[level] = "└ "
		case more:
			lines[level] = "│ "
		default:
			lines[level] = "  "
		}
	}
	return strings.Join(lines, "")
}

// hasSibling reports whether a span after the i-th has this depth and the same ancestors above it.
func (t Trace) hasSibling(i, depth int) bool {
	for _, d := range t.Depth[i+1:] {
		if d <= depth {
			return d == depth
		}
	}
	return false
}

func millis(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}
