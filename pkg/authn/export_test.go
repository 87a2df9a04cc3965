package authn

import (
	"log/slog"
	"net/http"
	"time"
)

// NewRemoteKeysOver is NewRemoteKeys over a transport of the test's.
func NewRemoteKeysOver(transport http.RoundTripper) *RemoteKeys {
	return newRemoteKeys("http://issuer.test/jwks.json", slog.New(slog.DiscardHandler), transport)
}

// ParseKeySet is parseKeySet.
func ParseKeySet(body []byte) (map[string]Key, error) { return parseKeySet(body) }

// SetLimit bounds the revocations that r keeps, before it has any, and returns
// the limit from before.
func (r *Revocations) SetLimit(limit int) int {
	before := r.limit
	r.limit = limit
	return before
}

// SetNow injects a clock, before the keys are used.
func (r *RemoteKeys) SetNow(now func() time.Time) { r.now = now }

// Plainly is the short way of CheckUnambiguous for a part of a token, ByDecoding the long one.
var Plainly = plainly

// ByDecoding returns what is wrong with a part of a token.
func ByDecoding(text []byte, read, numbers, refused []string) error {
	return byDecoding("claims", text, read, numbers, refused)
}
