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

func TestTheConsoleAnswersOnlyWhoReadsItByAnOwnName(t *testing.T) {
	self := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 7611}
	h := guarded(self, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_,
			_ = io.WriteString(w, "the page")
	}))
	for name, tt := range map[string]struct {
		method, host string
		want         int
	}{
		"by its address":                       {"GET", "127.0.0.1:7611", http.StatusOK},
		"by the name of this machine":          {"HEAD", "localhost:7611", http.StatusOK},
		"by a name that was made to lead here": {"GET", "evil.example:7611", http.StatusMisdirectedRequest},
		"by one that only looks like it": {"GET", "localhost.evil.example:7611",
			http.StatusMisdirectedRequest},
		"by the port of another": {"GET", "127.0.0.1:80", http.StatusMisdirectedRequest},
		"without a port":         {"GET", "localhost", http.StatusMisdirectedRequest},
		"to write":               {"POST", "127.0.0.1:7611", http.StatusMethodNotAllowed},
		"to ask what a page of elsewhere may send": {"OPTIONS", "127.0.0.1:7611", http.StatusMethodNotAllowed},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequestWithContext(t.Context(), tt.method, "/", nil)
			r.Host = tt.host
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
		t.Error("it listens where others reach it")
	}
}

func TestAPanelKeepsWhatItKnewWhileItsServiceIsAway(t *testing.T) {
	begin := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(minutes int) time.Time { return begin.Add(time.Duration(minutes) * time.Minute) }
	away := errs.Unavailable("AWAY", "away")

	never := state{}.after("wallet", nil, away, at(0))
	if never.Data != nil || !never.Known.IsZero() || !never.Away.Equal(at(0)) {
		t.Errorf("away from the beginning: %+v", never)
	}
	known := state{}.after("wallet", "data", nil, at(0))
	gone := known.after("wallet", nil, away, at(1)).after("wallet", nil, context.DeadlineExceeded, at(2))
	if gone.Data != "data" || !gone.Known.Equal(at(0)) || !gone.Away.Equal(at(1)) {
		t.Errorf("away: %+v", gone)
	}
	back := gone.after("wallet", "new", nil, at(3))
	if back.Data != "new" || !back.Known.Equal(at(3)) || !back.Away.IsZero() {
		t.Errorf("back: %+v", back)
	}
	again := back.after("wallet", nil, away, at(4))
	if !again.Away.Equal(at(4)) {
		t.Errorf("away again since %v", again.Away)
	}

	behind := state{}.after("portfolio", nil, &behindError{service: "wallet", data: "snapshot", known: at(-9)}, at(0))
	if behind.Service != "wallet" || behind.Data != "snapshot" || !behind.Known.Equal(at(-9)) ||
		!behind.Away.Equal(at(0)) {
		t.Errorf("what is behind is away: %+v", behind)
	}
	if both := behind.after("portfolio", nil, away, at(1)); both.Service != "portfolio" || !both.Away.Equal(at(1)) {
		t.Errorf("then the service too: %+v", both)
	}
	if old := known.after("wallet", nil, &errs.Error{Reason: "UNIMPLEMENTED"}, at(1)); !old.NotOffered ||
		!old.Away.IsZero() {
		t.Errorf("an older service: %+v", old)
	}
	if odd := known.after("wallet", nil, errors.New("secret cause"), at(1)); odd.Trouble == "" ||
		strings.Contains(odd.Trouble, "secret") || odd.Data != "data" {
		t.Errorf("an answer that is an error: %+v", odd)
	}
}

func TestAChangeIsToldOnlyOfHistoryThatIsKnown(t *testing.T) {
	newest := time.Date(2026, 1, 10, 12, 0, 0, 0, time.UTC)
	points := func(hours int) []point {
		var out []point
		for i := hours; i >= 0; i-- {
			out = append(out, point{Time: newest.Add(-time.Duration(i) * time.Hour), Value: "100"})
		}
		out[len(out)-1].Value = "101.5"
		return out
	}
	for name, tt := range map[string]struct {
		points []point
		want   string
	}{
		"none":        {nil, ""},
		"an hour":     {points(1), ""},
		"a day":       {points(24), "+1.50 %"},
		"three days":  {points(72), "+1.50 %"},
		"from nought": {[]point{{newest.Add(-day), "0", false}, {newest, "1", false}}, ""},
	} {
		if got := (timeline{Hourly: tt.points}).Change(tt.points, day); got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
	if got := percent("200", "199"); got != "−0.50 %" {
		t.Errorf("a loss is %q", got)
	}
	if got := percent("200000", "199999.99"); got != "0.00 %" {
		t.Errorf("next to nothing is %q", got)
	}
}
