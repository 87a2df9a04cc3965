// Package revocation tells verifiers which access tokens to refuse before they
// expire: those of sessions that ended, users who were disabled and keys that
// were compromised.
//
// It promises: what was committed is told within a poll of the database and a
// fetch of what it says; what is told once is told to every reader that begins
// later, until no token can be concerned any more; a reader is never told to be
// current while the database can't be read.
//
// Limits: a token says in whole seconds when it was issued, by the clock of who
// issued it; of a user who was disabled and let in again, one that is issued
// within that second is refused too. A revocation whose transaction takes longer than a minute to commit
// is told within a minute of that. When the life of tokens is lowered by the
// configuration, what was revoked before is told for the new one only.
package revocation

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// Policy of the telling.
type Policy struct {
	// Poll is how often a replica reads what was revoked.
	Poll time.Duration `env:"POLL" envDefault:"500ms"`
	// StreamsPerAddress bounds the readers of one address on one replica.
	StreamsPerAddress int `env:"STREAMS_PER_ADDRESS" envDefault:"256"`
	// TokenTTL is the longest life of a token, Skew how far the clock that
	// issued it may be off; of the keys' policy.
	TokenTTL time.Duration `env:"-"`
	Skew     time.Duration `env:"-"`
}

// Validate reports every mistake in p.
func (p Policy) Validate() error {
	var mistakes []error
	if p.Poll < 10*time.Millisecond || p.Poll > time.Minute {
		mistakes = append(mistakes, errors.New("PURSER_REVOCATIONS_POLL must be 10ms to 1m"))
	}
	if p.StreamsPerAddress < 1 {
		mistakes = append(mistakes, errors.New("PURSER_REVOCATIONS_STREAMS_PER_ADDRESS must be at least 1"))
	}
	return errors.Join(mistakes...)
}

// Keep is how long after a revocation a token that it concerns can be good: one
// that was issued at that moment by a clock ahead, to a verifier with its
// leeway.
func (p Policy) Keep() time.Duration { return p.TokenTTL + p.Skew + authn.Leeway }

const (
	// keepKeys is how long a compromised key is told of: a verifier serves its
	// key set for an hour without the issuer.
	keepKeys = 24 * time.Hour
	// overlap is how far back a poll reads what the polls before should have
	// seen, for what is committed late, and rereadEvery how often all is read.
	overlap     = 30 * time.Second
	rereadEvery = time.Minute
	// AtOnce bounds the revocations that a reader is told of at once.
	AtOnce = 1000
)

// Entry is one revocation.
type Entry struct {
	// Kind is one of authn's, Subject a kid or an id.
	Kind, Subject string
	At            time.Time
}

// Reading is what the database says at one moment.
type Reading struct {
	Epoch   int64 // of the key set
	Entries []Entry
}

// Store is where revocations are kept.
type Store interface {
	// Revocations returns the sessions and users revoked within the last
	// window and the keys of issuer within the last keys, by the database's
	// clock. errs.NotFound while the issuer has no key ring.
	Revocations(ctx context.Context, issuer string, window, keys time.Duration) (Reading, error)
}

// Feed reads what was revoked and tells it. It is safe for concurrent use.
type Feed struct {
	issuer  string
	policy  Policy
	store   Store
	log     *slog.Logger
	changed func()
	known   *authn.Revocations
	now     func() time.Time

	mu      sync.Mutex
	entries []numbered // in the order of their arrival
	arrived int        // the number of the last one
	seen    map[Entry]bool
	epoch   int64
	readAt  time.Time // when the last reading began; zero before the first
	allAt   time.Time // when the last one of all did
	news    chan struct{}
}

// numbered is an entry by the order of arrival, from 1.
type numbered struct {
	Entry
	number int
}

// NewFeed knows nothing until Keep or Read. changed is called when the key set
// is at another epoch, and must not wait.
func NewFeed(issuer string, p Policy, s Store, changed func(), log *slog.Logger) *Feed {
	return &Feed{
		issuer: issuer, policy: p, store: s, changed: changed, log: log, now: time.Now,
		known: authn.NewRevocations(changed, log), seen: map[Entry]bool{}, news: make(chan struct{}),
	}
}

// Revoked implements authn.Options.Revoked: this service's own verifier.
func (f *Feed) Revoked(kid string, c authn.Caller) bool { return f.known.Revoked(kid, c) }

// Fresh reports whether all is known that was revoked until some seconds ago.
func (f *Feed) Fresh() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fresh()
}

// fresh allows a few polls to fail.
func (f *Feed) fresh() bool {
	return !f.readAt.IsZero() && f.now().Sub(f.readAt) < max(5*time.Second, 4*f.policy.Poll)
}

// Keep reads every Poll until ctx ends.
func (f *Feed) Keep(ctx context.Context) error {
	tick := time.NewTicker(f.policy.Poll)
	defer tick.Stop()
	for failing := false; ; {
		err := f.Read(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil && !failing && !errs.Is(err, errs.KindNotFound) {
			f.log.Warn("revocations can't be read", "error", err)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Read reads once what was revoked since the last time.
func (f *Feed) Read(ctx context.Context) error {
	begun := f.now()
	window, all := f.window(begun)
	reading, err := f.store.Revocations(ctx, f.issuer, window, keepKeys)
	if err != nil {
		return err
	}
	fresh := f.take(reading, begun, all)
	return f.known.Apply(authn.RevocationUpdate{Epoch: reading.Epoch, Revoked: f.policy.told(fresh), CaughtUp: true})
}

// window is how far back to read, and whether that is all.
func (f *Feed) window(now time.Time) (_ time.Duration, all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readAt.IsZero() || now.Sub(f.allAt) >= rereadEvery {
		return f.policy.Keep(), true
	}
	return min(f.policy.Keep(), now.Sub(f.readAt)+overlap), false
}

// take adds what is new of a reading, tells those who wait, and returns it.
func (f *Feed) take(r Reading, begun time.Time, all bool) []Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	var fresh []Entry
	for _, e := range r.Entries {
		e.At = e.At.UTC()
		if !f.seen[e] {
			f.seen[e] = true
			fresh = append(fresh, e)
			f.arrived++
			f.entries = append(f.entries, numbered{e, f.arrived})
		}
	}
	changed := len(fresh) > 0 || r.Epoch > f.epoch || f.readAt.IsZero()
	f.epoch, f.readAt = max(f.epoch, r.Epoch), begun
	if all {
		f.allAt = begun
		f.drop(r)
	}
	if changed {
		close(f.news)
		f.news = make(chan struct{})
	}
	return fresh
}

// drop forgets what a reading of all no longer has.
func (f *Feed) drop(all Reading) {
	has := make(map[Entry]bool, len(all.Entries))
	for _, e := range all.Entries {
		e.At = e.At.UTC()
		has[e] = true
	}
	f.entries = slices.DeleteFunc(slices.Clone(f.entries), func(e numbered) bool { return !has[e.Entry] })
	f.seen = has
}

// told is what verifiers are told of entries.
func (p Policy) told(entries []Entry) []authn.Revoked {
	list := make([]authn.Revoked, len(entries))
	for i, e := range entries {
		list[i] = authn.Revoked{Kind: e.Kind, Subject: e.Subject, IssuedUntil: e.At, Until: e.At.Add(p.Keep())}
		if e.Kind == authn.RevokedKey {
			list[i].Until = e.At.Add(keepKeys)
		}
	}
	return list
}
