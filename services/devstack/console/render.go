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
)

// pageData is the input of the templates.
type pageData struct {
	Sections map[string][]state
	Traces   []waterfall
	NoUser   string
	// Traced is false if no traces are stored.
	Traced bool
	// RefreshMillis is how often the page asks for new data.
	RefreshMillis int64
}

func (c *Console) render(w http.ResponseWriter, r *http.Request, name string) {
	names := []string{name}
	switch name {
	case "page":
		names = []string{"services", "value", "holdings", "keys", "jobs"}
	case "days":
		names = []string{"value"}
	}
	data := pageData{
		Sections: c.panelStates(r.Context(), names...), NoUser: c.noUser, Traced: c.traces != nil,
		RefreshMillis: c.refresh.Milliseconds(),
	}
	if c.traces != nil && (name == "page" || name == "traces") {
		for _, t := range c.traces.Recent(shownTraces) {
			data.Traces = append(data.Traces, waterfallOf(t))
		}
	}
	var body bytes.Buffer
	if err := c.page.ExecuteTemplate(&body, name, data); err != nil {
		c.log.ErrorContext(r.Context(), "console page failed", "section", name, "error", err)
		http.Error(w, "the page could not be rendered: see the suite's log", http.StatusInternalServerError)
		return
	}
	serveCached(w, r, "text/html; charset=utf-8", body.Bytes())
}

// serveCached sends a body, or 304 if the browser has the same one.
func serveCached(w http.ResponseWriter, r *http.Request, contentType string, body []byte) {
	sum := sha256.Sum256(body)
	w.Header().Set("ETag", `"`+hex.EncodeToString(sum[:16])+`"`)
	w.Header().Set("Content-Type", contentType)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(body))
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
		"width":   func(f float64) string { return fmt.Sprintf("%.3f%%", f) },
		"short":   func(s string) string { return s[:min(len(s), 10)] },
		"days":    func(n int) time.Duration { return time.Duration(n) * day },
	}
}
