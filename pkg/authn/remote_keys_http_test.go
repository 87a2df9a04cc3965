package authn_test

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/testkit"
)

// followServer follows a real server; TestMain finds the goroutines and
// connections that Close leaves behind.
func followServer(t *testing.T, h http.HandlerFunc) *authn.RemoteKeys {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	r := authn.NewRemoteKeys(s.URL, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { fail(t, r.Close()) })
	return r
}

func TestTheKeySetIsReadOverHTTPAndConfirmedByItsETag(t *testing.T) {
	var full, unchanged atomic.Int64
	body := jwks(t, map[string]any{"a": publicKey(t)})
	r := followServer(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Cache-Control", "max-age=2")
		if req.Header.Get("If-None-Match") == `"v1"` {
			unchanged.Add(1)
			w.WriteHeader(http.StatusNotModified)
			return
		}
		full.Add(1)
		_, _ = w.Write(body)
	})
	serves(t, r, "a")
	testkit.Eventually(t, time.Minute, func() bool { return unchanged.Load() > 0 })
	serves(t, r, "a")
	if n := full.Load(); n != 1 {
		t.Errorf("the document was sent %d times", n)
	}
}

func TestAnAnswerThatIsNoKeySetGivesNoKey(t *testing.T) {
	good := jwks(t, map[string]any{"a": publicKey(t)})
	elsewhere := httptest.NewServer(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good) }))
	t.Cleanup(elsewhere.Close)
	for name, h := range map[string]http.HandlerFunc{
		"a redirect, even to a good set": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusFound)
		},
		"a set of more than 256 KiB": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write(good)
			_, _ = w.Write([]byte(strings.Repeat(" ", 256<<10)))
		},
		"an empty set": func(w http.ResponseWriter, _ *http.Request) {
			_,
				_ = w.Write([]byte(`{"keys":[]}`))
		},
		"an error page": func(w http.ResponseWriter,
			_ *http.Request) {
			http.Error(w, string(good), http.StatusBadGateway)
		},
		"not modified, when nothing is had": func(w http.ResponseWriter,
			_ *http.Request) {
			w.WriteHeader(http.StatusNotModified)
		},
		"a set that is cut off": func(w http.ResponseWriter, _ *http.Request) {
			_,
				_ = w.Write(good[:len(good)/2])
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := followServer(t, h)
			if k, err := r.Key(t.Context(), "a"); reasonOf(err) != "KEYS_UNAVAILABLE" {
				t.Errorf("%+v, %v", k, err)
			}
		})
	}
}

func TestCloseLeavesNoConnection(t *testing.T) {
	var opened, closed atomic.Int64
	body := jwks(t, map[string]any{"a": publicKey(t)})
	s := httptest.NewUnstartedServer(http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			opened.Add(1)
		case http.StateClosed:
			closed.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	r := authn.NewRemoteKeys(s.URL, slog.New(slog.DiscardHandler))
	serves(t, r, "a")
	fail(t, r.Close())
	testkit.Eventually(t, 5*time.Second, func() bool { return opened.Load() == 1 && closed.Load() == 1 })
}
