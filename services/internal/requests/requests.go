// Package requests has what the contracts of all services say of a request: its request_id,
// by which a call can be repeated, and the etag of what it changes. Package answers stores
// the answers.
package requests

import (
	"crypto/sha256"
	"fmt"
	"strings"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
)

// Request is a caller's request_id and what it was sent with.
type Request struct {
	ID     uuid.UUID
	Method string
	Hash   [32]byte
}

// New returns the request of a method with these fields; nil for uuid.Nil, a call without
// a request_id.
func New(id uuid.UUID, method string, fields ...string) *Request {
	if id == uuid.Nil {
		return nil
	}
	return &Request{ID: id, Method: method, Hash: sha256.Sum256([]byte(strings.Join(fields, "\x00")))}
}

// ID returns the request_id of a request, uuid.Nil for none. One that isn't a UUID, or is
// the nil UUID, is errs.Invalid on request_id.
func ID(req interface{ GetRequestId() string }) (id uuid.UUID, err error) {
	text := req.GetRequestId()
	if text == "" {
		return uuid.Nil, nil
	}
	if id, err = uuid.Parse(text); err != nil {
		return id, errs.Invalid("request_id", "must be a UUID, "+errs.Given(text))
	}
	if id == uuid.Nil {
		return id, errs.Invalid("request_id", "must not be the nil UUID, which everybody would use; make a random one")
	}
	return id, nil
}

// EtagMismatch is the error of a write to something, such as "the wallet", that has changed
// since the caller read it with a method: errs.Conflict (ETAG_MISMATCH) with the etag that it
// has now. given is empty when it changed during the write.
func EtagMismatch(what, method, given, current string) error {
	text := what + " changed during this call"
	if given != "" {
		text = what + " changed since it was read: " + errs.Given(given) + " as its etag"
	}
	return errs.Conflict("ETAG_MISMATCH", fmt.Sprintf("%s, and it is %q now; read it again with %s, and decide "+
		"whether the change is still right", text, current, method)).With("current_etag", current)
}
