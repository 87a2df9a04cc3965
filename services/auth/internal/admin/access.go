package admin

import (
	"context"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/auth/internal/audit"
)

// EndSession ends a session of an account. Ending it twice is no error. errs.NotFound, errs.PermissionDenied
// (PERMISSION_NOT_HELD).
func (s *Service) EndSession(ctx context.Context, actor, user, session uuid.UUID) error {
	return s.store.EndSession(ctx, user, session, mayChange,
		audit.Event{Type: audit.SessionRevoked, Reason: "ADMIN", Actor: actor, Subject: user,
			Object: session.String()})
}

// EndSessions ends every session of an account and returns how many that were. Errors as EndSession.
func (s *Service) EndSessions(ctx context.Context, actor, user uuid.UUID) (int, error) {
	return s.store.EndSessions(ctx, user, mayChange,
		audit.Event{Type: audit.SessionsRevoked, Reason: "ADMIN", Actor: actor, Subject: user})
}

// RevokeAPIKey revokes an API key of an account. Revoking it twice is no error. Errors as EndSession.
func (s *Service) RevokeAPIKey(ctx context.Context, actor, user, key uuid.UUID) error {
	return s.store.RevokeAPIKey(ctx, user, key, mayChange,
		audit.Event{Type: audit.APIKeyRevoked, Reason: "ADMIN", Actor: actor, Subject: user, Object: key.String()})
}
