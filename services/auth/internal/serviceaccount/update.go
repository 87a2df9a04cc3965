package serviceaccount

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/auth/internal/audit"
)

// Find returns an account; errs.NotFound.
func (s *Service) Find(ctx context.Context, id uuid.UUID) (Account, error) {
	return s.store.ByID(ctx, id, s.now())
}

// Update gives an account these permissions and no others. errs.Invalid, errs.NotFound, errs.PermissionDenied
// (PERMISSION_NOT_HELD).
func (s *Service) Update(ctx context.Context, actor, id uuid.UUID, permissions []string) (Account, error) {
	if err := CheckPermissions(permissions); err != nil {
		return Account{}, err
	}
	if err := s.setPermissions(ctx, actor, id, slices.Sorted(slices.Values(permissions))); err != nil {
		return Account{}, err
	}
	return s.store.ByID(ctx, id, s.now())
}

// Enable enables a disabled account, which has no secret then: Rotate makes one. An enabled account is left as it is.
// errs.NotFound, errs.PermissionDenied (PERMISSION_NOT_HELD).
func (s *Service) Enable(ctx context.Context, actor, id uuid.UUID) error {
	return s.store.Change(ctx, id, func(a Account) (Account, audit.Event, error) {
		if a.DisabledAt.IsZero() {
			return a, audit.Event{}, nil
		}
		a.DisabledAt = time.Time{}
		return a, audit.Event{Type: audit.ServiceAccountEnabled, Actor: actor, Subject: id}, nil
	})
}

// setPermissions gives an account these sorted permissions; one that has them already is left as it is.
func (s *Service) setPermissions(ctx context.Context, actor, id uuid.UUID, permissions []string) error {
	return s.store.Change(ctx, id, func(a Account) (Account, audit.Event, error) {
		if slices.Equal(a.Permissions, permissions) {
			return a, audit.Event{}, nil
		}
		a.Permissions = permissions
		return a, audit.Event{Type: audit.ServiceAccountChanged, Actor: actor, Subject: id, Object: a.Name}, nil
	})
}
