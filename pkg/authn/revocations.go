package authn

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"
)

// Bounds of a Revocations.
const (
	// maxRevoked is how much is remembered at most, some 100 MB.
	maxRevoked = 1_000_000
	// rememberMost is the longest that anything is, whatever the issuer says:
	// a token lives a day at most, and a key set an hour without its issuer.
	rememberMost = 25 * time.Hour
	// forgetEvery is the least time between two looks for what has ended.
	forgetEvery = 30 * time.Second
)

// What a Revoked refuses the tokens of.
const (
	RevokedKey     = "KEY"
	RevokedSession = "SESSION"
	RevokedUser    = "USER"
)

// Revoked is one thing whose tokens are refused. It is an alias of an unnamed
// struct so that the contracts' module can make one without importing this.
type Revoked = struct {
	// Kind is RevokedKey, RevokedSession or RevokedUser, Subject its kid or id.
	Kind, Subject string
	// IssuedUntil is, of a user, until when a token was issued to be refused:
	// later ones are of a user who was let in again.
	IssuedUntil time.Time
	// Until is when no such token can be good any more.
	Until time.Time
}

// RevocationNews is what the issuer tells at once.
type RevocationNews = struct {
	// Epoch of the key set.
	Epoch   int64
	Revoked []Revoked
	// Current: with this, all is told that was revoked before.
	Current bool
}

// Revocations remembers what the issuer has revoked, for Options.Revoked, and
// follows its news. It promises: what was heard is refused at once, with no
// wait in the way of a call, and remembered until no token can be concerned;
// nothing that is heard later, nor silence, takes it back. Memory is bounded,
// whatever is told. It is safe for concurrent use.
//
// Limits: while no news come (authn_revocations_away_seconds says how long) a
// token whose revocation wasn't heard of is good until it expires.
type Revocations struct {
	log     *slog.Logger
	now     func() time.Time
	changed func()

	mu       sync.RWMutex
	epoch    int64
	keys     map[string]time.Time // until when
	sessions map[uuid.UUID]time.Time
	users    map[uuid.UUID]userRevoked
	forgot   time.Time // when what had ended was forgotten
	current  time.Time // when the news were last current
	full     bool
}

type userRevoked struct{ issuedUntil, until time.Time }

// NewRevocations remembers nothing yet. changed is called when the key set has
// changed or a key was revoked, and must not wait: RemoteKeys.Refetch; nil for
// nothing.
func NewRevocations(changed func(), log *slog.Logger) *Revocations {
	if changed == nil {
		changed = func() {}
	}
	return &Revocations{
		log: log, now: time.Now, changed: changed,
		keys: map[string]time.Time{}, sessions: map[uuid.UUID]time.Time{}, users: map[uuid.UUID]userRevoked{},
		current: time.Now(), // the time away counts from the start
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

// Take remembers news. It fails for those that no issuer sends; what is right
// of them is remembered.
func (r *Revocations) Take(news RevocationNews) error {
	refetch, err := r.take(news)
	if refetch {
		r.changed()
	}
	return err
}

func (r *Revocations) take(news RevocationNews) (refetch bool, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	if now.Sub(r.forgot) >= forgetEvery {
		r.forget(now)
	}
	known := len(r.keys)
	for _, one := range news.Revoked {
		if e := r.remember(one, now); e != nil {
			err = e
		}
	}
	refetch = len(r.keys) > known || r.epoch != 0 && news.Epoch > r.epoch
	r.epoch = max(r.epoch, news.Epoch)
	if news.Current && err == nil {
		r.current = now
	}
	return refetch, err
}

func (r *Revocations) remember(one Revoked, now time.Time) error {
	until := earliest(one.Until, now.Add(rememberMost))
	if !until.After(now) {
		return nil
	}
	if one.Kind == RevokedKey {
		if one.Subject == "" || len(one.Subject) > 128 {
			return fmt.Errorf("authn: a revoked key with a kid of %d bytes", len(one.Subject))
		}
		was, known := r.keys[one.Subject]
		if !known && !r.room() {
			return errFull
		}
		r.keys[one.Subject] = latest(until, was)
		return nil
	}
	id, err := uuid.Parse(one.Subject)
	if err != nil || id == uuid.Nil {
		return fmt.Errorf("authn: a revoked %.20q without an id", one.Kind)
	}
	switch one.Kind {
	case RevokedSession:
		was, known := r.sessions[id]
		if !known && !r.room() {
			return errFull
		}
		r.sessions[id] = latest(until, was)
	case RevokedUser:
		was, known := r.users[id]
		if !known && !r.room() {
			return errFull
		}
		r.users[id] = userRevoked{latest(earliest(one.IssuedUntil, until), was.issuedUntil), latest(until, was.until)}
	default: // of a later issuer
	}
	return nil
}

var errFull = fmt.Errorf("authn: more than %d revocations", maxRevoked)

// room reports whether one more can be remembered.
func (r *Revocations) room() bool {
	if len(r.keys)+len(r.sessions)+len(r.users) < maxRevoked {
		return true
	}
	if !r.full {
		r.full = true
		r.log.Error("more is revoked than can be remembered", "remembered", maxRevoked)
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

// forget drops what can concern no token any more.
func (r *Revocations) forget(now time.Time) {
	r.forgot, r.full = now, false
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

// Away is for how long the news have not been current, by which they may be
// late.
func (r *Revocations) Away() time.Duration {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return max(0, r.now().Sub(r.current))
}

// Remembered is how much is remembered now.
func (r *Revocations) Remembered() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.keys) + len(r.sessions) + len(r.users)
}
