package signing

import (
	"context"
	"fmt"
)

// RewrapStore is where data keys are kept, wrapped.
type RewrapStore interface {
	// Rewrap replaces the wrapped data key of a key that is still old's, in a
	// transaction that records it. It is no error when the key has another by
	// now, or none.
	Rewrap(ctx context.Context, issuer, kid string, old, fresh []byte) error
}

// Rewrap puts the data keys of issuer's keys that are under a previous
// key-encryption key under the current one, and returns how many were. The
// private keys and the epoch stay as they are.
func Rewrap(ctx context.Context, s *Sealer, issuer string, keys []Key, store RewrapStore) (n int, err error) {
	for _, k := range keys {
		if len(k.Wrapped) == 0 {
			continue
		}
		fresh, err := s.Rewrap(k.Wrapped, binding(issuer, k))
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

// CurrentKey reports whether a key of issuer is under the current key-encryption
// key. It fails when it is under none that is known.
func (s *Sealer) CurrentKey(issuer string, k Key) (bool, error) {
	return s.Current(k.Wrapped, binding(issuer, k))
}
