package signing

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/purserhq/purser/pkg/authn"
)

// Cache holds key sets outside of the database, each under its issuer and epoch.
// Its content is not trusted: a Ring seals what it stores there. It is safe for
// concurrent use.
type Cache interface {
	// Put stores the set of an epoch for ttl.
	Put(ctx context.Context, issuer string, epoch int64, sealed []byte, ttl time.Duration) error
	// Newest returns the set of the newest epoch from from on, among the next
	// few epochs; nil when there is none.
	Newest(ctx context.Context, issuer string, from int64) (epoch int64, sealed []byte, err error)
	// Delete removes the set of an epoch; no error when there is none.
	Delete(ctx context.Context, issuer string, epoch int64) error
}

// UseCache makes the Ring store each set that it reads from the database in c,
// and read c while the database is unavailable. Call it before the Ring is used.
func (r *Ring) UseCache(c Cache) { r.cache = c }

// cachedSet is the plaintext of an envelope. Sealing binds it to its issuer and
// epoch, so that writing to the cache does not allow to forge keys.
type cachedSet struct {
	Now time.Time       `json:"now"` // the database's clock when the set was read
	Set json.RawMessage `json:"set"`
}

// envelope is the JSON that is stored in the cache.
type envelope struct{ Sealed, Wrapped []byte }

func cacheAAD(issuer string, epoch int64) []byte {
	return fmt.Appendf(nil, "jwks|%s|%d", issuer, epoch)
}

// writeCache stores s in the cache. A failure is only logged: the cache is needed
// only while the database is unavailable.
func (r *Ring) writeCache(ctx context.Context, s *snapshot, now time.Time) {
	if r.cache == nil {
		return
	}
	err := func() error {
		plain, err := json.Marshal(cachedSet{Now: now, Set: s.document})
		if err != nil {
			return err
		}
		var e envelope
		if e.Sealed, e.Wrapped, err = r.sealer.Seal(plain, cacheAAD(r.issuer, s.epoch)); err != nil {
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

// readCache adopts the set that another replica read last: it replaces the set
// that this replica publishes and verifies with. The signing lease is not
// extended: it starts at this replica's own last read of the database.
func (r *Ring) readCache(ctx context.Context) error {
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
	plain, err := r.sealer.Open(e.Sealed, e.Wrapped, cacheAAD(r.issuer, epoch))
	if err != nil {
		return fmt.Errorf("cached key set of epoch %d: %w", epoch, err)
	}
	var cached cachedSet
	if err := json.Unmarshal(plain, &cached); err != nil {
		return fmt.Errorf("cached key set: %w", err)
	}
	s := &snapshot{epoch: epoch, readAt: old.readAt, skew: old.skew, databaseNow: old.databaseNow,
		localNow: old.localNow, nextStepAt: old.nextStepAt,
		public: map[string]authn.Key{}, document: cached.Set}
	if err := json.Unmarshal(cached.Set, &s.set); err != nil {
		return fmt.Errorf("cached key set: %w", err)
	}
	if len(s.set.Keys) == 0 {
		return fmt.Errorf("cached key set of epoch %d is empty", epoch)
	}
	for _, k := range s.set.Keys {
		s.public[k.KeyID] = authn.Key{Algorithm: k.Algorithm, Public: k.Key}
	}
	if _, ok := s.public[old.kid]; ok { // a revoked key is not in the set
		s.kid, s.private, s.method = old.kid, old.private, old.method
	}
	// This process's clock may be behind the database's by Skew.
	s.setReadAt, s.etag = earlier(r.now(), cached.Now).Add(-r.policy.Skew), etagOf(s.document)
	r.adopt(s)
	return nil
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
