package idp_test

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/idp"
	"github.com/purserhq/purser/services/auth/internal/oauth"
)

// list is a provider at an address, as a configuration has it.
func list(t *testing.T, more map[string]any) idp.List {
	t.Helper()
	one := map[string]any{"name": "p", "client_id": "id", "client_secret": "no secret"}
	for name, v := range more {
		one[name] = v
	}
	text, err := json.Marshal([]any{one})
	if err != nil {
		t.Fatal(err)
	}
	var l idp.List
	if err := l.UnmarshalText(text); err != nil {
		t.Fatal(err)
	}
	return l
}

func wantReason(t *testing.T, err error, reason string) {
	t.Helper()
	if e := errs.As(err); e == nil || e.Reason != reason {
		t.Errorf("answered %v, want %s", err, reason)
	}
}

func TestOnlyPublicAddressesAreAsked(t *testing.T) {
	for address, public := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true,
		"127.0.0.1": false, "10.1.2.3": false, "172.16.0.1": false, "192.168.1.1": false, "169.254.169.254": false,
		"100.64.0.1": false,
		"0.0.0.0":    false, "0.1.2.3": false, "224.0.0.1": false, "255.255.255.255": false, "198.18.0.1": false,
		"192.0.2.1": false,
		"::1":       false, "::": false, "fe80::1": false, "fe80::1%eth0": false, "fc00::1": false,
		"fd00:ec2::254": false,
		"ff02::1":       false, "fec0::1": false,
		"::ffff:127.0.0.1": false, "::ffff:10.0.0.1": false, "::127.0.0.1": false, "64:ff9b::7f00:1": false,
		"2002:7f00:1::": false, "2001:db8::1": false,
	} {
		if idp.IsPublic(netip.MustParseAddr(address)) != public {
			t.Errorf("%s: public is not %v", address, public)
		}
	}
}

// The name is public and resolves to this machine: what counts is the address
// that is connected to.
func TestAProviderAtAPrivateAddressIsNotAsked(t *testing.T) {
	var connected atomic.Int64
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connected.Add(1)
		}
	}
	server.StartTLS()
	defer server.Close()
	issuer := strings.Replace(server.URL, "127.0.0.1", "localhost", 1)
	for _, settings := range []map[string]any{
		{"kind": "oidc", "issuer": issuer},
		{"kind": "oidc", "issuer": strings.Replace(issuer, "https", "http", 1)},
	} {
		p := idp.Providers(list(t, settings))["p"]
		_, err := p.AuthURL(t.Context(), oauth.Request{})
		wantReason(t, err, "PROVIDER_UNAVAILABLE")
	}
	gitHub := idp.Providers(list(t, map[string]any{"kind": "github", "base_url": server.URL,
		"api_url": server.URL}))["p"]
	_, err := gitHub.Identify(t.Context(), oauth.Answer{Code: "x"})
	wantReason(t, err, "PROVIDER_UNAVAILABLE")
	if n := connected.Load(); n != 0 {
		t.Errorf("it was connected to %d times", n)
	}
	private := idp.Providers(list(t, map[string]any{"kind": "oidc", "issuer": server.URL, "allow_private": true}))["p"]
	_, err = private.AuthURL(t.Context(), oauth.Request{}) // the control
	wantReason(t, err, "PROVIDER_UNAVAILABLE")
	testkit.Eventually(t, time.Minute, func() bool { return connected.Load() > 0 })
}

func TestAProviderThatIsSlowOrSaysTooMuchIsAway(t *testing.T) {
	released := make(chan struct{})
	huge := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"issuer":"`))
		for range 3000 {
			_, _ = w.Write([]byte(strings.Repeat("x", 1<<10)))
		}
		_, _ = w.Write([]byte(`"}`))
	}
	for name, h := range map[string]http.HandlerFunc{
		"an answer of three megabytes": huge,
		"no answer": func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-released:
			case <-r.Context().Done():
			}
		},
		"an answer a byte at a time": func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				_, _ = w.Write([]byte(" "))
				_ = http.NewResponseController(w).Flush()
				select {
				case <-released:
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		},
		"a redirect to another host": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://localhost:1/", http.StatusFound)
		},
		"redirects without end": func(w http.ResponseWriter,
			r *http.Request) {
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
		},
		"another issuer": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(`{"issuer":"https://other.example"}`))
		},
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) },
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(h)
			defer server.Close()
			p := idp.Providers(list(t, map[string]any{"kind": "oidc", "issuer": server.URL,
				"allow_private": true}))["p"]
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			begun := time.Now()
			_, err := p.AuthURL(ctx, oauth.Request{})
			wantReason(t, err, "PROVIDER_UNAVAILABLE")
			if took := time.Since(begun); took > 10*time.Second { // generous, for a busy machine
				t.Errorf("it held the call for %s", took)
			}
			if e := errs.As(err); e != nil && len(e.Error()) > 500 {
				t.Errorf("the log is told %d bytes", len(e.Error()))
			}
		})
	}
	close(released)
}

// hub is GitHub as far as it is asked.
type hub struct {
	*httptest.Server
	answers map[string]string
	status  map[string]int
	form    url.Values
}

func newHub(t *testing.T) (*hub, oauth.Provider) {
	t.Helper()
	h := &hub{status: map[string]int{}, answers: map[string]string{
		"/login/oauth/access_token": `{"access_token":"at","token_type":"bearer","scope":"user:email"}`,
		"/user":                     `{"id":7,"login":"ada","name":"Ada","email":"public@example.com"}`,
		"/user/emails": `[{"email":"old@example.com","verified":true,"primary":false},
			{"email":"ada@example.com","verified":true,"primary":true}]`,
	}}
	h.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/login/oauth/access_token" {
			_ = r.ParseForm()
			h.form = r.Form
		} else if r.Header.Get("Authorization") != "Bearer at" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		if s := h.status[r.URL.Path]; s != 0 {
			w.WriteHeader(s)
		}
		_, _ = w.Write([]byte(h.answers[r.URL.Path]))
	}))
	t.Cleanup(h.Close)
	return h, idp.Providers(list(t, map[string]any{"kind": "github", "base_url": h.URL, "api_url": h.URL,
		"allow_private": true}))["p"]
}

func TestGitHubIsAskedForThePrimaryAddressAndWhetherItIsVerified(t *testing.T) {
	h, p := newHub(t)
	address, err := p.AuthURL(t.Context(), oauth.Request{State: "s", Challenge: "c",
		RedirectURI: "https://app.example"})
	if err != nil || !strings.Contains(address, "code_challenge=c&code_challenge_method=S256") ||
		!strings.Contains(address, "state=s") {
		t.Fatal(address, err)
	}
	got, err := p.Identify(t.Context(), oauth.Answer{Code: "x", Verifier: "v", RedirectURI: "https://app.example"})
	if want := (identity.Claim{Subject: "7", Email: "ada@example.com", Verified: true, Name: "Ada",
		Label: "ada"}); err != nil || got != want {
		t.Fatal(got, err)
	}
	if h.form.Get("code_verifier") != "v" || h.form.Get("client_secret") != "no secret" ||
		h.form.Get("redirect_uri") != "https://app.example" {
		t.Error(h.form)
	}
	h.answers["/user/emails"] = `[{"email":"ada@example.com","verified":false,"primary":true},
		{"email":"old@example.com","verified":true}]`
	if got, err := p.Identify(t.Context(), oauth.Answer{Code: "x"}); err != nil || got.Verified ||
		got.Email != "ada@example.com" {
		t.Error("an address that isn't primary was taken", got, err)
	}
}

func TestGitHubThatAnswersBadlySignsNobodyIn(t *testing.T) {
	for name, tc := range map[string]struct {
		path, body string
		status     int
		reason     string
	}{
		"a code that is refused": {"/login/oauth/access_token", `{"error":"bad_verification_code"}`, 0,
			"PROVIDER_REFUSED"},
		"no token":                {"/login/oauth/access_token", `{}`, 0, "PROVIDER_UNAVAILABLE"},
		"a user without a number": {"/user", `{"login":"ada"}`, 0, "PROVIDER_ANSWER_INVALID"},
		"a user that is a list":   {"/user", `[]`, 0, "PROVIDER_ANSWER_INVALID"},
		"a token of no use":       {"/user", ``, http.StatusForbidden, "PROVIDER_ANSWER_INVALID"},
		"too many calls":          {"/user/emails", ``, http.StatusTooManyRequests, "PROVIDER_UNAVAILABLE"},
		"a server that is broken": {"/user/emails", ``, http.StatusBadGateway, "PROVIDER_UNAVAILABLE"},
		"a huge answer": {"/user/emails", `[` + strings.Repeat(`{},`, 1<<20) + `{}]`, 0,
			"PROVIDER_UNAVAILABLE"},
	} {
		t.Run(name, func(t *testing.T) {
			h, p := newHub(t)
			h.answers[tc.path], h.status[tc.path] = tc.body, tc.status
			_, err := p.Identify(t.Context(), oauth.Answer{Code: "x"})
			wantReason(t, err, tc.reason)
		})
	}
	_, p := newHub(t)
	_, err := p.Identify(t.Context(), oauth.Answer{Code: "x", Issuer: "https://elsewhere.example"})
	wantReason(t, err, "PROVIDER_ANSWER_INVALID")
}
