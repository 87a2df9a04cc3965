package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
)

// validCode is the condition of a code that was not used and has not expired; it takes the hash and the purpose.
const validCode = "hash = ? AND purpose = ? AND expires_at > clock_timestamp()"

// CodeExpiry implements account.Store.
func (s *Accounts) CodeExpiry(ctx context.Context, p account.Purpose, h account.Hash) (time.Time, error) {
	_, expiresAt, err := findCode(s.db.Gorm(ctx), p, h)
	return expiresAt, err
}

func findCode(db *gorm.DB, p account.Purpose, h account.Hash) (user uuid.UUID, expiresAt time.Time, err error) {
	var row struct {
		UserID    uuid.UUID
		ExpiresAt time.Time
	}
	err = db.Table("mailed_codes").Where(validCode, h[:], p).Take(&row).Error
	return row.UserID, row.ExpiresAt, missing(err, "code")
}

// ChangeByCode implements account.Store. The code's user is found first, because the lock on their row comes before
// that on the code, which by then may have been used.
func (s *Accounts) ChangeByCode(ctx context.Context, p account.Purpose, h account.Hash, include account.Include,
	decide account.Decide) error {
	user, _, err := findCode(s.db.Gorm(ctx), p, h)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx *gorm.DB) (account.State, account.Changes, error) {
		return changeByCaller(tx, user, include, func(state account.State, now time.Time) (account.Changes, error) {
			used := tx.Exec("DELETE FROM mailed_codes WHERE "+validCode, h[:], p)
			if used.Error != nil {
				return account.Changes{}, fmt.Errorf("use up code: %w", used.Error)
			}
			if used.RowsAffected == 0 {
				return account.Changes{}, errs.NotFound("code")
			}
			return decide(state, now)
		})
	})
}

func applyToCodes(tx *gorm.DB, s account.State, c account.Changes) error {
	if c.EndCodes != "" {
		if err := endCode(tx, s.ID, c.EndCodes); err != nil {
			return err
		}
	}
	if !c.VerifiedAt.IsZero() { // which accepts an invitation
		if err := endCode(tx, s.ID, account.Invitation); err != nil {
			return err
		}
	}
	if c.NewCode == nil {
		return nil
	}
	err := tx.Exec(`INSERT INTO mailed_codes (user_id, purpose, hash, expires_at)
		VALUES (?, ?, ?, clock_timestamp() + ? * interval '1 microsecond')
		ON CONFLICT (user_id, purpose) DO UPDATE SET hash = excluded.hash, expires_at = excluded.expires_at`,
		s.ID, c.NewCode.Purpose, c.NewCode.Hash[:], c.NewCode.Lifetime.Microseconds()).Error
	if err != nil {
		return fmt.Errorf("store code: %w", err)
	}
	return nil
}

func endCode(tx *gorm.DB, user uuid.UUID, p account.Purpose) error {
	if err := tx.Exec("DELETE FROM mailed_codes WHERE user_id = ? AND purpose = ?", user, p).Error; err != nil {
		return fmt.Errorf("delete code: %w", err)
	}
	return nil
}
