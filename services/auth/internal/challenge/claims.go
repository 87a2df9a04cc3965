package challenge

import (
	"context"
	"time"
)

// Claims remember which uses of challenges have begun, where a failover loses nothing
// that was confirmed. It is safe for concurrent use.
type Claims interface {
	// Claim returns false if this use of the challenge was claimed before. A claim
	// is remembered until after expires.
	Claim(ctx context.Context, key string, use int, expires time.Time) (bool, error)
}

// Claimed returns s with every use claimed in c. A store that forgets that it gave a
// challenge away, as Redis may in a failover, then does not give it away again.
func Claimed[V any](s Store[Stored[V]], c Claims, now func() time.Time) Store[Stored[V]] {
	return claimed[V]{s, c, now}
}

type claimed[V any] struct {
	Store[Stored[V]]

	claims Claims
	now    func() time.Time
}

// Take implements Store.
func (s claimed[V]) Take(ctx context.Context, key string) (Stored[V], bool, error) {
	k, ok, err := s.Store.Take(ctx, key)
	if err != nil || !ok {
		return k, false, err
	}
	first, err := s.claims.Claim(ctx, key, k.Used, k.Expires)
	if err == nil {
		return k, first, nil
	}
	// The claim may have been stored nevertheless: then the challenge counts as used.
	if left := k.Expires.Sub(s.now()); left > 0 {
		_ = s.Put(context.WithoutCancel(ctx), key, k, left)
	}
	return k, false, &claimError{err}
}

// claimError is an error of the claims, which says more than that of a store.
type claimError struct{ error }

func (e *claimError) Unwrap() error { return e.error }
