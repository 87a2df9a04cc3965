package console

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"time"

	"github.com/purserhq/purser/services/devstack/demo"
	"github.com/purserhq/purser/services/devstack/traces"
)

// shownTraces is how many, the newest, and shownSpans how many of each.
const (
	shownTraces = 12
	shownSpans  = 60
)

// shown is what the templates work on.
type shown struct {
	Sections map[string][]state
	Traces   []tree
	NoUser   string
	// Traced is false when no traces are kept.
	Traced bool
}

// tree is a trace as bars.
type tree struct {
	ID, Title string
	Start     time.Time
	Took      time.Duration
	Failed    bool
	Bars      []bar
	More      int
	Services  []string
}

type bar struct {
	Branch, Title, Service, Error string
	Failed                        bool
	After, Took                   time.Duration
	// From and Part are where the bar begins and how wide it is, of 100.
	From, Part float64
}

func (c *Console) render(w http.ResponseWriter, r *http.Request, name string) {
	names := []string{name}
	switch name {
	case "page":
		names = []string{"services", "value", "holdings", "keys", "jobs"}
	case "days":
		names = []string{"value"}
	}
	data := shown{Sections: c.look(r.Context(), names...), NoUser: c.noUser, Traced: c.traces != nil}
	if c.traces != nil && (name == "page" || name == "traces") {
		for _, t := range c.traces.Recent(shownTraces) {
			data.Traces = append(data.Traces, treeOf(t))
		}
	}
	var body bytes.Buffer
	if err := c.page.ExecuteTemplate(&body, name, data); err != nil {
		c.log.ErrorContext(r.Context(), "console page", "name", name, "error", err)
		http.Error(w, "the page could not be made: see the suite's log", http.StatusInternalServerError)
		return
	}
	answer(w, r, "text/html; charset=utf-8", body.Bytes())
}

// answer sends a body, unless the reader has the same already.
func answer(w http.ResponseWriter, r *http.Request, kind string, body []byte) {
	sum := sha256.Sum256(body)
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	w.Header().Set("Content-Type", kind)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
}

func treeOf(t traces.Trace) tree {
	first := t.Spans[0]
	out := tree{ID: t.ID.String(), Title: first.Title(), Start: first.Start, Took: first.Duration}
	whole := max(first.Duration, time.Microsecond)
	seen := map[string]bool{}
	for i, s := range t.Spans {
		out.Failed = out.Failed || i == 0 && s.Failed
		if !seen[s.Service] && s.Service != "" {
			seen[s.Service] = true
			out.Services = append(out.Services, s.Service)
		}
		if i >= shownSpans {
			out.More++
			continue
		}
		after := s.Start.Sub(first.Start)
		from := min(max(100*float64(after)/float64(whole), 0), 99.5)
		out.Bars = append(out.Bars, bar{
			Branch: t.Branch(i), Title: s.Title(), Service: s.Service, Error: s.Why(), Failed: s.Failed, After: after,
			Took: s.Duration,
			From: from, Part: min(max(100*float64(s.Duration)/float64(whole), 0.5), 100-from),
		})
	}
	return out
}

func functions() template.FuncMap {
	return template.FuncMap{
		"money":  demo.Money,
		"millis": func(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) },
		"took": func(d time.Duration) string {
			if d < time.Second {
				return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
			}
			return d.Round(10 * time.Millisecond).String()
		},
		"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"clock":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"date":    func(t time.Time) string { return t.UTC().Format("2006-01-02") },
		"percent": func(f float64) string { return fmt.Sprintf("%.2f %%", f) },
		"of100":   func(f float64) string { return fmt.Sprintf("%.3f%%", f) },
		"short":   func(s string) string { return s[:min(len(s), 10)] },
		"days":    func(n int) time.Duration { return time.Duration(n) * day },
	}
}
