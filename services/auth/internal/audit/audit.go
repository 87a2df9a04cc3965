// Package audit is the record of what concerned the safety of accounts: who
// did what to whom, from where, and with what result.
//
// It promises: what changes something is recorded in the transaction of the
// change, so neither is ever there without the other; an event never changes.
//
// Limits: where an event came from can be erased, and is, with the account.
package audit

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"
)

// Outcome of what was tried.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "OK"
	Refused Outcome = "REFUSED"
)

// Event is one thing that happened.
type Event struct {
	// Type as in types.go, for example Login.
	Type    Type
	Outcome Outcome // OK when empty
	// Reason that it was refused or done for, a REASON as errors carry; may be
	// empty.
	Reason string
	// Actor is who did it, Subject whose account it concerns; zero when that
	// is not known.
	Actor, Subject uuid.UUID
	// Object is the id of what it was done to, such as a session or a key;
	// may be empty. Nothing personal.
	Object string
}

// Recorder keeps events that change nothing else, such as what was refused.
type Recorder interface {
	Record(ctx context.Context, e Event) error
}

// Client is where a call came from.
type Client struct {
	Address string // an IP address; an IPv6 one by its /64
	Device  string // the user agent as it named itself, at most 200 bytes
}

type clientKey struct{}

// WithClient returns a context whose events come from c.
func WithClient(ctx context.Context, c Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// ClientFrom returns where the events of ctx come from, the zero Client when
// that is not known, as of a job.
func ClientFrom(ctx context.Context) Client {
	c, _ := ctx.Value(clientKey{}).(Client)
	return c
}

// Digest is what an event keeps of where it came from once that is erased:
// without the salt it can't be guessed back.
func (c Client) Digest(salt []byte) []byte {
	mac := hmac.New(sha256.New, salt)
	var n [8]byte
	for _, s := range []string{c.Address, c.Device} {
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		mac.Write(n[:])
		mac.Write([]byte(s))
	}
	return mac.Sum(nil)
}
