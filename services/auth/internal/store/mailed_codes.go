package store

import (
	"context"
	"fmt"
	"slices"
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
	row, err := findCode(s.db.Gorm(ctx), p, h)
	return row.ExpiresAt, err
}

type codeRow struct {
	UserID    uuid.UUID
	ExpiresAt time.Time
	NewEmail  *string
}

func findCode(db *gorm.DB, p account.Purpose, h account.Hash) (row codeRow, err error) {
	err = db.Table("mailed_codes").Where(validCode, h[:], p).Take(&row).Error
	return row, missing(err, "code")
}

// Owner implements account.Store.
func (s *Accounts) Owner(ctx context.Context, p account.Purpose, h account.Hash) (id uuid.UUID, email, hash string,
	err error) {
	row, err := findCode(s.db.Gorm(ctx), p, h)
	if err != nil {
		return uuid.Nil, "", "", err
	}
	email, hash, err = s.Password(ctx, row.UserID)
	return row.UserID, email, hash, err
}

// ChangeByCode implements account.Store. The code's user is found first, because the lock on their row comes before
// that on the code, which by then may have been used.
func (s *Accounts) ChangeByCode(ctx context.Context, p account.Purpose, h account.Hash, include account.Include,
	decide account.Decide) error {
	code, err := findCode(s.db.Gorm(ctx), p, h)
	if err != nil {
		return err
	}
	return s.change(ctx, func(tx *gorm.DB) (account.State, account.Changes, error) {
		return changeByCaller(tx, code.UserID, include, func(state account.State, now time.Time) (account.Changes,
			error) {
			used := tx.Exec("DELETE FROM mailed_codes WHERE "+validCode, h[:], p)
			if used.Error != nil {
				return account.Changes{}, fmt.Errorf("use up code: %w", used.Error)
			}
			if used.RowsAffected == 0 {
				return account.Changes{}, errs.NotFound("code")
			}
			// The hash is the code's alone, so it still has the address that was read before.
			state.NewEmail = orEmpty(code.NewEmail)
			if err := deleteCodes(tx, code.UserID, p); err != nil { // the others of its purpose end with it
				return account.Changes{}, err
			}
			return decide(state, now)
		})
	})
}

func applyToCodes(tx *gorm.DB, s account.State, c account.Changes) error {
	ended := c.EndCodes
	if !c.VerifiedAt.IsZero() { // which accepts an invitation
		ended = append(slices.Clone(ended), account.Invitation)
	}
	if len(ended) > 0 {
		if err := deleteCodes(tx, s.ID, ended...); err != nil {
			return err
		}
	}
	if c.NewCode == nil {
		return nil
	}
	// The rate of mails bounds how many are valid at once.
	err := tx.Exec("DELETE FROM mailed_codes WHERE user_id = ? AND purpose = ? AND (NOT ? OR "+
		"expires_at <= clock_timestamp())", s.ID, c.NewCode.Purpose, c.NewCode.Beside).Error
	if err != nil {
		return fmt.Errorf("delete codes: %w", err)
	}
	err = tx.Exec(`INSERT INTO mailed_codes (user_id, purpose, hash, expires_at, new_email)
		VALUES (?, ?, ?, clock_timestamp() + ? * interval '1 microsecond', nullif(?, ''))`,
		s.ID, c.NewCode.Purpose, c.NewCode.Hash[:], c.NewCode.Lifetime.Microseconds(), c.NewCode.NewEmail).Error
	if err != nil {
		return fmt.Errorf("store code: %w", err)
	}
	return nil
}

func deleteCodes(tx *gorm.DB, user uuid.UUID, of ...account.Purpose) error {
	if err := tx.Exec("DELETE FROM mailed_codes WHERE user_id = ? AND purpose IN ?", user, of).Error; err != nil {
		return fmt.Errorf("delete codes: %w", err)
	}
	return nil
}
