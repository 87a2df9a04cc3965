// Package signing keeps the keys that sign access tokens and publishes their
// public halves.
//
// It promises: the first boot makes one ACTIVE key, which nobody can have
// cached a set without, and a PUBLISHED standby in the same transaction; a
// signer signs only with a key that it has read from the database within the
// lease; header, algorithm and key of a token come from one immutable
// snapshot; a publisher never goes back an epoch, never serves an empty set,
// and lowers the max-age it states by the age of what it knows.
//
// Limits: keys are not rotated yet; what a later rotation needs (epoch,
// states, standby) is in the schema.
package signing

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/golang-jwt/jwt/v5"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// Policy is the times that signing and publishing keep.
type Policy struct {
	// MaxAge that the key set may be kept for.
	MaxAge time.Duration `env:"JWKS_MAX_AGE" envDefault:"5m"`
	// Poll is how often a replica reads the ring.
	Poll time.Duration `env:"POLL" envDefault:"10s"`
	// Lease is how long after a read the active key may sign.
	Lease time.Duration `env:"SIGNER_LEASE" envDefault:"1m"`
}

// Validate reports every mistake in p.
func (p Policy) Validate() error {
	var mistakes []error
	if p.Poll <= 0 || p.Lease < 2*p.Poll {
		mistakes = append(mistakes, errors.New("PURSER_KEYS_SIGNER_LEASE must be at least twice PURSER_KEYS_POLL, which must be above 0"))
	}
	if p.MaxAge < 2*p.Poll || p.MaxAge < 2*time.Second {
		mistakes = append(mistakes, errors.New("PURSER_KEYS_JWKS_MAX_AGE must be at least twice PURSER_KEYS_POLL, and 2s"))
	}
	return errors.Join(mistakes...)
}

// Store is where the ring is kept.
type Store interface {
	// Bootstrap stores the first keys of an issuer and makes its epoch 1. It
	// does nothing when the issuer has an epoch above 0 already; of two that
	// race, one does.
	Bootstrap(ctx context.Context, issuer string, first []Key) error
	// Load returns the epoch and the keys that are in the set.
	Load(ctx context.Context, issuer string) (epoch int64, keys []Key, err error)
}

// Ring signs tokens and publishes keys. It is safe for concurrent use.
type Ring struct {
	issuer string
	policy Policy
	store  Store
	sealer *Sealer
	log    *slog.Logger
	now    func() time.Time
	state  atomic.Pointer[snapshot]
}

// snapshot is one reading of the ring; never changed.
type snapshot struct {
	epoch   int64
	readAt  time.Time
	kid     string
	private ed25519.PrivateKey
	public  map[string]authn.Key
	set     jose.JSONWebKeySet
	doc     []byte
	etag    string
}

// NewRing returns a ring that knows no key until Refresh.
func NewRing(issuer string, p Policy, store Store, sealer *Sealer, log *slog.Logger) *Ring {
	return &Ring{issuer: issuer, policy: p, store: store, sealer: sealer, log: log, now: time.Now}
}

// Keep bootstraps the ring and reads it every Poll until ctx ends; while it
// has never been read, every second.
func (r *Ring) Keep(ctx context.Context) error {
	for {
		wait := r.policy.Poll
		if err := r.Refresh(ctx); err != nil && ctx.Err() == nil {
			r.log.Warn("key ring can't be read", "error", err)
			wait = min(wait, time.Second)
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// Refresh reads the ring once, and bootstraps it when it has no keys.
func (r *Ring) Refresh(ctx context.Context) error {
	begun := r.now()
	epoch, keys, err := r.store.Load(ctx, r.issuer)
	if err != nil {
		return err
	}
	if epoch == 0 {
		if err := r.bootstrap(ctx); err != nil {
			return err
		}
		begun = r.now()
		if epoch, keys, err = r.store.Load(ctx, r.issuer); err != nil {
			return err
		}
	}
	s, err := r.read(epoch, keys, begun)
	if err != nil {
		return err
	}
	r.adopt(s)
	return nil
}

func (r *Ring) bootstrap(ctx context.Context) error {
	active, err := generate(r.sealer, r.issuer, Active)
	if err != nil {
		return err
	}
	standby, err := generate(r.sealer, r.issuer, Published)
	if err != nil {
		return err
	}
	return r.store.Bootstrap(ctx, r.issuer, []Key{active, standby})
}

func (r *Ring) read(epoch int64, keys []Key, at time.Time) (*snapshot, error) {
	s := &snapshot{epoch: epoch, readAt: at, public: map[string]authn.Key{}}
	for _, k := range keys {
		s.public[k.KID] = authn.Key{Algorithm: k.Algorithm, Public: k.Public}
		s.set.Keys = append(s.set.Keys, jose.JSONWebKey{Key: k.Public, KeyID: k.KID, Algorithm: k.Algorithm, Use: "sig"})
		if k.State != Active {
			continue
		}
		private, err := k.private(r.sealer, r.issuer)
		if err != nil {
			return nil, err
		}
		s.kid, s.private = k.KID, private
	}
	if len(s.set.Keys) == 0 {
		return nil, fmt.Errorf("key ring of %s at epoch %d has no key to publish", r.issuer, epoch)
	}
	doc, err := json.Marshal(s.set)
	if err != nil {
		return nil, fmt.Errorf("key set: %w", err)
	}
	s.doc, s.etag = doc, etagOf(doc)
	return s, nil
}

// adopt takes s unless a later epoch, or a later reading, is known.
func (r *Ring) adopt(s *snapshot) {
	for {
		old := r.state.Load()
		if old != nil && (old.epoch > s.epoch || old.epoch == s.epoch && old.readAt.After(s.readAt)) {
			return
		}
		if r.state.CompareAndSwap(old, s) {
			return
		}
	}
}

// Sign signs claims as an access token, and sets their issuer, audience and
// times: issued now, good for ttl. The clock is read once, for the lease and
// for the token.
//
// errs.Unavailable (SIGNING_UNAVAILABLE) when the ring has not been read
// within the lease.
func (r *Ring) Sign(c authn.Claims, ttl time.Duration) (token string, expires time.Time, err error) {
	s, now := r.state.Load(), r.now()
	if s == nil || s.private == nil || now.Sub(s.readAt) >= r.policy.Lease {
		return "", time.Time{}, errs.Unavailable("SIGNING_UNAVAILABLE", "tokens can't be signed now")
	}
	expires = now.Add(ttl).Truncate(time.Second)
	c.Issuer, c.Audience = r.issuer, jwt.ClaimStrings{authn.Audience}
	c.IssuedAt, c.NotBefore = jwt.NewNumericDate(now), jwt.NewNumericDate(now)
	c.ExpiresAt = jwt.NewNumericDate(expires)
	t := jwt.NewWithClaims(jwt.SigningMethodEdDSA, c)
	t.Header["typ"], t.Header["kid"] = authn.TokenType, s.kid
	token, err = t.SignedString(s.private)
	if err != nil {
		return "", time.Time{}, fmt.Errorf("sign: %w", err)
	}
	return token, expires, nil
}

// KeySet is what is published.
type KeySet struct {
	Keys []jose.JSONWebKey
	// Document is the set as JSON (RFC 7517), ETag its strong validator.
	Document []byte
	ETag     string
	Epoch    int64
	// MaxAge that a reader may keep it for, above zero.
	MaxAge time.Duration
}

// Published returns the key set, and false when none may be served: before
// the first reading, and when the last one is older than MaxAge.
func (r *Ring) Published() (KeySet, bool) {
	s := r.state.Load()
	if s == nil {
		return KeySet{}, false
	}
	age := max(0, r.now().Sub(s.readAt)-r.policy.Poll)
	left := (r.policy.MaxAge - age).Truncate(time.Second)
	if left <= 0 {
		return KeySet{}, false
	}
	return KeySet{Keys: s.set.Keys, Document: s.doc, ETag: s.etag, Epoch: s.epoch, MaxAge: left}, true
}

// Key implements authn.KeySource: this service verifies with its own ring.
func (r *Ring) Key(_ context.Context, kid string) (authn.Key, error) {
	s := r.state.Load()
	if s == nil {
		return authn.Key{}, errs.Unavailable("KEYS_UNAVAILABLE", "the key ring has not been read yet")
	}
	k, ok := s.public[kid]
	if !ok {
		return authn.Key{}, authn.ErrUnknownKey
	}
	return k, nil
}
