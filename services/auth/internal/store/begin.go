package store

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/session"
)

// Start implements session.Store. The user's row is locked, so that a change of
// what the session is begun with comes before, and is seen, or after, and ends
// the session.
func (s *Sessions) Start(ctx context.Context, f session.Family, is account.Standing, p session.Proof,
	e audit.Event) error {
	return postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		if err := holds(tx, f.UserID, p); err != nil {
			return err
		}
		if err := stands(tx, f.UserID, is); err != nil {
			return err
		}
		row := toRow(f)
		if err := tx.Create(&row).Error; err != nil {
			return fmt.Errorf("create session: %w", err)
		}
		if err := remember(tx, f); err != nil {
			return err
		}
		return record(tx, e)
	})
}

// stands checks that a user, who is locked, still has the roles and attributes
// that their token says: a change of them that is to end their sessions came
// before this one.
func stands(tx *gorm.DB, user uuid.UUID, is account.Standing) error {
	now, err := standing(tx, user)
	if err != nil {
		return err
	}
	if !slices.Equal(now.Roles, is.Roles) || !maps.Equal(now.Attributes, is.Attributes) {
		return errs.Unavailable("TRY_AGAIN", "the account was changed just now")
	}
	return nil
}

// holds locks a user and checks that they may sign in and that what was proven
// is so still. It keeps a password in a better way when there is one.
func holds(tx *gorm.DB, user uuid.UUID, p session.Proof) error {
	row, err := lockUser(tx, "id = ?", user)
	switch {
	case errs.Is(err, errs.KindNotFound): // deleted meanwhile
		return session.ErrCredentials()
	case err != nil:
		return err
	case p.Hash != "" && orEmpty(row.PasswordHash) != p.Hash:
		return session.ErrCredentials()
	case row.DisabledAt != nil:
		return account.ErrDisabled()
	}
	if p.Identity != uuid.Nil {
		var n int64
		if err := tx.Model(&identityRow{}).Where("id = ? AND user_id = ?", p.Identity,
			user).Count(&n).Error; err != nil {
			return fmt.Errorf("look for an identity: %w", err)
		}
		if n == 0 {
			return session.ErrUnlinked()
		}
	}
	if p.Replacement == "" {
		return nil
	}
	if err := tx.Model(&userRow{}).Where("id = ?", user).Update("password_hash", p.Replacement).Error; err != nil {
		return fmt.Errorf("replace password hash: %w", err)
	}
	return nil
}
