// Package audit defines the audit log of security events: who did what to which
// account, from where, and with what outcome.
//
// It promises: a change and its event are committed in one transaction; an event
// never changes; events are sealed in a hash chain (see Chain).
//
// Limits: the client's IP address and user agent can be erased, and are erased with the
// account.
package audit

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/google/uuid"
)

// Outcome of an action.
type Outcome string

// The outcomes.
const (
	OK      Outcome = "OK"
	Refused Outcome = "REFUSED"
)

// Event is an entry of the audit log.
type Event struct {
	// Type is one of the constants, such as Login.
	Type    Type
	Outcome Outcome // OK when empty
	// Reason is why the action was refused or done, in UPPER_SNAKE like the
	// reasons of errors; may be empty.
	Reason string
	// Actor is the user or service account that acted, Subject the account that
	// the event concerns; zero when unknown.
	Actor, Subject uuid.UUID
	// Object is the id of what was acted on, such as a session or a key; may be
	// empty. It must not contain personal data, because it is never erased.
	Object string
	// Notice adds to the mail that tells the owner of the account of the event, if
	// one does. It is not recorded.
	Notice Notice
}

// Notice is what a mail about an event says beside the event.
type Notice struct {
	// Details are lines of the text, in words of this program only.
	Details []string
	// Also is another address that is told, verified like the account's.
	Also string
}

// Recorder records events that come with no change, such as refusals.
type Recorder interface {
	Record(ctx context.Context, e Event) error
}

// Client identifies where a call came from.
type Client struct {
	IPAddress string // an IP address; an IPv6 one by its /64
	UserAgent string // the user agent as it named itself, at most 200 bytes
}

type clientKey struct{}

// WithClient returns a context in which events are recorded with c.
func WithClient(ctx context.Context, c Client) context.Context {
	return context.WithValue(ctx, clientKey{}, c)
}

// ClientFrom returns the Client of WithClient, or the zero Client, as in a job.
func ClientFrom(ctx context.Context) Client {
	c, _ := ctx.Value(clientKey{}).(Client)
	return c
}

// Digest returns the salted HMAC-SHA-256 of c, which the hash chain covers instead
// of c. Once c and the salt are erased, it can't be reversed by guessing.
func (c Client) Digest(salt []byte) []byte {
	mac := hmac.New(sha256.New, salt)
	var n [8]byte
	for _, s := range []string{c.IPAddress, c.UserAgent} {
		binary.BigEndian.PutUint64(n[:], uint64(len(s)))
		mac.Write(n[:])
		mac.Write([]byte(s))
	}
	return mac.Sum(nil)
}
