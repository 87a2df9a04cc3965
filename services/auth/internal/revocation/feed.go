// Package revocation streams to verifiers which access tokens to refuse before
// they expire: those of ended sessions, disabled users and revoked keys.
//
// It promises: a committed revocation is streamed within Policy.Poll and the
// duration of one query; a new reader receives every revocation that a valid
// token can still be affected by; a reader receives no Current message while the
// database can't be read.
//
// Limits: the issue time of a token has a resolution of one second, so when a
// user is disabled and enabled again, a token issued within that second is
// refused too. A revocation whose transaction takes more than rereadOverlap to
// commit is streamed up to fullReadInterval after the commit. When TokenTTL is
// lowered by the configuration, older revocations are streamed for the new
// Retention only.
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

// Policy is the configuration of a Feed.
type Policy struct {
	// Poll is the interval in which a replica reads revocations.
	Poll time.Duration `env:"POLL" envDefault:"500ms"`
	// StreamsPerAddress is the maximal number of streams of one IP address, and
	// of one service account, on one replica. An IPv6 address counts as its /64.
	StreamsPerAddress int `env:"STREAMS_PER_ADDRESS" envDefault:"256"`
	// TokenTTL is the maximal lifetime of a token, Skew the maximal error of the
	// clock that issued it; both from the policy of the signing keys.
	TokenTTL time.Duration `env:"-"`
	Skew     time.Duration `env:"-"`
}

// Validate returns every invalid setting of p as one error.
func (p Policy) Validate() error {
	var failures []error
	if p.Poll < 10*time.Millisecond || p.Poll > time.Minute {
		failures = append(failures, errors.New("PURSER_REVOCATIONS_POLL must be 10ms to 1m"))
	}
	if p.StreamsPerAddress < 1 {
		failures = append(failures, errors.New("PURSER_REVOCATIONS_STREAMS_PER_ADDRESS must be at least 1"))
	}
	return errors.Join(failures...)
}

// Retention is how long after a revocation a token that it affects can be valid:
// one that was issued at that moment by a clock that is ahead by Skew, and is
// verified with authn.Leeway.
func (p Policy) Retention() time.Duration { return p.TokenTTL + p.Skew + authn.Leeway }

const (
	// keyRetention is how long a revoked key is streamed: a verifier can use
	// its cached key set for an hour after the issuer became unavailable.
	keyRetention = 24 * time.Hour
	// rereadOverlap is how far before the previous poll a poll reads, to find
	// revocations that were committed late. Every fullReadInterval a poll reads
	// all of Retention.
	rereadOverlap    = 30 * time.Second
	fullReadInterval = time.Minute
	// MaxPerNews is the maximal number of revocations in one message.
	MaxPerNews = 1000
)

// Entry is one revocation.
type Entry struct {
	// Kind is authn.RevokedKey, RevokedSession or RevokedUser; Subject is the
	// kid, or the id of the session or user.
	Kind, Subject string
	At            time.Time
}

// Reading is what was revoked, as of one moment.
type Reading struct {
	Epoch   int64 // of the key set
	Entries []Entry
}

// Store is the database of revocations.
type Store interface {
	// Revocations returns the sessions and users that were revoked within the
	// last window, and the keys of issuer that were revoked within the last
	// keyWindow, by the database's clock. errs.NotFound while the issuer has no
	// key ring.
	Revocations(ctx context.Context, issuer string, window, keyWindow time.Duration) (Reading, error)
}

// Feed polls the database for revocations and passes them to its Readers, and to
// this process's own verifier. It is safe for concurrent use.
type Feed struct {
	issuer     string
	policy     Policy
	store      Store
	log        *slog.Logger
	onNewEpoch func()
	local      *authn.Revocations
	now        func() time.Time

	mu         sync.Mutex
	entries    []numberedEntry // in the order of their numbers
	lastNumber int             // of the last entry
	seen       map[Entry]bool
	epoch      int64
	readAt     time.Time     // when the last successful poll began; zero before
	fullReadAt time.Time     // when the last poll of all of Retention began
	updated    chan struct{} // closed and replaced when there is news
}

// numberedEntry is an entry with its number in the order in which it was read,
// from 1.
type numberedEntry struct {
	Entry
	number int
}

// NewFeed returns a feed without entries; see Run and Read. onNewEpoch is called
// when the key set is at another epoch; it must not block.
func NewFeed(issuer string, p Policy, s Store, onNewEpoch func(), log *slog.Logger) *Feed {
	return &Feed{
		issuer: issuer, policy: p, store: s, onNewEpoch: onNewEpoch, log: log, now: time.Now,
		local: authn.NewRevocations(onNewEpoch, log), seen: map[Entry]bool{}, updated: make(chan struct{}),
	}
}

// Revoked implements authn.Options.Revoked: this service's own verifier.
func (f *Feed) Revoked(kid string, c authn.Caller) bool { return f.local.Revoked(kid, c) }

// Fresh reports whether the last successful poll began less than 5 seconds, or
// four times Policy.Poll, ago.
func (f *Feed) Fresh() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fresh()
}

// fresh is Fresh with f.mu held.
func (f *Feed) fresh() bool {
	return !f.readAt.IsZero() && f.now().Sub(f.readAt) < max(5*time.Second, 4*f.policy.Poll)
}

// Run calls Read every Policy.Poll until ctx ends.
func (f *Feed) Run(ctx context.Context) error {
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

// Read polls the database once.
func (f *Feed) Read(ctx context.Context) error {
	begun := f.now()
	window, all := f.window(begun)
	reading, err := f.store.Revocations(ctx, f.issuer, window, keyRetention)
	if err != nil {
		return err
	}
	fresh := f.merge(reading, begun, all)
	return f.local.Apply(authn.RevocationUpdate{Epoch: reading.Epoch, Revoked: f.policy.revoked(fresh),
		CaughtUp: true})
}

// window returns how far back to read, and whether that is all of Retention.
func (f *Feed) window(now time.Time) (_ time.Duration, all bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.readAt.IsZero() || now.Sub(f.fullReadAt) >= fullReadInterval {
		return f.policy.Retention(), true
	}
	return min(f.policy.Retention(), now.Sub(f.readAt)+rereadOverlap), false
}

// merge adds the entries of a reading that are new, wakes the Readers, and returns
// those entries.
func (f *Feed) merge(r Reading, begun time.Time, all bool) []Entry {
	f.mu.Lock()
	defer f.mu.Unlock()
	var fresh []Entry
	for _, e := range r.Entries {
		e.At = e.At.UTC()
		if !f.seen[e] {
			f.seen[e] = true
			fresh = append(fresh, e)
			f.lastNumber++
			f.entries = append(f.entries, numberedEntry{e, f.lastNumber})
		}
	}
	changed := len(fresh) > 0 || r.Epoch > f.epoch || f.readAt.IsZero()
	f.epoch, f.readAt = max(f.epoch, r.Epoch), begun
	if all {
		f.fullReadAt = begun
		f.forgetExpired(r)
	}
	if changed {
		close(f.updated)
		f.updated = make(chan struct{})
	}
	return fresh
}

// forgetExpired removes the entries that a full reading no longer contains.
func (f *Feed) forgetExpired(all Reading) {
	has := make(map[Entry]bool, len(all.Entries))
	for _, e := range all.Entries {
		e.At = e.At.UTC()
		has[e] = true
	}
	f.entries = slices.DeleteFunc(slices.Clone(f.entries), func(e numberedEntry) bool { return !has[e.Entry] })
	f.seen = has
}

// revoked converts entries into the messages for verifiers.
func (p Policy) revoked(entries []Entry) []authn.Revoked {
	list := make([]authn.Revoked, len(entries))
	for i, e := range entries {
		list[i] = authn.Revoked{Kind: e.Kind, Subject: e.Subject, IssuedUntil: e.At, Until: e.At.Add(p.Retention())}
		if e.Kind == authn.RevokedKey {
			list[i].Until = e.At.Add(keyRetention)
		}
	}
	return list
}
