// Package challenge stores single-use secrets: the state of a sign-in at a
// provider, a login code, the nonce of a message to sign.
//
// It promises: of concurrent uses of one challenge only one gets its value; only a
// hash of the secret is stored; while the store is unavailable every use fails. A
// used challenge is deleted, unless its use failed for a reason that a retry can
// cure: something was unavailable or busy, or the second factor was missing or
// wrong. Then it is stored again for the rest of its lifetime. That ends after
// maxWrongCodes wrong second factors, or maxUses uses, because each use can cost a
// call to a third party.
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
	// maxWrongCodes is how many wrong second factors a challenge allows.
	maxWrongCodes = 5
	// maxUses is how often a challenge can be used if its uses fail.
	maxUses = 20
	// secondFactorTTL is the minimal lifetime of a challenge after it was first
	// used without a required second factor, so that the user can enter one.
	secondFactorTTL = 5 * time.Minute
)

// Store stores single-use values; *cache.SingleUse is one. It is safe for concurrent
// use.
type Store[V any] interface {
	// Put stores v for ttl; Take returns and deletes it, and false when there
	// is none.
	Put(ctx context.Context, key string, v V, ttl time.Duration) error
	Take(ctx context.Context, key string) (V, bool, error)
}

// Stored is a challenge as it is stored.
type Stored[V any] struct {
	Value    V
	Expires  time.Time
	Used     int  // how often it was put back
	Wrong    int  // second factors that were wrong
	Extended bool // has got secondFactorTTL already
}

// Registry holds the challenges of one kind. It is safe for concurrent use.
type Registry[V any] struct {
	store Store[Stored[V]]
	ttl   time.Duration
	now   func() time.Time
}

// NewRegistry returns a registry whose challenges expire after ttl.
func NewRegistry[V any](s Store[Stored[V]], ttl time.Duration, now func() time.Time) *Registry[V] {
	return &Registry[V]{store: s, ttl: ttl, now: now}
}

// New returns a secret: 256 random bits in base64url.
func New() string {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	return base64.RawURLEncoding.EncodeToString(b)
}

// Hash returns the key that a secret is stored by. The secret is random, so a fast
// hash is sufficient.
func Hash(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return base64.RawURLEncoding.EncodeToString(h[:])
}

// Put stores v under a secret and returns when it expires. errs.Unavailable
// (SIGN_IN_UNAVAILABLE) when the store fails.
func (r *Registry[V]) Put(ctx context.Context, secret string, v V) (time.Time, error) {
	expires := r.now().UTC().Add(r.ttl)
	k := Stored[V]{Value: v, Expires: expires, Extended: r.ttl >= secondFactorTTL}
	return expires, unavailable(r.store.Put(ctx, Hash(secret), k, r.ttl))
}

// Use passes the value that is stored under a secret to use, and returns use's
// error; or it returns none when there is no value, because it was used, has
// expired or never existed. errs.Unavailable (SIGN_IN_UNAVAILABLE) when the store
// fails.
func (r *Registry[V]) Use(ctx context.Context, secret string, none error, use func(V) error) error {
	k, ok, err := r.store.Take(ctx, Hash(secret))
	if failed := (*claimError)(nil); errors.As(err, &failed) {
		return failed.Unwrap()
	}
	if err != nil {
		return unavailable(err)
	}
	if !ok || !r.now().Before(k.Expires) {
		return none
	}
	err = use(k.Value)
	if k, reusable := r.afterFailure(k, err); reusable {
		// The end of the caller's context must not prevent this. If it fails, the
		// challenge is lost, and the user starts again.
		_ = r.store.Put(context.WithoutCancel(ctx), Hash(secret), k, k.Expires.Sub(r.now()))
	}
	return err
}

// afterFailure reports whether a challenge may be used again after err, and
// returns what to store for that.
func (r *Registry[V]) afterFailure(k Stored[V], err error) (Stored[V], bool) {
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
		if until := r.now().UTC().Add(secondFactorTTL); !k.Extended && until.After(k.Expires) {
			k.Expires = until
		}
		k.Extended = true
	case e.Reason == "TOTP_INVALID":
		k.Wrong++
	default:
		return k, false
	}
	k.Used++
	return k, k.Wrong < maxWrongCodes && k.Used < maxUses && r.now().Before(k.Expires)
}

func unavailable(err error) error {
	if err == nil {
		return nil
	}
	return errs.Unavailable("SIGN_IN_UNAVAILABLE", "this way of signing in is unavailable at the moment").Because(err)
}
