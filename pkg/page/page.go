// Package page makes the opaque page tokens of lists with keyset pagination
// (AIP-158).
//
// A token contains the key of the last row of a page and a digest of the query,
// which includes the caller. It promises that a token of another query or caller
// is refused with errs.Invalid on page_token.
//
// Limits: a token is neither secret nor signed. The caller can read the key, and
// can make a token with any key for a query of their own; so a query has to
// filter by owner, and to treat the key as untrusted input.
package page

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/errs"
)

// Query identifies a list by all that decides its rows and their order; the page
// size is not part of it.
type Query struct{ digest [8]byte }

// NewQuery returns the query with these parts: the method's name, the caller's id
// and each filter. Queries are the same when all their parts are.
func NewQuery(parts ...string) Query {
	h := sha256.New()
	for _, p := range parts {
		_, _ = fmt.Fprintf(h, "%d:%s", len(p), p)
	}
	var q Query
	copy(q.digest[:], h.Sum(nil))
	return q
}

// Token returns the token of the page after the row with the key last: a string,
// or a struct with a few exported fields, as JSON encodes it.
func Token[K any](q Query, last K) (string, error) {
	body, err := json.Marshal(last)
	if err != nil {
		return "", fmt.Errorf("encode page token: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(append(q.digest[:], body...)), nil
}

// Rule is what a page token that Parse refuses breaks.
const Rule = "must be the next_page_token of the page before, of this same method, caller and filters (the page " +
	"size " +
	"may change); leave it empty to begin again"

// Parse returns the key in a token of this query. For an empty token ok is false:
// the list starts at its first page. The error is errs.Invalid on page_token for
// a token that is malformed or of another query.
func Parse[K any](q Query, token string) (last K, ok bool, err error) {
	if token == "" {
		return last, false, nil
	}
	bad := errs.Invalid("page_token", Rule)
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

// Size returns the page size to use for the one in a request: defaultSize for 0
// or less, and at most maxSize.
func Size(requested int32, defaultSize, maxSize int) int {
	if requested <= 0 {
		return defaultSize
	}
	return min(int(requested), maxSize)
}

// MaxBytes is how many bytes the rows of a page have at most when they are encoded,
// but for a single row that has more: a page ends by bytes as well as by rows.
const MaxBytes = 1 << 20

// Cut makes a page of a list that was read with one row more than limit. It returns
// the first rows as messages, at most limit and at least one, as many as have
// MaxBytes, and the token of the page after them: "" when there is none. key returns
// the key of a row and convert its message.
func Cut[T, K any, M proto.Message](q Query, rows []T, limit int, key func(T) K, convert func(T) M) (onPage []M,
	next string, err error) {
	size := 0
	for i, row := range rows[:min(len(rows), limit)] {
		m := convert(row)
		size += proto.Size(m) + rowOverhead
		if size > MaxBytes && i > 0 {
			next, err = Token(q, key(rows[i-1]))
			return onPage, next, err
		}
		onPage = append(onPage, m)
	}
	if len(rows) > limit {
		next, err = Token(q, key(rows[limit-1]))
	}
	return onPage, next, err
}

// rowOverhead is what a row of a message costs at most beside its own bytes: its
// field's number and its length.
const rowOverhead = 8
