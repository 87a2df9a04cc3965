// Package web serves over plain HTTP what verifiers read, the key set (RFC 7517)
// and where it is, and the pages that sign a browser in elsewhere.
package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/purserhq/purser/services/auth/internal/signing"
)

// keySetPath is where the key set is, under the issuer.
const keySetPath = "/.well-known/jwks.json"

// Handler serves the key set of issuer with a strong ETag and the max-age that
// the ring allows. Without a set it answers 503, not to be stored, and never
// an empty one. The two discovery documents say where it is.
func Handler(issuer string, ring *signing.Ring) *http.ServeMux {
	mux := http.NewServeMux()
	discovery := document(issuer)
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "public, max-age=3600")
			_, _ = w.Write(discovery) // the reader went away: nothing to do
		})
	}
	mux.HandleFunc("GET "+keySetPath, func(w http.ResponseWriter, r *http.Request) {
		set, ok := ring.Published()
		if !ok {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Retry-After", "1")
			http.Error(w, "no key set is known now", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("ETag", set.ETag)
		w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(set.MaxAge.Seconds())))
		if matches(r.Header.Values("If-None-Match"), set.ETag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(set.Document) // the reader went away: nothing to do
	})
	return mux
}

// document is the metadata that both discovery documents hold (OpenID Connect
// Discovery 1.0, section 3; RFC 8414, section 2): only what is true of an
// issuer that stock verifiers need to check its access tokens. There is no
// authorization endpoint, so no response type is supported. The algorithms are
// those that a key can be for: readers keep the document for longer than a
// change of algorithm takes.
func document(issuer string) []byte {
	b, err := json.Marshal(struct {
		Issuer        string   `json:"issuer"`
		JWKSURI       string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	}{issuer, strings.TrimRight(issuer, "/") + keySetPath, []string{}, []string{"public"}, signing.Algorithms()})
	if err != nil { // strings are always encoded
		return nil
	}
	return b
}

// matches compares as RFC 9110, section 13.1.2, asks: weakly, against a list,
// or against any with "*".
func matches(ifNoneMatch []string, etag string) bool {
	for _, line := range ifNoneMatch {
		for candidate := range strings.SplitSeq(line, ",") {
			if candidate = strings.TrimSpace(candidate); candidate == "*" ||
				strings.TrimPrefix(candidate, "W/") == etag {
				return true
			}
		}
	}
	return false
}
