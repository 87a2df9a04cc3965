package console

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"html/template"
	"net/http"
	"slices"
	"strings"
	"time"
)

// pageData is the input of the templates.
type pageData struct {
	Sections map[string][]state
	Services []serviceState
	Summary  summary
	// History is the allocation over time.
	History allocationHistory
	Traces  traceList
	// Viewer is nil if there is no portfolio to show.
	Viewer *account
	// ViewerKey changes with the viewer, and when the viewer's session ends.
	ViewerKey string
	Form      signInForm
	Guide     guide
	NoUser    string
	// Currency that values are shown in, and the choices.
	Currency   string
	Currencies []string
	// RefreshMillis is how often the page asks for new data.
	RefreshMillis int64
}

// account is whose portfolio is shown.
type account struct {
	Email string
	// SignedIn is false for the demo's.
	SignedIn bool
	// Ended is true if the session has ended for good.
	Ended bool
	// NoWallets is true once it is known that the account has none.
	NoWallets bool
}

// panels are the parts of the page that are loaded again and again.
func panels() []string {
	return []string{"services", "dependencies", "value", "days", "performance", "growth", "holdings", "loans",
		"alerts", "allocation", "wallets", "keys", "jobs", "traces"}
}

// sectionsOf returns the sections that a part of the page needs.
func sectionsOf(name string) []string {
	needs := map[string][]string{
		"services": {"status", "jobs"}, "dependencies": {"status"}, "value": {"timeline", "holdings", "wallets"},
		"days": {"timeline"}, "holdings": {"holdings"}, "loans": {"loans"}, "wallets": {"wallets"},
		"alerts":      {"alerts"},
		"performance": {"performance"}, "growth": {"growth"}, "allocation": {"allocation", "holdings"},
		"keys": {"keys"}, "jobs": {"jobs"},
	}
	if name != "page" {
		return needs[name]
	}
	var all []string
	for _, of := range needs {
		for _, section := range of {
			if !slices.Contains(all, section) {
				all = append(all, section)
			}
		}
	}
	return all
}

func (c *Console) render(w http.ResponseWriter, r *http.Request, name string) {
	if body := c.body(w, r, name, signInForm{}); body != nil {
		serveCached(w, r, "text/html; charset=utf-8", body)
	}
}

// renderPage answers with the whole page.
func (c *Console) renderPage(w http.ResponseWriter, r *http.Request, form signInForm, status int) {
	body := c.body(w, r, "page", form)
	switch {
	case body == nil:
	case status == http.StatusOK:
		serveCached(w, r, "text/html; charset=utf-8", body)
	default:
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.WriteHeader(status)
		_, _ = w.Write(body)
	}
}

// body returns a part of the page; nil after it has answered with an error.
func (c *Console) body(w http.ResponseWriter, r *http.Request, name string, form signInForm) []byte {
	v := c.viewerOf(r)
	w.Header().Set("Purser-Viewer", viewerKey(v)) // by which an open page notices that it shows somebody else's data
	data := pageData{
		Sections: c.panelStates(r.Context(), v, currencyOf(r), sectionsOf(name)...), Form: form,
		NoUser:        c.options.NoUser,
		RefreshMillis: c.options.Refresh.Milliseconds(), Currency: currencyOf(r), Currencies: currencies(),
	}
	data.Services, data.Summary = serviceStates(data.Sections), summaryOf(data.Sections)
	data.History = historyOf(data.Sections)
	if v != nil {
		data.Viewer = &account{Email: v.email, SignedIn: v != c.demo, Ended: v.login.ended()}
		for _, s := range data.Sections["wallets"] {
			rows, loaded := s.Data.([]walletRow)
			data.Viewer.NoWallets = loaded && len(rows) == 0
		}
	}
	data.Guide, data.ViewerKey = c.guide(v), viewerKey(v)
	if name == "page" || name == "traces" {
		data.Traces = c.traceList(filterOf(r))
	}
	return c.execute(w, r, name, data)
}

// execute returns what a template makes of data; nil after it has answered with an error.
func (c *Console) execute(w http.ResponseWriter, r *http.Request, name string, data any) []byte {
	var body bytes.Buffer
	if err := c.page.ExecuteTemplate(&body, name, data); err != nil {
		c.log.ErrorContext(r.Context(), "console page failed", "section", name, "error", err)
		http.Error(w, "the page could not be rendered: see the suite's log", http.StatusInternalServerError)
		return nil
	}
	return body.Bytes()
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
		"fiat":   fiat,
		"millis": func(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond)) },
		"took": func(d time.Duration) string {
			if d < time.Second {
				return fmt.Sprintf("%.1f ms", float64(d)/float64(time.Millisecond))
			}
			return d.Round(10 * time.Millisecond).String()
		},
		"iso":     func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"clock":   func(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") },
		"hour":    func(t time.Time) string { return t.UTC().Format("15:04:05 UTC") },
		"date":    func(t time.Time) string { return t.UTC().Format("2006-01-02") },
		"percent": func(f float64) string { return fmt.Sprintf("%.2f %%", f) },
		"width":   func(f float64) string { return fmt.Sprintf("%.3f%%", f) },
		"short":   func(s string) string { return s[:min(len(s), 10)] },
		// whole and fraction divide a number, so that a column can align at the point.
		"whole": func(d string) string {
			whole, _, _ := strings.Cut(d, ".")
			return whole
		},
		"fraction": func(d string) string {
			if _, fraction, ok := strings.Cut(d, "."); ok {
				return "." + fraction
			}
			return ""
		},
	}
}
