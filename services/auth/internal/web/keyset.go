// Package web serves HTTP: the key set (RFC 7517) and its discovery documents for
// verifiers, and the hosted pages that sign a browser in with a provider.
package web

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/purserhq/purser/services/auth/internal/signing"
)

// keySetPath is the path of the key set, relative to the base URL.
const keySetPath = "/.well-known/jwks.json"

// Handler serves the key set of issuer with a strong ETag and the ring's max-age, and
// two discovery documents that name it under base, the URL at which others reach this
// port. While the ring has no set the status is 503 with no-store; an empty set is
// never served.
func Handler(issuer, base string, ring *signing.Ring) *http.ServeMux {
	mux := http.NewServeMux()
	discovery := discoveryDocument(issuer, base)
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

// discoveryDocument returns the metadata of an authorization server (RFC 8414, section
// 2) that both discovery documents contain: section 5 allows the name that OpenID
// Connect uses, which is the one that stock verifiers ask for. It names no endpoint
// and no algorithm of ID tokens, because there are none: tokens come from the gRPC
// API, and each key in the set states its algorithm.
//
// The two empty lists are deliberate. response_types_supported is required, and
// without grant_types_supported a reader would assume the authorization code grant.
func discoveryDocument(issuer, base string) []byte {
	b, err := json.Marshal(struct {
		Issuer        string   `json:"issuer"`
		JWKSURI       string   `json:"jwks_uri"`
		ResponseTypes []string `json:"response_types_supported"`
		GrantTypes    []string `json:"grant_types_supported"`
		SubjectTypes  []string `json:"subject_types_supported"`
	}{issuer, strings.TrimRight(base, "/") + keySetPath, []string{}, []string{}, []string{"public"}})
	if err != nil { // strings can always be encoded
		return nil
	}
	return b
}

// Under serves h also under the path of base, for proxies that keep that path, and the
// metadata where RFC 8414, section 3.1, puts that of an issuer with a path.
func Under(base string, h http.Handler) http.Handler {
	u, err := url.Parse(base)
	if err != nil { // the configuration is checked
		return h
	}
	path := strings.TrimRight(u.Path, "/")
	if path == "" {
		return h
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if well, ok := strings.CutSuffix(r.URL.Path, path); ok && strings.HasPrefix(well, "/.well-known/") {
			r = r.Clone(r.Context())
			r.URL.Path, r.URL.RawPath = well, ""
		} else if strings.HasPrefix(r.URL.Path, path+"/") {
			http.StripPrefix(path, h).ServeHTTP(w, r)
			return
		}
		h.ServeHTTP(w, r)
	})
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
