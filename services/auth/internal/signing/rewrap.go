package signing

import (
	"context"
	"fmt"

	"github.com/purserhq/purser/services/internal/seal"
)

// RewrapStore is the database of wrapped data keys.
type RewrapStore interface {
	// Rewrap replaces the wrapped data key of kid by fresh and records that in
	// the same transaction. It does nothing when the wrapped data key is no
	// longer old.
	Rewrap(ctx context.Context, issuer, kid string, old, fresh []byte) error
}

// Rewrap wraps the data keys of issuer's signing keys by the current
// key-encryption key, and returns how many were wrapped by a previous one. The
// private keys and the epoch do not change.
func Rewrap(ctx context.Context, s *seal.Sealer, issuer string, keys []Key, store RewrapStore) (n int, err error) {
	for _, k := range keys {
		if len(k.Wrapped) == 0 {
			continue
		}
		fresh, err := s.Rewrap(k.Wrapped, keyAAD(issuer, k))
		if err != nil {
			return n, fmt.Errorf("key %s: %w", k.KID, err)
		}
		if fresh == nil {
			continue
		}
		if err := store.Rewrap(ctx, issuer, k.KID, k.Wrapped, fresh); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// IsWrappedByCurrentKey reports whether the data key of a signing key is wrapped
// by the current key-encryption key. It fails when no known key unwraps it.
func IsWrappedByCurrentKey(s *seal.Sealer, issuer string, k Key) (bool, error) {
	return s.IsCurrent(k.Wrapped, keyAAD(issuer, k))
}
