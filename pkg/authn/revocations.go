package authn

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

const (
	// maxRevoked bounds the revocations that are kept; that many take some 100 MB.
	maxRevoked = 1_000_000
	// maxRetention bounds how long a revocation is kept, whatever the issuer says:
	// a token is valid for at most a day, and a key set for an hour without its
	// issuer.
	maxRetention = 25 * time.Hour
	// forgetInterval is the time between two searches for expired revocations.
	forgetInterval = 30 * time.Second
)

// The values of Revoked.Kind.
const (
	RevokedKey     = "KEY"
	RevokedSession = "SESSION"
	RevokedUser    = "USER"
)

// Revoked is a key, session or user whose tokens are refused. It is an alias of
// an unnamed struct so that the contracts' module can make one without importing
// this package.
type Revoked = struct {
	// Kind is RevokedKey, RevokedSession or RevokedUser. Subject is the key's kid,
	// or the id of the session or the user.
	Kind, Subject string
	// IssuedUntil limits a user's revocation to tokens that were issued at or
	// before it: the user may have been enabled again after that.
	IssuedUntil time.Time
	// Until is when the last of these tokens has expired.
	Until time.Time
}

// RevocationUpdate is one message of the issuer.
type RevocationUpdate = struct {
	// Epoch of the key set; rises with every change of it.
	Epoch   int64
	Revoked []Revoked
	// CaughtUp: this update and those before it contain all that is revoked now.
	CaughtUp bool
}

// Revocations keeps what the issuer has revoked, for Options.Revoked, and follows
// its stream of updates. It promises: a revocation takes effect as soon as it is
// received, without a call waiting for it, and lasts until the tokens it concerns
// have expired; no later update and no failure of the stream takes it back.
// Memory is bounded, whatever the issuer sends. It is safe for concurrent use.
//
// Limits: while no updates arrive (authn_revocations_age_seconds is for how long)
// a token that is revoked in that time stays valid until it expires.
type Revocations struct {
	log     *slog.Logger
	now     func() time.Time
	changed func()

	mu         sync.RWMutex
	epoch      int64
	keys       map[string]time.Time // the time until which it is kept
	sessions   map[uuid.UUID]time.Time
	users      map[uuid.UUID]userRevoked
	lastForget time.Time // the last search for expired revocations
	caughtUpAt time.Time // when the last update with CaughtUp arrived
	fullLogged bool      // since lastForget
	limit      int       // maxRevoked, less in tests
}

type userRevoked struct{ issuedUntil, until time.Time }

// NewRevocations returns Revocations without any. changed is called when the key
// set has changed or a key was revoked, and must not block: pass
// RemoteKeys.Refetch, or nil.
func NewRevocations(changed func(), log *slog.Logger) *Revocations {
	if changed == nil {
		changed = func() {}
	}
	return &Revocations{
		log: log, now: time.Now, changed: changed, limit: maxRevoked,
		keys: map[string]time.Time{}, sessions: map[uuid.UUID]time.Time{}, users: map[uuid.UUID]userRevoked{},
		caughtUpAt: time.Now(), // so that Age counts from the start
	}
}

// Revoked implements Options.Revoked.
func (r *Revocations) Revoked(kid string, c Caller) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if _, ok := r.keys[kid]; ok {
		return true
	}
	if _, ok := r.sessions[c.SessionID]; ok {
		return true
	}
	u, ok := r.users[c.UserID]
	return ok && !c.IssuedAt.After(u.issuedUntil)
}

// Apply adds the revocations of update. It returns an error for an invalid
// revocation and when there are too many; the valid ones are added all the same.
func (r *Revocations) Apply(update RevocationUpdate) error {
	refetch, err := r.apply(update)
	if refetch {
		r.changed()
	}
	return err
}

func (r *Revocations) apply(update RevocationUpdate) (refetch bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if now.Sub(r.lastForget) >= forgetInterval {
		r.forgetExpired(now)
	}
	known := len(r.keys)
	for _, entry := range update.Revoked {
		if e := r.remember(entry, now); e != nil {
			err = e
		}
	}
	refetch = len(r.keys) > known || r.epoch != 0 && update.Epoch > r.epoch
	r.epoch = max(r.epoch, update.Epoch)
	if update.CaughtUp && err == nil {
		r.caughtUpAt = now
	}
	return refetch, err
}

func (r *Revocations) remember(entry Revoked, now time.Time) error {
	until := earliest(entry.Until, now.Add(maxRetention))
	if !until.After(now) {
		return nil
	}
	if entry.Kind == RevokedKey {
		if entry.Subject == "" || len(entry.Subject) > 128 {
			return fmt.Errorf("authn: the kid of a revoked key has %d bytes, must be 1 to 128", len(entry.Subject))
		}
		was, known := r.keys[entry.Subject]
		if !known && !r.hasRoom() {
			return errFull
		}
		r.keys[entry.Subject] = latest(until, was)
		return nil
	}
	id, err := uuid.Parse(entry.Subject)
	if err != nil || id == uuid.Nil {
		return fmt.Errorf("authn: a revoked %.20q has no valid id", entry.Kind)
	}
	switch entry.Kind {
	case RevokedSession:
		was, known := r.sessions[id]
		if !known && !r.hasRoom() {
			return errFull
		}
		r.sessions[id] = latest(until, was)
	case RevokedUser:
		was, known := r.users[id]
		if !known && !r.hasRoom() {
			return errFull
		}
		r.users[id] = userRevoked{latest(earliest(entry.IssuedUntil, until), was.issuedUntil),
			latest(until, was.until)}
	default: // a kind of a newer issuer
	}
	return nil
}

var errFull = errors.New("authn: too many revocations")

// hasRoom reports whether one more revocation can be kept.
func (r *Revocations) hasRoom() bool {
	if len(r.keys)+len(r.sessions)+len(r.users) < r.limit {
		return true
	}
	if !r.fullLogged {
		r.fullLogged = true
		r.log.Error("too many revocations: the newest are not enforced", "limit", r.limit)
	}
	return false
}

func earliest(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// forgetExpired drops the revocations whose tokens have all expired.
func (r *Revocations) forgetExpired(now time.Time) {
	r.lastForget, r.fullLogged = now, false
	for kid, until := range r.keys {
		if !until.After(now) {
			delete(r.keys, kid)
		}
	}
	for id, until := range r.sessions {
		if !until.After(now) {
			delete(r.sessions, id)
		}
	}
	for id, u := range r.users {
		if !u.until.After(now) {
			delete(r.users, id)
		}
	}
}

// Age returns the time since the revocations were last complete; a revocation
// may be unknown here for as long.
func (r *Revocations) Age() time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return max(0, r.now().Sub(r.caughtUpAt))
}

// Count returns how many revocations are kept.
func (r *Revocations) Count() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.keys) + len(r.sessions) + len(r.users)
}
