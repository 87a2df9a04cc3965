// Package signing signs access tokens, publishes the key set (JWKS) that they are
// verified with, and rotates the keys.
//
// All keys of an issuer form a ring in the database. Its epoch is raised by each
// change.
//
// It promises: the first start of any replica creates one ACTIVE key and one
// STANDBY key in one transaction; a key becomes ACTIVE only after every verifier
// had the time to fetch it, unless the active key was revoked; a replica signs
// only with a key that it read from the database within Policy.Lease; a token's
// header, algorithm and key come from one immutable snapshot; the published set
// never returns to an older epoch, is never empty, and its max-age is reduced by
// the age of the snapshot.
//
// Limits: private keys are sealed at rest, but are in the memory of every
// replica that signs. A verifier that ignores max-age can miss a new key.
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
	"github.com/purserhq/purser/services/internal/seal"
)

// Policy is the configuration of signing, publishing and rotation.
type Policy struct {
	// MaxAge is how long a verifier may cache the key set (Cache-Control).
	MaxAge time.Duration `env:"JWKS_MAX_AGE" envDefault:"5m"`
	// Poll is the interval in which a replica reads the ring.
	Poll time.Duration `env:"POLL" envDefault:"10s"`
	// Lease is how long after a read of the ring the active key may sign.
	Lease time.Duration `env:"SIGNER_LEASE" envDefault:"1m"`
	// Skew is the maximal difference between a replica's clock and the
	// database's. Verifiers allow at least that leeway.
	Skew time.Duration `env:"CLOCK_SKEW" envDefault:"30s"`
	// Period is how long a key is ACTIVE.
	Period time.Duration `env:"ROTATION_PERIOD" envDefault:"24h"`
	// Cron is the schedule of the job that makes the steps that are due.
	Cron string `env:"ROTATION_CRON" envDefault:"*/5 * * * *"`
	// Algorithm of the keys that are created from now on.
	Algorithm string `env:"ALGORITHM" envDefault:"EdDSA"`
	// TokenTTL is the maximal lifetime of a token, from the sessions' policy.
	TokenTTL time.Duration `env:"-"`
}

// PropagationTime is how long after its publication a key is known to every
// verifier that respects max-age.
func (p Policy) PropagationTime() time.Duration { return p.Poll + p.MaxAge + p.Skew }

// eraseAfter is how long after a key became RETIRING its private half is erased:
// no replica's lease on it can last longer. retireAfter is how long after that
// moment the key leaves the set: no token that it signed can be valid longer.
func (p Policy) eraseAfter() time.Duration  { return p.Lease + p.Skew }
func (p Policy) retireAfter() time.Duration { return p.Lease + p.TokenTTL + 2*p.Skew }

// algorithm is Algorithm, or EdDSA when that is empty.
func (p Policy) algorithm() string { return cmp.Or(p.Algorithm, EdDSA) }

// Validate returns every invalid setting of p as one error.
func (p Policy) Validate() error {
	var failures []error
	if p.Poll <= 0 || p.Lease < 2*p.Poll {
		failures = append(failures, errors.New(
			"PURSER_KEYS_SIGNER_LEASE must be at least twice PURSER_KEYS_POLL, which must be above 0"))
	}
	if p.MaxAge < 2*p.Poll || p.MaxAge < 2*time.Second {
		failures = append(failures, errors.New(
			"PURSER_KEYS_JWKS_MAX_AGE must be at least twice PURSER_KEYS_POLL, and 2s"))
	}
	if p.Skew < 0 || p.Skew > authn.Leeway {
		failures = append(failures, fmt.Errorf(
			"PURSER_KEYS_CLOCK_SKEW must be 0 to %s, the leeway that verifiers give", authn.Leeway))
	}
	if p.Period < p.PropagationTime() {
		failures = append(failures, fmt.Errorf(
			"PURSER_KEYS_ROTATION_PERIOD must be at least PURSER_KEYS_POLL + PURSER_KEYS_JWKS_MAX_AGE + "+
				"PURSER_KEYS_CLOCK_SKEW, %s: the next key has to be known to every verifier before it signs",
			p.PropagationTime()))
	}
	if !slices.Contains(Algorithms(), p.algorithm()) {
		failures = append(failures, fmt.Errorf("PURSER_KEYS_ALGORITHM must be one of %s",
			strings.Join(Algorithms(), ", ")))
	}
	if p.TokenTTL <= 0 {
		failures = append(failures, errors.New("PURSER_ACCESS_TTL must be above 0"))
	}
	return errors.Join(failures...)
}

// Store is the database of the ring.
type Store interface {
	// Bootstrap stores the first keys of an issuer and sets its epoch to 1. It
	// does nothing when the epoch is above 0 already, so of concurrent calls
	// one takes effect.
	Bootstrap(ctx context.Context, issuer string, keys []Key) error
	// Load returns a consistent reading of the ring; epoch 0 and no keys when
	// it does not exist yet.
	Load(ctx context.Context, issuer string) (Reading, error)
}

// Reading is the state of a ring at one moment.
type Reading struct {
	Epoch int64
	Keys  []Key // STANDBY, ACTIVE and RETIRING
	// Now is that moment, by the database's clock.
	Now time.Time
}

// Ring signs tokens and publishes the key set from the snapshot that it read
// last. It is safe for concurrent use.
type Ring struct {
	issuer     string
	policy     Policy
	store      Store
	sealer     *seal.Sealer
	log        *slog.Logger
	now        func() time.Time
	state      atomic.Pointer[snapshot]
	refreshNow chan struct{}
	cache      Cache // nil for none
}

// snapshot is what a Ring derives from one reading; immutable.
type snapshot struct {
	epoch  int64
	readAt time.Time // when the database was read; the lease starts here
	// setReadAt is when the published set was read from the database, by this
	// replica or, through the cache, by another.
	setReadAt   time.Time
	skew        time.Duration // lower bound of the clocks' difference
	databaseNow time.Time     // the database's clock at the reading
	localNow    time.Time     // this process's clock after the reading
	kid         string
	private     crypto.Signer
	method      jwt.SigningMethod
	public      map[string]authn.Key
	set         jose.JSONWebKeySet
	nextStepAt  time.Time // when the next step is due, by this process's clock
	document    []byte
	etag        string
}

// NewRing returns a ring. It can neither sign nor publish before Refresh.
func NewRing(issuer string, p Policy, store Store, sealer *seal.Sealer, log *slog.Logger) *Ring {
	return &Ring{issuer: issuer, policy: p, store: store, sealer: sealer, log: log, now: time.Now,
		refreshNow: make(chan struct{}, 1)}
}

// Run calls Refresh every Poll, and when TriggerRefresh is called, until ctx
// ends. After a failure it retries within a second.
func (r *Ring) Run(ctx context.Context) error {
	defer r.registerGauges()()
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
		case <-r.refreshNow:
			timer.Stop()
		}
	}
}

// TriggerRefresh makes Run read the ring immediately. It does not block.
func (r *Ring) TriggerRefresh() {
	select {
	case r.refreshNow <- struct{}{}:
	default: // a refresh is pending already
	}
}

// Refresh reads the ring once, and creates its first keys when it does not exist.
// When the database is unavailable, it reads the cache and returns the database's
// error all the same.
func (r *Ring) Refresh(ctx context.Context) error {
	begun := r.now()
	reading, err := r.store.Load(ctx, r.issuer)
	if err != nil {
		return errors.Join(err, r.readCache(ctx))
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
	s.databaseNow, s.localNow = reading.Now, r.now()
	s.skew = skew(s.databaseNow, begun, s.localNow)
	r.adopt(s)
	r.writeCache(ctx, s, reading.Now)
	return nil
}

// skew is a lower bound of the difference between two clocks: one that showed at
// while the other went from before to after.
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
	standby, err := generate(r.sealer, r.issuer, Standby, r.policy.algorithm())
	if err != nil {
		return err
	}
	return r.store.Bootstrap(ctx, r.issuer, []Key{active, standby})
}

func (r *Ring) read(reading Reading, at time.Time) (*snapshot, error) {
	s := &snapshot{epoch: reading.Epoch, readAt: at, setReadAt: at, nextStepAt: r.nextStepAt(reading, at),
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
	s.document, s.etag = doc, etagOf(doc)
	return s, nil
}

// adopt replaces the snapshot by s, unless the current one is of a later epoch or
// a later reading.
func (r *Ring) adopt(s *snapshot) {
	for {
		old := r.state.Load()
		if old != nil && (old.epoch > s.epoch ||
			old.epoch == s.epoch && (old.setReadAt.After(s.setReadAt) || old.readAt.After(s.readAt))) {
			return
		}
		if r.state.CompareAndSwap(old, s) {
			return
		}
	}
}

// Sign signs claims as an access token after setting issuer, audience and times.
// The token is issued now and valid for the lesser of ttl and Policy.TokenTTL,
// because its key stays in the set for that long only.
//
// The times are the database's clock, estimated from the last reading and never
// ahead of it. So all of Skew is left for the verifiers' clocks, and the iat of a
// token that was issued before a revocation is before the revocation.
//
// errs.Unavailable: SIGNING_UNAVAILABLE when the ring was not read within Lease,
// CLOCK_SKEWED when this process's clock differs from the database's by more
// than Skew.
func (r *Ring) Sign(c authn.Claims, ttl time.Duration) (token string, expires time.Time, err error) {
	s, now := r.state.Load(), r.now()
	if s == nil || s.private == nil || now.Sub(s.readAt) >= r.policy.Lease {
		return "", time.Time{}, errs.Unavailable("SIGNING_UNAVAILABLE", "tokens can't be signed now")
	}
	if s.skew > r.policy.Skew {
		return "", time.Time{}, errs.Unavailable("CLOCK_SKEWED",
			"tokens can't be signed while this server's clock is wrong").
			Because(fmt.Errorf("the clock differs from the database's by %s", s.skew))
	}
	issued := s.databaseNow.Add(now.Sub(s.localNow))
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

// KeySet is the published key set.
type KeySet struct {
	Keys []jose.JSONWebKey
	// Document is the set as JSON (RFC 7517), ETag its strong validator.
	Document []byte
	ETag     string
	Epoch    int64
	// MaxAge is how long a reader may cache the set: whole seconds, above zero.
	MaxAge time.Duration
}

// Published returns the key set, and false when none may be served: before the
// first reading, and when the last one is older than MaxAge.
func (r *Ring) Published() (KeySet, bool) {
	s := r.state.Load()
	if s == nil {
		return KeySet{}, false
	}
	age := max(0, r.now().Sub(s.setReadAt)-r.policy.Poll)
	left := (r.policy.MaxAge - age).Truncate(time.Second)
	if left <= 0 {
		return KeySet{}, false
	}
	return KeySet{Keys: s.set.Keys, Document: s.document, ETag: s.etag, Epoch: s.epoch, MaxAge: left}, true
}

// Key implements authn.KeySource, so that auth verifies tokens by its own ring.
// errs.Unavailable (KEYS_UNAVAILABLE) before the first reading.
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
