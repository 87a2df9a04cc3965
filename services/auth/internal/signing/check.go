package signing

import (
	"context"
	"errors"
	"fmt"

	"github.com/purserhq/purser/pkg/errs"
)

// CheckKEK returns nil if the key-encryption keys open every private key of the ring, also
// when there is no ring yet. errs.Unavailable (KEK_WRONG) if they don't: none of its
// replicas could sign, or rotate the keys.
func (r *Ring) CheckKEK(ctx context.Context) error {
	reading, err := r.store.Load(ctx, r.issuer)
	if err != nil {
		return err
	}
	for _, k := range reading.Keys {
		if len(k.Wrapped) == 0 {
			continue // erased after its last signature
		}
		_, err = r.sealer.IsCurrent(k.Wrapped, keyAAD(r.issuer, k))
		if err == nil && k.State == Active {
			_, err = k.private(r.sealer, r.issuer)
		}
		if err != nil {
			return errs.Unavailable("KEK_WRONG", fmt.Sprintf("the key-encryption key doesn't open signing key %s (%s)",
				k.KID, k.State)).Because(errors.Unwrap(err))
		}
	}
	return nil
}
