package identity

import (
	"context"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/auth/internal/audit"
)

// Ended is how many of each EndEverything ended.
type Ended struct{ Sessions, APIKeys, Codes int }

// EndEverything ends, in one transaction, all sessions, API keys and access tokens of the caller's account, the mailed
// codes that can be used, and a pending removal of its second factor. Password, identities and second factor stay.
func (s *Service) EndEverything(ctx context.Context, user uuid.UUID) (Ended, error) {
	return s.store.EndEverything(ctx, user, audit.Event{Type: audit.EverythingEnded, Actor: user, Subject: user})
}
