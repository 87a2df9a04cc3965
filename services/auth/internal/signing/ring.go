// Package signing keeps the keys that sign access tokens and publishes their
// public halves.
//
// It promises: the first boot makes one ACTIVE key, which nobody can have
// cached a set without, and a PUBLISHED standby in the same transaction; a
// signer signs only with a key that it has read from the database within the
// lease; header, algorithm and key of a token come from one immutable
// snapshot; a publisher never goes back an epoch, never serves an empty set,
// and lowers the max-age it states by the age of what it knows.
package signing

import (
	"cmp"
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
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
	// Skew is how far a replica's clock may be from the database's, and the
	// leeway that verifiers give.
	Skew time.Duration `env:"CLOCK_SKEW" envDefault:"30s"`
	// Period that a key signs for.
	Period time.Duration `env:"ROTATION_PERIOD" envDefault:"24h"`
	// Cron is when it is looked at whether something is due.
	Cron string `env:"ROTATION_CRON" envDefault:"*/5 * * * *"`
	// Algorithm of the keys that are made from now on.
	Algorithm string `env:"ALGORITHM" envDefault:"EdDSA"`
	// TokenTTL is the longest life of a token; of the sessions' policy.
	TokenTTL time.Duration `env:"-"`
}

// KnownAfter is how long after its publication every verifier that keeps to
// the max-age knows a key.
func (p Policy) KnownAfter() time.Duration { return p.Poll + p.MaxAge + p.Skew }

// shredAfter is how long after a key began to retire no signer's lease on it
// can be alive, and retireAfter how long the last token that it signed can be
// good.
func (p Policy) shredAfter() time.Duration  { return p.Lease + p.Skew }
func (p Policy) retireAfter() time.Duration { return p.Lease + p.TokenTTL + 2*p.Skew }

// algorithm is EdDSA unless set.
func (p Policy) algorithm() string { return cmp.Or(p.Algorithm, EdDSA) }

// Validate reports every mistake in p.
func (p Policy) Validate() error {
	var mistakes []error
	if p.Poll <= 0 || p.Lease < 2*p.Poll {
		mistakes = append(mistakes, errors.New(
			"PURSER_KEYS_SIGNER_LEASE must be at least twice PURSER_KEYS_POLL, which must be above 0"))
	}
	if p.MaxAge < 2*p.Poll || p.MaxAge < 2*time.Second {
		mistakes = append(mistakes, errors.New(
			"PURSER_KEYS_JWKS_MAX_AGE must be at least twice PURSER_KEYS_POLL, and 2s"))
	}
	if p.Skew < 0 || p.Skew > authn.Leeway {
		mistakes = append(mistakes, fmt.Errorf(
			"PURSER_KEYS_CLOCK_SKEW must be 0 to %s, the leeway that verifiers give", authn.Leeway))
	}
	if p.Period < p.KnownAfter() {
		mistakes = append(mistakes, fmt.Errorf(
			"PURSER_KEYS_ROTATION_PERIOD must be at least PURSER_KEYS_POLL + PURSER_KEYS_JWKS_MAX_AGE + "+
				"PURSER_KEYS_CLOCK_SKEW, %s: the next key has to be known to every verifier before it signs",
			p.KnownAfter()))
	}
	if !slices.Contains(Algorithms(), p.algorithm()) {
		mistakes = append(mistakes, fmt.Errorf("PURSER_KEYS_ALGORITHM must be one of %s",
			strings.Join(Algorithms(), ", ")))
	}
	if p.TokenTTL <= 0 {
		mistakes = append(mistakes, errors.New("PURSER_ACCESS_TTL must be above 0"))
	}
	return errors.Join(mistakes...)
}

// Store is where the ring is kept.
type Store interface {
	// Bootstrap stores the first keys of an issuer and makes its epoch 1. It
	// does nothing when the issuer has an epoch above 0 already; of two that
	// race, one does.
	Bootstrap(ctx context.Context, issuer string, first []Key) error
	// Load returns the ring as of one moment; epoch 0 and no keys when there
	// is none yet.
	Load(ctx context.Context, issuer string) (Reading, error)
}

// Reading is a ring as of one moment.
type Reading struct {
	Epoch int64
	Keys  []Key // those in the set
	// Now is the database's clock.
	Now time.Time
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
	wake   chan struct{}
	cache  Cache // nil for none
}

// snapshot is one reading of the ring; never changed.
type snapshot struct {
	epoch   int64
	readAt  time.Time     // of the database: the lease to sign
	heardAt time.Time     // when the set was known to be the database's
	skew    time.Duration // of this process's clock against the database's, at least
	at      time.Time     // by the database's clock, no later than
	atHere  time.Time     // this moment by this process's
	kid     string
	private crypto.Signer
	method  jwt.SigningMethod
	public  map[string]authn.Key
	set     jose.JSONWebKeySet
	next    time.Time // when something is due of the ring
	doc     []byte
	etag    string
}

// NewRing returns a ring that knows no key until Refresh.
func NewRing(issuer string, p Policy, store Store, sealer *Sealer, log *slog.Logger) *Ring {
	return &Ring{issuer: issuer, policy: p, store: store, sealer: sealer, log: log, now: time.Now,
		wake: make(chan struct{}, 1)}
}

// Keep bootstraps the ring and reads it every Poll until ctx ends; while it
// has never been read, every second.
func (r *Ring) Keep(ctx context.Context) error {
	defer r.observe()()
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
		case <-r.wake:
			timer.Stop()
		}
	}
}

// Wake has Keep read the ring at once. It doesn't wait for it.
func (r *Ring) Wake() {
	select {
	case r.wake <- struct{}{}:
	default: // it is about to
	}
}

// Refresh reads the ring once, and bootstraps it when it has no keys.
func (r *Ring) Refresh(ctx context.Context) error {
	begun := r.now()
	reading, err := r.store.Load(ctx, r.issuer)
	if err != nil {
		return errors.Join(err, r.hear(ctx))
	}
	if reading.Epoch == 0 {
		if err := r.bootstrap(ctx); err != nil {
			return err
		}
		begun = r.now()
		if reading, err = r.store.Load(ctx, r.issuer); err != nil {
			return err
		}
	}
	s, err := r.read(reading, begun)
	if err != nil {
		return err
	}
	s.at, s.atHere = reading.Now, r.now()
	s.skew = skew(s.at, begun, s.atHere)
	r.adopt(s)
	r.share(ctx, s, reading.Now)
	return nil
}

// skew is how far a clock that read before and after is at least from one that
// read at in between.
func skew(at, before, after time.Time) time.Duration {
	switch {
	case at.Before(before):
		return before.Sub(at)
	case at.After(after):
		return at.Sub(after)
	}
	return 0
}

func (r *Ring) bootstrap(ctx context.Context) error {
	active, err := generate(r.sealer, r.issuer, Active, r.policy.algorithm())
	if err != nil {
		return err
	}
	standby, err := generate(r.sealer, r.issuer, Published, r.policy.algorithm())
	if err != nil {
		return err
	}
	return r.store.Bootstrap(ctx, r.issuer, []Key{active, standby})
}

func (r *Ring) read(reading Reading, at time.Time) (*snapshot, error) {
	s := &snapshot{epoch: reading.Epoch, readAt: at, heardAt: at, next: r.expect(reading, at),
		public: map[string]authn.Key{}}
	for _, k := range reading.Keys {
		public, err := decodePublic(k.Algorithm, k.Public)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", k.KID, err)
		}
		s.public[k.KID] = authn.Key{Algorithm: k.Algorithm, Public: public}
		s.set.Keys = append(s.set.Keys, jose.JSONWebKey{Key: public, KeyID: k.KID, Algorithm: k.Algorithm, Use: "sig"})
		if k.State != Active {
			continue
		}
		private, err := k.private(r.sealer, r.issuer)
		if err != nil {
			return nil, err
		}
		if s.method, err = methodOf(k.Algorithm); err != nil {
			return nil, err
		}
		s.kid, s.private = k.KID, private
	}
	if len(s.set.Keys) == 0 {
		return nil, fmt.Errorf("key ring of %s at epoch %d has no key to publish", r.issuer, reading.Epoch)
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
		if old != nil && (old.epoch > s.epoch ||
			old.epoch == s.epoch && (old.heardAt.After(s.heardAt) || old.readAt.After(s.readAt))) {
			return
		}
		if r.state.CompareAndSwap(old, s) {
			return
		}
	}
}

// Sign signs claims as an access token, and sets their issuer, audience and
// times: issued now, good for ttl, or the policy's TokenTTL if that is less,
// for its key stays in the set no longer than such a token lives. The clock is
// read once, for the lease and for the token, whose times are the database's
// and not ahead of it: all of Skew is left to who verifies, and what is revoked
// as of a moment can't have been issued past it.
//
// errs.Unavailable: SIGNING_UNAVAILABLE when the ring has not been read within
// the lease, CLOCK_SKEWED when this process's clock is too far from the
// database's.
func (r *Ring) Sign(c authn.Claims, ttl time.Duration) (token string, expires time.Time, err error) {
	s, now := r.state.Load(), r.now()
	if s == nil || s.private == nil || now.Sub(s.readAt) >= r.policy.Lease {
		return "", time.Time{}, errs.Unavailable("SIGNING_UNAVAILABLE", "tokens can't be signed now")
	}
	if s.skew > r.policy.Skew {
		return "", time.Time{}, errs.Unavailable("CLOCK_SKEWED", "tokens can't be signed by a clock that is wrong").
			Because(fmt.Errorf("the clock is %s from the database's", s.skew))
	}
	issued := s.at.Add(now.Sub(s.atHere))
	expires = issued.Add(min(ttl, r.policy.TokenTTL)).Truncate(time.Second)
	c.Issuer, c.Audience = r.issuer, jwt.ClaimStrings{authn.Audience}
	c.IssuedAt, c.NotBefore = jwt.NewNumericDate(issued), jwt.NewNumericDate(issued)
	c.ExpiresAt = jwt.NewNumericDate(expires)
	t := jwt.NewWithClaims(s.method, c)
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
	age := max(0, r.now().Sub(s.heardAt)-r.policy.Poll)
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
