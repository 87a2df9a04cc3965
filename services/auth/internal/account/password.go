package account

import (
	"context"
	"fmt"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// MaxPassword is the longest password, in characters.
const MaxPassword = 128

// acceptable refuses what is no password to have, in the name of a field.
func (s *Service) acceptable(ctx context.Context, field, password string) error {
	if n := utf8.RuneCountInString(password); n < s.policy.MinPassword || n > MaxPassword {
		return errs.Invalid(field, fmt.Sprintf("must have %d to %d characters", s.policy.MinPassword, MaxPassword))
	}
	if s.Breaches.Known(ctx, password) {
		return errs.Invalid(field, "must not be a password that is known from a breach")
	}
	return nil
}

// Change is a password to be changed.
type Change struct {
	User uuid.UUID
	// Session that goes on.
	Session uuid.UUID
	// Current is empty for an account without a password; Recent says that its
	// owner proved to be there just now, which the first one needs.
	Current, New string
	Recent       func() error
}

// ChangePassword replaces a password, or sets the first one, and ends the other
// sessions. errs.PermissionDenied (PASSWORD_WRONG) and what Recent says;
// errs.FailedPrecondition (EMAIL_REQUIRED); errs.Conflict (PASSWORD_CHANGED).
func (s *Service) ChangePassword(ctx context.Context, c Change) error {
	if err := s.acceptable(ctx, "new_password", c.New); err != nil {
		return err
	}
	email, old, err := s.Store.Password(ctx, c.User)
	if err != nil {
		return err
	}
	if err := s.mayChange(ctx, c, email, old); err != nil {
		return err
	}
	hash, err := s.Passwords.Hash(ctx, c.New)
	if err != nil {
		return err
	}
	notice, err := s.Texts.Mail(mail.PasswordChanged, mail.Data{At: s.Now()})
	if err != nil {
		return err
	}
	return s.Store.ChangePassword(ctx, c.User, old, hash, c.Session, notice)
}

// mayChange checks that the caller is the owner.
func (s *Service) mayChange(ctx context.Context, c Change, email, old string) error {
	e := audit.Event{Type: audit.PasswordChanged, Actor: c.User, Subject: c.User}
	switch {
	case old == "" && email == "":
		return errs.FailedPrecondition("EMAIL_REQUIRED", "an account without an e-mail address can't have a password")
	case old == "" && c.Current != "":
		return s.refused(ctx, e, errs.PermissionDenied("PASSWORD_WRONG", "the account has no password yet"))
	case old == "":
		return c.Recent()
	}
	ok, err := s.Passwords.Matches(ctx, c.Current, old)
	if err != nil {
		return err
	}
	if !ok {
		return s.refused(ctx, e, errs.PermissionDenied("PASSWORD_WRONG", "the current password is wrong"))
	}
	return nil
}

// Delete deletes an account.
func (s *Service) Delete(ctx context.Context, user uuid.UUID) error {
	farewell, err := s.Texts.Mail(mail.AccountDeleted, mail.Data{At: s.Now()})
	if err != nil {
		return err
	}
	return s.Store.Delete(ctx, user, farewell)
}
