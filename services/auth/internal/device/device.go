// Package device recognizes devices that have signed in to an account before, by a token that they keep.
//
// It promises: a token is bound to one account and one device. An invented one is told from a real one by its MAC
// alone, without a look into the database. Package session decides until when a token is
// valid. A token is no credential.
//
// Limits: whoever steals a token can try passwords in the name of that device, as often as the device.
package device

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"time"

	"github.com/google/uuid"
)

const (
	// TTL is how long a device is known after its last sign-in.
	TTL = 90 * 24 * time.Hour
	// MaxPerAccount is how many devices of an account are known: those that signed in last.
	MaxPerAccount = 20
)

// Device is a device of an account; the zero one stands for none.
type Device struct{ ID, User uuid.UUID }

// size of a token before it is encoded.
const size = 16 + 16 + sha256.Size

// Keys makes and reads the tokens of devices. It is safe for concurrent use.
type Keys struct{ macs [][]byte }

// NewKeys derives the keys from secrets, such as the key-encryption keys: tokens are made with the first, and those of
// the others are still read.
func NewKeys(secret []byte, previous ...[]byte) (*Keys, error) {
	k := &Keys{}
	for _, s := range append([][]byte{secret}, previous...) {
		key, err := hkdf.Key(sha256.New, s, nil, "purser device token", sha256.Size)
		if err != nil {
			return nil, fmt.Errorf("derive the key of device tokens: %w", err)
		}
		k.macs = append(k.macs, key)
	}
	return k, nil
}

// Token returns the token of a device: 86 characters of base64url. It is always the same.
func (k *Keys) Token(d Device) string {
	text := append(append(make([]byte, 0, size), d.ID[:]...), d.User[:]...)
	return base64.RawURLEncoding.EncodeToString(append(text, sum(k.macs[0], text)...))
}

// Read returns the device of a token; the zero one when the token is none of these keys.
func (k *Keys) Read(token string) Device {
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != size || len(token) != base64.RawURLEncoding.EncodedLen(size) { // newlines are ignored
		return Device{}
	}
	text, mac := b[:32], b[32:]
	for _, key := range k.macs {
		if hmac.Equal(sum(key, text), mac) {
			return Device{ID: uuid.UUID(text[:16]), User: uuid.UUID(text[16:])}
		}
	}
	return Device{}
}

func sum(key, text []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(text)
	return h.Sum(nil)
}

type contextKey struct{}

// With returns a context for a call from a device that has sent its token.
func With(ctx context.Context, d Device) context.Context {
	return context.WithValue(ctx, contextKey{}, d)
}

// From returns the Device of With, or the zero one.
func From(ctx context.Context) Device {
	d, _ := ctx.Value(contextKey{}).(Device)
	return d
}
