package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/admin"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

// EndSession implements admin.Store.
func (s *Admin) EndSession(ctx context.Context, user, id uuid.UUID, check admin.Check, e audit.Event) error {
	_, err := s.endAccess(ctx, user, check, e, func(tx *gorm.DB) (int, error) {
		err := belongs(tx, "SELECT id FROM sessions WHERE id = ? AND user_id = ?", id, user, "session")
		if err != nil {
			return 0, err
		}
		if err := forgetDeviceOf(tx, user, id); err != nil {
			return 0, err
		}
		return revoke(tx, "REVOKED_BY_ADMIN", "id = ?", id)
	})
	return err
}

// EndSessions implements admin.Store.
func (s *Admin) EndSessions(ctx context.Context, user uuid.UUID, check admin.Check, e audit.Event) (int, error) {
	return s.endAccess(ctx, user, check, e, func(tx *gorm.DB) (int, error) {
		return endSessions(tx, user, uuid.Nil, "REVOKED_BY_ADMIN")
	})
}

// RevokeAPIKey implements admin.Store.
func (s *Admin) RevokeAPIKey(ctx context.Context, user, id uuid.UUID, check admin.Check, e audit.Event) error {
	_, err := s.endAccess(ctx, user, check, e, func(tx *gorm.DB) (int, error) {
		err := belongs(tx, "SELECT id FROM api_keys WHERE id = ? AND user_id = ?", id, user, "API key")
		if err != nil {
			return 0, err
		}
		return revokeAPIKeys(tx, user, []uuid.UUID{id})
	})
	return err
}

// endAccess locks the caller and an account, checks the account, and ends something of it. It records e unless nothing
// had to be ended.
func (s *Admin) endAccess(ctx context.Context, user uuid.UUID, check admin.Check, e audit.Event,
	end func(tx *gorm.DB) (int, error)) (ended int, err error) {
	err = postgres.InTx(ctx, s.accounts.db, func(tx *gorm.DB) error {
		held, err := lockCaller(tx, targets{user: user})
		if err != nil {
			return err
		}
		state, _, err := lockAccount(tx, "id = ?", user)
		if err != nil {
			return err
		}
		state.Caller = held
		if err := complete(tx, &state, account.Include{Roles: true}); err != nil {
			return err
		}
		if err := check(state); err != nil {
			return err
		}
		if ended, err = end(tx); err != nil || ended == 0 {
			return err
		}
		return record(tx, e)
	})
	return ended, err
}

// belongs returns errs.NotFound unless a query by id and user finds a row.
func belongs(tx *gorm.DB, query string, id, user uuid.UUID, what string) error {
	found, err := exists(tx, query, id, user)
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	if !found {
		return errs.NotFound(what)
	}
	return nil
}
