package webhook

import (
	"context"
	"time"

	"github.com/purserhq/purser/services/internal/seal"
)

// Rewrapped is what Rewrap has done.
type Rewrapped struct {
	// Endpoints is of how many endpoints a secret was put under the present key-encryption key.
	Endpoints int
	// Lost is how many endpoints have a secret that no known key opens. Their owners have to rotate it.
	Lost int
}

// Rewrapper is the store of all owners' endpoints.
type Rewrapper interface {
	// ChangeKeys calls change with each endpoint, while nobody else changes it, and stores the keys of its secrets if
	// change returns true.
	ChangeKeys(ctx context.Context, change func(*Endpoint) bool) error
}

// Rewrap puts the keys of all endpoints' secrets under the present key-encryption key; the secrets don't change. A
// secret before the present one is left out once it isn't used any more. After an error the next call does what is
// left.
func Rewrap(ctx context.Context, r Rewrapper, s *seal.Sealer, now time.Time) (done Rewrapped, err error) {
	err = r.ChangeKeys(ctx, func(e *Endpoint) bool {
		changed, lost := false, false
		secrets := []*Sealed{&e.Secret}
		if now.Before(e.PreviousUntil) {
			secrets = append(secrets, &e.Previous)
		}
		for _, secret := range secrets {
			fresh, err := s.Rewrap(secret.Key, aad(e.Owner, e.ID))
			switch {
			case err != nil:
				lost = true
			case fresh != nil:
				secret.Key, changed = fresh, true
			}
		}
		if changed {
			done.Endpoints++
		}
		if lost {
			done.Lost++
		}
		return changed
	})
	return done, err
}
