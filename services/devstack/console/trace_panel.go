package console

import (
	"time"

	"github.com/purserhq/purser/services/devstack/traces"
)

const (
	shownTraces = 12 // the newest
	shownSpans  = 60 // of each trace
)

// waterfall is a trace as the page shows it: a bar for each span on the time of the root span.
type waterfall struct {
	ID, Title string
	Start     time.Time
	Duration  time.Duration
	Failed    bool
	Bars      []spanBar
	// HiddenSpans is the number of spans beyond shownSpans.
	HiddenSpans int
	Services    []string
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
	out := waterfall{ID: t.ID.String(), Title: root.Title(), Start: root.Start, Duration: root.Duration,
		Failed: root.Failed}
	total := float64(max(root.Duration, time.Microsecond))
	seen := map[string]bool{}
	for i, s := range t.Spans {
		if !seen[s.Service] && s.Service != "" {
			seen[s.Service] = true
			out.Services = append(out.Services, s.Service)
		}
		if i >= shownSpans {
			out.HiddenSpans++
			continue
		}
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
