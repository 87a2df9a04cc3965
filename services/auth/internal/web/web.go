// Package web serves what verifiers read over plain HTTP.
package web

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/purserhq/purser/services/auth/internal/signing"
)

// Handler serves /.well-known/jwks.json (RFC 7517) with a strong ETag and the
// max-age that the ring allows. Without a set it answers 503, not to be
// stored, and never an empty one.
func Handler(ring *signing.Ring) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/jwks.json", func(w http.ResponseWriter, r *http.Request) {
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

// matches compares as RFC 9110, section 13.1.2, asks: weakly, against a list,
// or against any with "*".
func matches(ifNoneMatch []string, etag string) bool {
	for _, line := range ifNoneMatch {
		for candidate := range strings.SplitSeq(line, ",") {
			if candidate = strings.TrimSpace(candidate); candidate == "*" || strings.TrimPrefix(candidate, "W/") == etag {
				return true
			}
		}
	}
	return false
}
