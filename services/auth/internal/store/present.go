package store

import (
	"fmt"
	"slices"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/apikey"
)

// present refuses a change that a user makes of themselves in a session which
// has been revoked: their token is good for the seconds until that is heard of,
// in which who was shut out could make a new way in. tx holds the lock on the
// user, under which sessions are begun and an account is taken over.
// errs.Unauthenticated (SESSION_REVOKED).
func present(tx *gorm.DB, user uuid.UUID) error {
	caller := authn.CallerFrom(tx.Statement.Context)
	if caller.UserID != user || slices.Contains(caller.Methods, apikey.Method) {
		return nil
	}
	var n int64
	err := tx.Model(&sessionRow{}).Where("id = ? AND user_id = ? AND revoked_at IS NULL", caller.SessionID,
		user).Count(&n).Error
	if err != nil {
		return fmt.Errorf("look for the caller's session: %w", err)
	}
	if n == 0 {
		return errs.Unauthenticated("SESSION_REVOKED", "the session has ended")
	}
	return nil
}
