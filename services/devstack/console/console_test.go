package console

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/devstack/suite"
)

func TestTheConsoleAnswersOnlyItsOwnPageOnThisMachine(t *testing.T) {
	none := [2]string{"X-None", ""}
	self := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7611}
	h := guarded(self, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "the page")
	}))
	for name, tt := range map[string]struct {
		method, host string
		header       [2]string
		want         int
	}{
		"by its address":              {"GET", "127.0.0.1:7611", none, http.StatusOK},
		"by the name of this machine": {"HEAD", "localhost:7611", none, http.StatusOK},
		"by a foreign name that resolves to this machine": {"GET", "evil.example:7611", none,
			http.StatusMisdirectedRequest},
		"by a foreign name that begins like it": {"GET", "localhost.evil.example:7611", none,
			http.StatusMisdirectedRequest},
		"by another port":                  {"GET", "127.0.0.1:80", none, http.StatusMisdirectedRequest},
		"without a port":                   {"GET", "localhost", none, http.StatusMisdirectedRequest},
		"another method":                   {"PUT", "127.0.0.1:7611", none, http.StatusMethodNotAllowed},
		"a CORS preflight of another page": {"OPTIONS", "127.0.0.1:7611", none, http.StatusMethodNotAllowed},
		"a form of its own page": {"POST", "127.0.0.1:7611", [2]string{"Sec-Fetch-Site", "same-origin"},
			http.StatusOK},
		"a form of another site": {"POST", "127.0.0.1:7611", [2]string{"Sec-Fetch-Site", "cross-site"},
			http.StatusForbidden},
		"a form of another port of this machine": {"POST", "127.0.0.1:7611", [2]string{"Sec-Fetch-Site", "same-site"},
			http.StatusForbidden},
		"a form of its own page, by an older browser": {"POST", "127.0.0.1:7611",
			[2]string{"Origin", "http://127.0.0.1:7611"}, http.StatusOK},
		"a form of another port, by an older browser": {"POST", "127.0.0.1:7611",
			[2]string{"Origin", "http://127.0.0.1:80"}, http.StatusForbidden},
		"a form of a page without an origin": {"POST", "127.0.0.1:7611", [2]string{"Origin", "null"},
			http.StatusForbidden},
		"a form by a foreign name": {"POST", "evil.example:7611", [2]string{"Sec-Fetch-Site", "same-origin"},
			http.StatusMisdirectedRequest},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), tt.method, "/", nil)
			r.Host = tt.host
			r.Header.Set(tt.header[0], tt.header[1])
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != tt.want {
				t.Errorf("answered %d, want %d", w.Code, tt.want)
			}
			if w.Code != http.StatusOK && strings.Contains(w.Body.String(), "the page") {
				t.Error("the page was answered")
			}
			if csp := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'self'; ") ||
				strings.Contains(csp, "unsafe") {
				t.Errorf("the policy is %q", csp)
			}
		})
	}
}

func TestTheConsoleListensOnLoopbackOnly(t *testing.T) {
	if c, err := Start(t.Context(), Options{Addr: "0.0.0.0:0",
		Endpoints: suite.Endpoints{Auth: "x:1", Wallet: "x:1", Portfolio: "x:1"}}); err == nil {
		_ = c.Close()
		t.Error("it listens on an address that other machines reach")
	}
}

func TestAPanelKeepsItsDataWhileItsServiceIsUnavailable(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(minutes int) time.Time { return begin.Add(time.Duration(minutes) * time.Minute) }
	unavailable := errs.Unavailable("UNAVAILABLE", "unavailable")

	initial := state{}.next("wallet", nil, unavailable, at(0))
	if initial.Data != nil || !initial.DataTime.IsZero() || !initial.UnavailableSince.Equal(at(0)) {
		t.Errorf("unavailable from the beginning: %+v", initial)
	}
	loaded := state{}.next("wallet", "data", nil, at(0))
	failed := loaded.next("wallet", nil, unavailable, at(1)).next("wallet", nil, context.DeadlineExceeded, at(2))
	if failed.Data != "data" || !failed.DataTime.Equal(at(0)) || !failed.UnavailableSince.Equal(at(1)) {
		t.Errorf("unavailable: %+v", failed)
	}
	recovered := failed.next("wallet", "new", nil, at(3))
	if recovered.Data != "new" || !recovered.DataTime.Equal(at(3)) || !recovered.UnavailableSince.IsZero() {
		t.Errorf("recovered: %+v", recovered)
	}
	if again := recovered.next("wallet", nil, unavailable, at(4)); !again.UnavailableSince.Equal(at(4)) {
		t.Errorf("unavailable again since %v", again.UnavailableSince)
	}

	withoutWallet := &dependencyError{service: "wallet", data: "snapshot", dataTime: at(-9)}
	degraded := state{}.next("portfolio", nil, withoutWallet, at(0))
	if degraded.Service != "wallet" || degraded.Data != "snapshot" || !degraded.DataTime.Equal(at(-9)) ||
		!degraded.UnavailableSince.Equal(at(0)) {
		t.Errorf("the service behind it is unavailable: %+v", degraded)
	}
	both := degraded.next("portfolio", nil, unavailable, at(1))
	if both.Service != "portfolio" || !both.UnavailableSince.Equal(at(1)) {
		t.Errorf("then the service itself too: %+v", both)
	}
	old := loaded.next("wallet", nil, &errs.Error{Reason: "UNIMPLEMENTED"}, at(1))
	if !old.NotOffered || !old.UnavailableSince.IsZero() {
		t.Errorf("an older service: %+v", old)
	}
	odd := loaded.next("wallet", nil, errors.New("secret cause"), at(1))
	if odd.Error == "" || strings.Contains(odd.Error, "secret") || odd.Data != "data" {
		t.Errorf("an answer that is an error: %+v", odd)
	}
}

func TestAChangeIsMoneyAndShownOnlyIfTheHistoryCoversItsPeriod(t *testing.T) {
	now := time.Date(2026, 1, 10, 12, 30, 0, 0, time.UTC)
	points := func(hours int) []point {
		var out []point
		for i := hours; i >= 0; i-- {
			out = append(out, point{Time: now.Truncate(time.Hour).Add(-time.Duration(i) * time.Hour), Value: "100",
				Complete: true})
		}
		return out
	}
	incomplete := points(72)
	incomplete[72-23].Complete = false // the first of the last 24 hours
	for name, tt := range map[string]struct {
		points []point
		want   string
	}{
		"none":                   {nil, ""},
		"an hour":                {points(1), ""},
		"a day":                  {points(24), "+1.50"},
		"three days":             {points(72), "+1.50"},
		"from zero":              {[]point{{Time: now.Add(-day), Value: "0", Complete: true}}, "+101.50"},
		"from an incomplete one": {incomplete, ""},
	} {
		text := ""
		for _, c := range (timeline{Hourly: tt.points}).changes("101.5", now) {
			if c.Period == "24 hours" {
				text = c.Text
			}
		}
		if text != tt.want {
			t.Errorf("%s: %q, want %q", name, text, tt.want)
		}
	}
	for _, tt := range [][3]string{
		{"200", "199", "−1.00"}, {"200000", "199999.995", "−<0.01"}, {"1", "1", "0.00"}, {"", "1", ""},
		{"100", "1234667.9", "+1,234,567.90"}, {"99.987654", "100", "+0.01"},
	} {
		if got := difference(tt[0], tt[1]); got != tt[2] {
			t.Errorf("from %s to %s: %q, want %q", tt[0], tt[1], got, tt[2])
		}
	}
}
