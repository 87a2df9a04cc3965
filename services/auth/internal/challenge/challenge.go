// Package challenge keeps what can be used once: the state of a sign-in at a
// provider, a code that stands for one, the nonce of a message to sign.
//
// It promises: of several that use a challenge at once one does; it is known
// by its hash alone; without an answer of the store nothing passes. One that
// was used is gone, unless what it was used for could not be decided: the
// other side was away or takes no more for now, or a second factor is missing
// or was wrong, at most five times. Then it is put back for as long as it still had,
// and used twenty times at most: others may be asked for each, who count.
package challenge

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

const (
	// wrongFactors is how many wrong second factors use a challenge up.
	wrongFactors = 5
	// mostUses is how often a challenge is used at most.
	mostUses = 20
	// forFactor is how long somebody has to find their second factor, once,
	// where a challenge doesn't live as long anyway.
	forFactor = 5 * time.Minute
)

// Store keeps single-use values; *cache.SingleUse is one.
type Store[V any] interface {
	Put(ctx context.Context, key string, v V, ttl time.Duration) error
	Take(ctx context.Context, key string) (V, bool, error)
}

// Kept is a challenge as stored.
type Kept[V any] struct {
	Value   V
	Expires time.Time
	Used    int  // how often it was put back
	Wrong   int  // second factors that were wrong
	Asked   bool // for the second factor: it was given the time for that
}

// Box is challenges of one kind. It is safe for concurrent use.
type Box[V any] struct {
	store Store[Kept[V]]
	life  time.Duration
	now   func() time.Time
}

// NewBox returns challenges that live for life.
func NewBox[V any](s Store[Kept[V]], life time.Duration, now func() time.Time) *Box[V] {
	return &Box[V]{store: s, life: life, now: now}
}

// New returns 256 random bits in base64url.
func New() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// Hash is what is kept of a secret. It is random, so a fast hash is enough.
func Hash(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// Put keeps v under a secret and says until when. errs.Unavailable
// (SIGN_IN_UNAVAILABLE) when the store gave no answer.
func (b *Box[V]) Put(ctx context.Context, secret string, v V) (time.Time, error) {
	expires := b.now().UTC().Add(b.life)
	k := Kept[V]{Value: v, Expires: expires, Asked: b.life >= forFactor}
	return expires, unavailable(b.store.Put(ctx, Hash(secret), k, b.life))
}

// Use lets use have what is kept under a secret; none is the error when there
// is nothing, because it was used, has expired or never was. Errors of use are
// returned; errs.Unavailable (SIGN_IN_UNAVAILABLE) when the store gave no
// answer.
func (b *Box[V]) Use(ctx context.Context, secret string, none error, use func(V) error) error {
	k, ok, err := b.store.Take(ctx, Hash(secret))
	if err != nil {
		return unavailable(err)
	}
	if !ok || !b.now().Before(k.Expires) {
		return none
	}
	err = use(k.Value)
	if k, again := b.again(k, err); again {
		// The caller's end must not use it up. If it is lost here, it is used:
		// they begin anew.
		_ = b.store.Put(context.WithoutCancel(ctx), Hash(secret), k, k.Expires.Sub(b.now()))
	}
	return err
}

// again says whether a challenge may be used again after err, and what is kept
// of it then.
func (b *Box[V]) again(k Kept[V], err error) (Kept[V], bool) {
	if err == nil {
		return k, false
	}
	e := errs.As(err)
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
	case e == nil:
		return k, false
	case e.Kind == errs.KindUnavailable, e.Kind == errs.KindDeadline, e.Kind == errs.KindCanceled,
		e.Kind == errs.KindExhausted:
	case e.Reason == "TOTP_REQUIRED":
		if until := b.now().UTC().Add(forFactor); !k.Asked && until.After(k.Expires) {
			k.Expires = until
		}
		k.Asked = true
	case e.Reason == "TOTP_INVALID":
		k.Wrong++
	default:
		return k, false
	}
	k.Used++
	return k, k.Wrong < wrongFactors && k.Used < mostUses && b.now().Before(k.Expires)
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return errs.Unavailable("SIGN_IN_UNAVAILABLE", "signing in this way is not possible at the moment").Because(err)
}
