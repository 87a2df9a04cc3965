package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// Ask implements account.Store.
func (s *Accounts) Ask(ctx context.Context, email string, want func(account.Owner) bool, a account.Asked) error {
	err := postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
		refused := a.Event
		refused.Outcome = audit.Refused
		row, err := lockUser(tx, "email = ?", email)
		if errs.Is(err, errs.KindNotFound) {
			refused.Reason = "NO_SUCH_ACCOUNT"
			return record(tx, refused)
		}
		if err != nil {
			return err
		}
		refused.Subject = row.ID
		if !want(account.Owner{Verified: row.VerifiedAt != nil, Disabled: row.DisabledAt != nil}) {
			refused.Reason = "NOT_APPLICABLE"
			return record(tx, refused)
		}
		may, err := mayQueueMail(tx, row.ID, a.Mail.Kind, a.MailsPerHour)
		if err != nil {
			return err
		}
		if !may {
			refused.Reason = "TOO_MANY_MAILS"
			return record(tx, refused)
		}
		if err := ask(tx, row, a); err != nil {
			return err
		}
		done := a.Event
		done.Subject = row.ID
		return record(tx, done)
	})
	s.mails.signalQueued()
	return err
}

// ask keeps a code, in the place of an earlier one, and sends it to its user.
func ask(tx *gorm.DB, row userRow, a account.Asked) error {
	err := tx.Exec(`INSERT INTO mailed_tokens (user_id, purpose, hash, expires_at)
		VALUES (?, ?, ?, clock_timestamp() + ? * interval '1 microsecond')
		ON CONFLICT (user_id, purpose) DO UPDATE SET hash = excluded.hash, expires_at = excluded.expires_at`,
		row.ID, a.Purpose, a.Hash[:], a.Lasts.Microseconds()).Error
	if err != nil {
		return fmt.Errorf("keep code: %w", err)
	}
	return queueMail(tx, to(row, a.Mail))
}

// to addresses a mail to the user that it is about.
func to(row userRow, m mail.Mail) mail.Mail {
	m.User = row.ID
	if row.Email != nil {
		m.To = *row.Email
	}
	return m
}

// tell sends a user a mail, if they have an address.
func tell(tx *gorm.DB, row userRow, m mail.Mail) error {
	if row.Email == nil {
		return nil
	}
	return queueMail(tx, to(row, m))
}

// Asked implements account.Store.
func (s *Accounts) Asked(ctx context.Context, p account.Purpose, h account.Hash) (time.Time, error) {
	_, until, err := s.asked(ctx, p, h)
	return until, err
}

func (s *Accounts) asked(ctx context.Context, p account.Purpose, h account.Hash) (uuid.UUID, time.Time, error) {
	var row struct {
		UserID    uuid.UUID
		ExpiresAt time.Time
	}
	err := s.db.Gorm(ctx).Table("mailed_tokens").Where("hash = ? AND purpose = ? AND expires_at > clock_timestamp()",
		h[:], p).Take(&row).Error
	return row.UserID, row.ExpiresAt, missing(err, "code")
}

// spend uses a code up with a change of its user; errs.NotFound when somebody
// else did first, or its time is over.
func (s *Accounts) spend(ctx context.Context, p account.Purpose, h account.Hash,
	fn func(tx *gorm.DB, row userRow) error) error {
	user, _, err := s.asked(ctx, p, h)
	if err != nil {
		return err
	}
	return s.change(ctx, user, func(tx *gorm.DB, row userRow) error {
		spent := tx.Exec("DELETE FROM mailed_tokens WHERE hash = ? AND purpose = ? AND expires_at > clock_timestamp()",
			h[:], p)
		if spent.Error != nil {
			return fmt.Errorf("use up code: %w", spent.Error)
		}
		if spent.RowsAffected == 0 {
			return errs.NotFound("code")
		}
		return fn(tx, row)
	})
}

// Verify implements account.Store.
func (s *Accounts) Verify(ctx context.Context, h account.Hash) error {
	return s.spend(ctx, account.VerifyEmail, h, func(tx *gorm.DB, row userRow) error {
		if err := verified(tx, row.ID); err != nil {
			return err
		}
		return record(tx, audit.Event{Type: audit.EmailVerified, Subject: row.ID})
	})
}

// verified notes that a user's address is theirs.
func verified(tx *gorm.DB, user uuid.UUID) error {
	if err := tx.Exec("UPDATE users SET email_verified_at = coalesce(email_verified_at, clock_timestamp()) WHERE id "+
		"= ?", user).Error; err != nil {
		return fmt.Errorf("verify address: %w", err)
	}
	return nil
}

// Reset implements account.Store.
func (s *Accounts) Reset(ctx context.Context, h account.Hash, passwordHash string, notice mail.Mail) error {
	err := s.spend(ctx, account.ResetPassword, h, func(tx *gorm.DB, row userRow) error {
		if err := disown(tx, row); err != nil {
			return err
		}
		if err := verified(tx, row.ID); err != nil {
			return err
		}
		e := audit.Event{Type: audit.PasswordReset, Subject: row.ID}
		return setPassword(tx, row, passwordHash, uuid.Nil, notice, e)
	})
	s.mails.signalQueued()
	return err
}

// disown takes from an account what whoever registered it could come back with,
// for they may not be its address's owner: everything while that is not
// verified, and what was added before it was. Of what was added then a second
// factor stays, or who reads the owner's mails would be rid of it.
func disown(tx *gorm.DB, row userRow) error {
	if row.VerifiedAt == nil {
		return empty(tx, row.ID)
	}
	found, err := strip(tx, "user_id = ? AND created_at < ?", row.ID, *row.VerifiedAt)
	if err != nil || !found {
		return err
	}
	return record(tx, audit.Event{Type: audit.AccountTakenOver, Reason: "ADDED_UNVERIFIED", Subject: row.ID})
}

// setPassword replaces a password, after which nothing is left of the old one:
// neither the sessions but except, nor codes for a new one.
func setPassword(tx *gorm.DB, row userRow, hash string, except uuid.UUID, notice mail.Mail, e audit.Event) error {
	if err := tx.Model(&userRow{}).Where("id = ?", row.ID).Update("password_hash", hash).Error; err != nil {
		return fmt.Errorf("set password: %w", err)
	}
	if err := tx.Exec("DELETE FROM mailed_tokens WHERE user_id = ? AND purpose = ?", row.ID,
		account.ResetPassword).Error; err != nil {
		return fmt.Errorf("end codes: %w", err)
	}
	if _, err := revoke(tx, "PASSWORD_CHANGED", "user_id = ? AND id <> ?", row.ID, except); err != nil {
		return err
	}
	if err := tell(tx, row, notice); err != nil {
		return err
	}
	return record(tx, e)
}

// Password implements account.Store.
func (s *Accounts) Password(ctx context.Context, id uuid.UUID) (email, hash string, err error) {
	var row userRow
	if err := s.db.Gorm(ctx).Select("email", "password_hash").Where("id = ?", id).Take(&row).Error; err != nil {
		return "", "", missing(err, "user")
	}
	return orEmpty(row.Email), orEmpty(row.PasswordHash), nil
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// ChangePassword implements account.Store.
func (s *Accounts) ChangePassword(ctx context.Context, id uuid.UUID, old, changed string, except uuid.UUID,
	notice mail.Mail) error {
	err := s.change(ctx, id, func(tx *gorm.DB, row userRow) error {
		if orEmpty(row.PasswordHash) != old {
			return errs.Conflict("PASSWORD_CHANGED", "the password was changed meanwhile")
		}
		e := audit.Event{Type: audit.PasswordChanged, Actor: id, Subject: id}
		return setPassword(tx, row, changed, except, notice, e)
	})
	s.mails.signalQueued()
	return err
}

// Update implements account.Store.
func (s *Accounts) Update(ctx context.Context, id uuid.UUID, change func(*account.User),
	e audit.Event) (u account.User, err error) {
	err = s.change(ctx, id, func(tx *gorm.DB, row userRow) error {
		u = row.user()
		change(&u)
		row.Profile = columns(u)
		err := tx.Select("DisplayName", "FirstName", "LastName", "Bio", "TimeZone", "PreferredCurrency", "PictureURL",
			"Notifications").
			Updates(&row).Error
		if err != nil {
			return fmt.Errorf("update user: %w", err)
		}
		return record(tx, e)
	})
	return u, err
}

// Delete implements account.Store. Everything of a user's is deleted with their
// row; what was recorded of them stays, without where it came from.
func (s *Accounts) Delete(ctx context.Context, id uuid.UUID, farewell mail.Mail) error {
	err := s.change(ctx, id, func(tx *gorm.DB, row userRow) error {
		if err := keepAnAdmin(tx, id); err != nil {
			return err
		}
		// Each by its own id too, as those of a user who is disabled: announceAll.
		if _, err := revoke(tx, "ACCOUNT_DELETED", "user_id = ?", id); err != nil {
			return err
		}
		if err := announceAll(tx, id); err != nil {
			return err
		}
		if err := tx.Where("id = ?", id).Delete(&userRow{}).Error; err != nil {
			return fmt.Errorf("delete user: %w", err)
		}
		// An address that was never verified may be a stranger's, whom accounts
		// that are made and deleted again would be a way to flood.
		if row.Email != nil && row.VerifiedAt != nil {
			farewell.To = *row.Email // of nobody's, or it would be deleted too
			if err := queueMail(tx, farewell); err != nil {
				return err
			}
		}
		if err := record(tx, audit.Event{Type: audit.AccountDeleted, Actor: id, Subject: id}); err != nil {
			return err
		}
		err := tx.Exec(`DELETE FROM audit_personal WHERE subject = ? OR event_id IN (SELECT id FROM audit_events WHERE actor = ?)`, id, id).Error
		if err != nil {
			return fmt.Errorf("erase where events came from: %w", err)
		}
		return nil
	})
	if errs.Is(err, errs.KindNotFound) { // deleted already
		return nil
	}
	s.mails.signalQueued()
	return err
}
