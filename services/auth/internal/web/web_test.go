package web_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/web"
	"github.com/purserhq/purser/services/internal/seal"
)

type memory struct {
	keys []signing.Key
	away bool
}

func (m *memory) Bootstrap(_ context.Context, _ string, first []signing.Key) error {
	m.keys = first
	return nil
}

func (m *memory) Load(context.Context, string) (signing.Reading, error) {
	if m.away {
		return signing.Reading{}, errors.New("away")
	}
	if m.keys == nil {
		return signing.Reading{}, nil
	}
	return signing.Reading{Epoch: 1, Keys: m.keys, Now: time.Now()}, nil
}

const issuer = "https://auth.example"

// serve is the handler over a ring; read says whether it could be read.
func serve(t *testing.T, read bool) http.Handler {
	t.Helper()
	return web.Handler(issuer, issuer, ring(t, read))
}

func ring(t *testing.T, read bool) *signing.Ring {
	t.Helper()
	kek := sha256.Sum256(nil)
	sealer, err := seal.New(kek[:])
	if err != nil {
		t.Fatal(err)
	}
	policy := signing.Policy{MaxAge: 5 * time.Minute, Poll: time.Minute, Lease: 2 * time.Minute}
	ring := signing.NewRing(issuer, policy, &memory{away: !read}, sealer,
		slog.New(slog.DiscardHandler))
	if err := ring.Refresh(t.Context()); (err == nil) != read {
		t.Fatal(err)
	}
	return ring
}

func ask(t *testing.T, h http.Handler, method, path, ifNoneMatch string) *http.Response {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
	if ifNoneMatch != "" {
		r.Header.Set("If-None-Match", ifNoneMatch)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Result()
}

const path = "/.well-known/jwks.json"

func TestTheKeySetIsServedToBeKept(t *testing.T) {
	resp := ask(t, serve(t, true), "GET", path, "")
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK || resp.Header.Get("Cache-Control") != "public, max-age=300" ||
		resp.Header.Get("Content-Type") != "application/jwk-set+json" {
		t.Errorf("status %d, %v", resp.StatusCode, resp.Header)
	}
	var set struct{ Keys []map[string]string }
	if err := json.Unmarshal(body, &set); err != nil {
		t.Fatal(err)
	}
	if len(set.Keys) != 2 {
		t.Fatalf("%d keys in %s", len(set.Keys), body)
	}
	for _, k := range set.Keys {
		if k["d"] != "" || k["kty"] != "OKP" || k["crv"] != "Ed25519" || k["alg"] != "EdDSA" || k["use"] != "sig" ||
			k["kid"] == "" {
			t.Errorf("key %v", k)
		}
	}
}

func TestAReaderThatHasTheSetIsNotSentItAgain(t *testing.T) {
	h := serve(t, true)
	etag := ask(t, h, "GET", path, "").Header.Get("ETag")
	if len(etag) < 20 || strings.HasPrefix(etag, "W/") {
		t.Fatalf("ETag %q", etag)
	}
	for _, tc := range []struct {
		name, ifNoneMatch string
		want              int
	}{
		{"the same tag", etag, 304},
		{"the same tag made weak by a proxy", "W/" + etag, 304},
		{"the same tag in a list", `"other", ` + etag, 304},
		{"any tag", "*", 304},
		{"another tag", `"other"`, 200},
		{"the tag without quotes", strings.Trim(etag, `"`), 200},
		{"an empty tag", `""`, 200},
	} {
		t.Run(tc.name, func(t *testing.T) {
			resp := ask(t, h, "GET", path, tc.ifNoneMatch)
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tc.want || (tc.want == 304) != (len(body) == 0) {
				t.Errorf("status %d with %d bytes, want %d", resp.StatusCode, len(body), tc.want)
			}
			if resp.Header.Get("ETag") != etag || resp.Header.Get("Cache-Control") == "" {
				t.Errorf("headers %v", resp.Header)
			}
		})
	}
}

func TestWithoutASetTheAnswerIsNotToBeStored(t *testing.T) {
	resp := ask(t, serve(t, false), "GET", path, "*")
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Cache-Control") != "no-store" ||
		resp.Header.Get("Retry-After") == "" || resp.Header.Get("ETag") != "" {
		t.Errorf("status %d, %v", resp.StatusCode, resp.Header)
	}
}

func TestNothingElseIsServed(t *testing.T) {
	h := serve(t, true)
	for _, tc := range []struct {
		method, path string
		want         int
	}{{"POST", path, 405}, {"GET", "/", 404}, {"GET", path + "/", 404}, {"GET", "/.well-known/", 404},
		{"HEAD", path, 200}} {
		if resp := ask(t, h, tc.method, tc.path, ""); resp.StatusCode != tc.want {
			t.Errorf("%s %s: %d, want %d", tc.method, tc.path, resp.StatusCode, tc.want)
		}
	}
}

func TestTheDiscoveryDocumentsSayWhereTheKeySetIs(t *testing.T) {
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
		resp := ask(t, serve(t, false), "GET", path, "")
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		const want = `{"issuer":"https://auth.example","jwks_uri":"https://auth.example/.well-known/jwks.json",` +
			`"response_types_supported":[],"grant_types_supported":[],"subject_types_supported":["public"]}`
		if string(body) != want || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s, %v", path, body, resp.Header)
		}
	}
}

// Whatever the issuer and the base URL are, what the discovery documents name is served
// at its path, and the documents where the specifications look for them.
func TestEveryURLThatDiscoveryNamesAnswers(t *testing.T) {
	for _, tc := range []struct {
		name, issuer, base string
		documents          []string
	}{
		{"an issuer that leads to the port", issuer, issuer,
			[]string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"}},
		{"a slash at the end", issuer + "/", issuer + "/", []string{"/.well-known/openid-configuration"}},
		{"an issuer that is only a name", "http://purser", "http://10.0.0.1:8080",
			[]string{"/.well-known/openid-configuration"}},
		{"a path", issuer + "/tenant/a", issuer + "/tenant/a", []string{
			"/tenant/a/.well-known/openid-configuration",       // OpenID Connect Discovery, section 4
			"/.well-known/oauth-authorization-server/tenant/a", // RFC 8414, section 3
			"/.well-known/openid-configuration/tenant/a",       // RFC 8414, section 5
			"/.well-known/openid-configuration",                // behind a proxy that removes the path
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := web.Under(tc.base, web.Handler(tc.issuer, tc.base, ring(t, true)))
			for _, document := range tc.documents {
				resp := ask(t, h, "GET", document, "")
				var metadata map[string]any
				if err := json.NewDecoder(resp.Body).Decode(&metadata); err != nil {
					t.Fatalf("%s: %d, %v", document, resp.StatusCode, err)
				}
				if metadata["issuer"] != tc.issuer {
					t.Errorf("%s: issuer %v", document, metadata["issuer"])
				}
				named := 0
				for field, v := range metadata {
					text, ok := v.(string)
					if !ok || field == "issuer" {
						continue
					}
					at, ok := strings.CutPrefix(text, strings.TrimRight(tc.base, "/"))
					if !ok {
						t.Errorf("%s: %s is %s, not under %s", document, field, text, tc.base)
					}
					u, err := url.Parse(text)
					if err != nil {
						t.Fatal(err)
					}
					for _, path := range []string{u.Path, at} { // as it is, and behind a proxy that removes the path
						if resp := ask(t, h, "GET", path, ""); resp.StatusCode != http.StatusOK {
							t.Errorf("%s: %s: GET %s: %d", document, field, path, resp.StatusCode)
						}
					}
					named++
				}
				if named == 0 {
					t.Errorf("%s names no URL", document)
				}
			}
			for _, path := range []string{"/tenant/a", "/tenant/a/", "/tenant/b" + path, path + "/tenant/b"} {
				if resp := ask(t, h, "GET", path, ""); resp.StatusCode != http.StatusNotFound {
					t.Errorf("%s: %d", path, resp.StatusCode)
				}
			}
		})
	}
}
