// Package web serves HTTP: the key set (RFC 7517) and its discovery documents for
// verifiers, and the hosted pages that sign a browser in with a provider.
package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/purserhq/purser/services/auth/internal/signing"
)

// keySetPath is the path of the key set, relative to the issuer.
const keySetPath = "/.well-known/jwks.json"

// Handler serves the key set of issuer with a strong ETag and the ring's max-age, and
// two discovery documents with its URL. While the ring has no set the status is 503
// with no-store; an empty set is never served.
func Handler(issuer string, ring *signing.Ring) *http.ServeMux {
	mux := http.NewServeMux()
	discovery := discoveryDocument(issuer)
	for _, path := range []string{"/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Cache-Control", "public, max-age=3600")
			_, _ = w.Write(discovery) // fails only if the client hung up
		})
	}
	mux.HandleFunc("GET "+keySetPath, func(w http.ResponseWriter, r *http.Request) {
		set, ok := ring.Published()
		if !ok {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Retry-After", "1")
			http.Error(w, "the key set is unavailable", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("ETag", set.ETag)
		w.Header().Set("Cache-Control", fmt.Sprintf("public, max-age=%d", int(set.MaxAge.Seconds())))
		if matches(r.Header.Values("If-None-Match"), set.ETag) {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", "application/jwk-set+json")
		_, _ = w.Write(set.Document) // fails only if the client hung up
	})
	return mux
}

// discoveryDocument returns the metadata that both discovery documents contain
// (OpenID Connect Discovery 1.0, section 3; RFC 8414, section 2): only what stock
// verifiers need to check access tokens. There is no authorization endpoint, so no
// response type is supported. All algorithms are listed, because clients may cache
// the document for longer than a change of the algorithm takes.
func discoveryDocument(issuer string) []byte {
	b, err := json.Marshal(struct {
		Issuer        string   `json:"issuer"`
		JWKSURI       string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
		Algorithms    []string `json:"id_token_signing_alg_values_supported"`
	}{issuer, strings.TrimRight(issuer, "/") + keySetPath, []string{}, []string{"public"}, signing.Algorithms()})
	if err != nil { // strings can always be encoded
		return nil
	}
	return b
}

// matches evaluates If-None-Match (RFC 9110, section 13.1.2): by weak comparison,
// with a list of tags or "*".
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
