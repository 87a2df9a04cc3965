package signing

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/purserhq/purser/pkg/authn"
)

// Cache keeps key sets beside the database, each under its epoch, so that none
// can be taken for another's. What it returns is not trusted: a ring seals what
// it puts there.
type Cache interface {
	// Put keeps the set of an epoch for ttl.
	Put(ctx context.Context, issuer string, epoch int64, sealed []byte, ttl time.Duration) error
	// Newest returns the set of the newest epoch that is not before from,
	// among the next few; nil when there is none.
	Newest(ctx context.Context, issuer string, from int64) (epoch int64, sealed []byte, err error)
	// Delete removes the set of an epoch.
	Delete(ctx context.Context, issuer string, epoch int64) error
}

// Share has the ring put what it reads of the database into c, and look there
// when the database is away. Call it before the ring is used.
func (r *Ring) Share(c Cache) { r.cache = c }

// sharedSet is what is cached, sealed for its issuer and epoch: who can write to
// the cache can't make keys that tokens are verified with.
type sharedSet struct {
	Now time.Time       `json:"now"` // of the database, when it was read
	Set json.RawMessage `json:"set"`
}

// envelope is the sealed form.
type envelope struct{ Sealed, Wrapped []byte }

func sharedBinding(issuer string, epoch int64) []byte {
	return fmt.Appendf(nil, "jwks|%s|%d", issuer, epoch)
}

// share puts s into the cache. That it can't is no failure: the database is
// what counts.
func (r *Ring) share(ctx context.Context, s *snapshot, now time.Time) {
	if r.cache == nil {
		return
	}
	err := func() error {
		plain, err := json.Marshal(sharedSet{Now: now, Set: s.doc})
		if err != nil {
			return err
		}
		var e envelope
		if e.Sealed, e.Wrapped, err = r.sealer.Seal(plain, sharedBinding(r.issuer, s.epoch)); err != nil {
			return err
		}
		document, err := json.Marshal(e)
		if err != nil {
			return err
		}
		return r.cache.Put(ctx, r.issuer, s.epoch, document, r.policy.MaxAge+r.policy.Poll)
	}()
	if err != nil {
		r.log.DebugContext(ctx, "key set can't be cached", "error", err)
	}
}

// hear takes from the cache what another replica read last, when this one can't
// read the database: what it publishes and verifies with, not what it signs
// with, which is still bound to its own lease.
func (r *Ring) hear(ctx context.Context) error {
	old := r.state.Load()
	if r.cache == nil || old == nil {
		return nil
	}
	epoch, document, err := r.cache.Newest(ctx, r.issuer, old.epoch)
	if err != nil || document == nil {
		return err
	}
	var e envelope
	if err := json.Unmarshal(document, &e); err != nil {
		return fmt.Errorf("cached key set: %w", err)
	}
	plain, err := r.sealer.Open(e.Sealed, e.Wrapped, sharedBinding(r.issuer, epoch))
	if err != nil {
		return fmt.Errorf("cached key set of epoch %d: %w", epoch, err)
	}
	var heard sharedSet
	if err := json.Unmarshal(plain, &heard); err != nil {
		return fmt.Errorf("cached key set: %w", err)
	}
	s := &snapshot{epoch: epoch, readAt: old.readAt, skew: old.skew, at: old.at, atHere: old.atHere, next: old.next,
		public: map[string]authn.Key{}, doc: heard.Set}
	if err := json.Unmarshal(heard.Set, &s.set); err != nil {
		return fmt.Errorf("cached key set: %w", err)
	}
	if len(s.set.Keys) == 0 {
		return fmt.Errorf("cached key set of epoch %d is empty", epoch)
	}
	for _, k := range s.set.Keys {
		s.public[k.KeyID] = authn.Key{Algorithm: k.Algorithm, Public: k.Key}
	}
	if _, ok := s.public[old.kid]; ok { // not if it was compromised
		s.kid, s.private, s.method = old.kid, old.private, old.method
	}
	// This clock may be behind the database's by the allowed skew.
	s.heardAt, s.etag = earlier(r.now(), heard.Now).Add(-r.policy.Skew), etagOf(s.doc)
	r.adopt(s)
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
