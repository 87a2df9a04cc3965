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
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/web"
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

// serve is the handler over a ring; read says whether it could be read.
func serve(t *testing.T, read bool) http.Handler {
	t.Helper()
	kek := sha256.Sum256(nil)
	sealer, err := signing.NewSealer(kek[:])
	if err != nil {
		t.Fatal(err)
	}
	policy := signing.Policy{MaxAge: 5 * time.Minute, Poll: time.Minute, Lease: 2 * time.Minute}
	ring := signing.NewRing("https://auth.example", policy, &memory{away: !read}, sealer,
		slog.New(slog.DiscardHandler))
	if err := ring.Refresh(t.Context()); (err == nil) != read {
		t.Fatal(err)
	}
	return web.Handler("https://auth.example", ring)
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
			`"response_types_supported":[],"subject_types_supported":["public"],` +
			`"id_token_signing_alg_values_supported":["EdDSA","ES256","RS256"]}`
		if string(body) != want || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %s, %v", path, body, resp.Header)
		}
	}
}
