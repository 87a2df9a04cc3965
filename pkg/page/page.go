// Package page makes the opaque tokens of keyset-paged lists (AIP-158).
//
// A token carries the key of the last row shown and a digest of the query it
// belongs to, the caller included. It promises that a token given to another
// query, or by another caller, is refused by name; it does not hide the key
// from the caller, and is not a capability: a caller can make a token with any
// key for their own query, so the query still filters by owner and takes the
// key as input from outside.
package page

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"github.com/purserhq/purser/pkg/errs"
)

// Query identifies a list: everything that decides which rows it has and in
// what order, the page size excepted.
type Query struct{ digest [8]byte }

// NewQuery digests the parts of a query: the method's name, the caller and
// each filter. Two queries are the same when all their parts are.
func NewQuery(parts ...string) Query {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	var q Query
	copy(q.digest[:], h.Sum(nil))
	return q
}

// Token returns the token of the page after the row with this key. Keys are
// JSON: a string, or a struct of a few exported fields.
func Token[K any](q Query, last K) (string, error) {
	body, err := json.Marshal(last)
	if err != nil {
		return "", fmt.Errorf("encode page token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(append(q.digest[:], body...)), nil
}

// Parse reads a token of this query. An empty token gives ok == false: start
// at the first page. The error is errs.Invalid on field page_token when the
// token is of another query or is no token at all.
func Parse[K any](q Query, token string) (last K, ok bool, err error) {
	if token == "" {
		return last, false, nil
	}
	bad := errs.Invalid("page_token", "must be a next_page_token of this same query")
	raw, decodeErr := base64.RawURLEncoding.DecodeString(token)
	if decodeErr != nil || len(raw) < len(q.digest) || [8]byte(raw[:8]) != q.digest {
		return last, false, bad
	}
	if body := raw[8:]; string(body) == "null" || json.Unmarshal(body, &last) != nil {
		var zero K
		return zero, false, bad
	}
	return last, true, nil
}

// Size returns the page size to use: def when asked is 0, never above limit.
func Size(asked int32, def, limit int) int {
	if asked <= 0 {
		return def
	}
	return min(int(asked), limit)
}
