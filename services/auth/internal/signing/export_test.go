package signing

import (
	"time"

	"github.com/purserhq/purser/services/internal/seal"
)

// SetNow injects a clock, before the ring is used.
func (r *Ring) SetNow(now func() time.Time) { r.now = now }

// Generate is generate.
func Generate(s *seal.Sealer, issuer string, state State) (Key, error) {
	return generate(s, issuer, state, EdDSA)
}

// Private is private, without its result.
func (k Key) Private(s *seal.Sealer, issuer string) error {
	_, err := k.private(s, issuer)
	return err
}
