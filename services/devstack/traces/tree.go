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

// Trace is what is kept of one, the first span first and each one before
// those that it caused.
type Trace struct {
	ID    trace.TraceID
	Spans []Span
	// Depth of each span below the first.
	Depth []int
}

// End is when the first span ended.
func (t Trace) End() time.Time { return t.Spans[0].Start.Add(t.Spans[0].Duration) }

// Whole reports whether every span but the first stands below another.
func (t Trace) Whole() bool {
	for _, d := range t.Depth[min(1, len(t.Depth)):] {
		if d == 0 {
			return false
		}
	}
	return len(t.Spans) > 0
}

// Has reports whether a span is of this service and this database, as in
// "redis" or "postgresql".
func (t Trace) Has(service, system string) bool {
	return slices.ContainsFunc(t.Spans, func(s Span) bool { return s.Service == service && s.System == system })
}

// arranged puts the spans in the order of the tree. A span whose cause is not
// kept stands beside the first.
func (t Trace) arranged() Trace {
	kept := map[trace.SpanID]bool{}
	for _, s := range t.Spans {
		kept[s.ID] = true
	}
	below := map[trace.SpanID][]Span{}
	for _, s := range t.Spans {
		above := s.Parent
		if !kept[above] {
			above = trace.SpanID{}
		}
		below[above] = append(below[above], s)
	}
	out := Trace{ID: t.ID}
	var add func(above trace.SpanID, depth int)
	add = func(above trace.SpanID, depth int) {
		spans := below[above]
		delete(below, above) // whatever a span says of itself, it is added once
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

// Title is a span's name as people read it: a method without its package, a
// statement with its database, a call that goes out with an arrow.
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
	return plain(name)
}

// Why is the error of a span that failed, on one line.
func (s Span) Why() string { return plain(s.Error) }

// plain is text on one line without what could steer a terminal: a caller
// chooses the name of a method that there is not.
func plain(text string) string {
	return strings.Join(strings.FieldsFunc(text,
		func(r rune) bool { return !unicode.IsGraphic(r) || unicode.IsSpace(r) }), " ")
}

// width of a span's name and of an error in a tree, so that it is at most a
// hundred columns wide.
const width = 54

// String shows the trace as a tree, with the start of each span after the
// first one's and its duration.
func (t Trace) String() string {
	w := table.NewWriter()
	w.SetStyle(table.StyleLight)
	w.SetTitle(fmt.Sprintf("Trace %s", t.ID))
	w.AppendHeader(table.Row{"Span", "Service", "Start", "Took"})
	for i, s := range t.Spans {
		title := s.Title()
		if s.Failed {
			title = strings.TrimSuffix("✗ "+title+": "+s.Why(), ": ")
		}
		w.AppendRow(table.Row{text.Snip(t.Branch(i)+title, width, "…"), s.Service,
			millis(s.Start.Sub(t.Spans[0].Start)), millis(s.Duration)})
	}
	w.SetColumnConfigs([]table.ColumnConfig{
		{Name: "Start", Align: text.AlignRight, AlignHeader: text.AlignRight},
		{Name: "Took", Align: text.AlignRight, AlignHeader: text.AlignRight},
	})
	return w.Render()
}

// Branch is what leads from the first span to the i-th.
func (t Trace) Branch(i int) string {
	if t.Depth[i] == 0 {
		return ""
	}
	lines := make([]string, t.Depth[i])
	for level := range lines {
		more := t.follows(i, level+1)
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

// follows reports whether another span of this depth comes below the same one.
func (t Trace) follows(i, depth int) bool {
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
