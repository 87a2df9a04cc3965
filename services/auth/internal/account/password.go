package account

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// MaxPassword is the maximum length of a password, in characters.
const MaxPassword = 128

// acceptable refuses a password that is too short, too long or known from a breach. errs.Invalid on field.
func (s *Service) acceptable(ctx context.Context, field, password string) error {
	if err := s.checkLength(field, password); err != nil {
		return err
	}
	if s.Breaches.Known(ctx, password) {
		return errs.Invalid(field, "must not be a password that is known from a breach: attackers try those first; "+
			"choose another one, for example four random words")
	}
	return nil
}

// checkLength refuses a password that is too short or too long. errs.Invalid on field.
func (s *Service) checkLength(field, password string) error {
	if n := utf8.RuneCountInString(password); n < s.policy.MinPassword || n > MaxPassword {
		return errs.Invalid(field, fmt.Sprintf("must have %d to %d characters, "+
			"got %d", s.policy.MinPassword, MaxPassword,
			n))
	}
	return nil
}

// PasswordChange is a user's request for another password.
type PasswordChange struct {
	User uuid.UUID
	// Session is the one that the user is signed in with, which goes on.
	Session uuid.UUID
	// Current is empty for an account without a password. CheckRecent then refuses unless the user has signed in or
	// reauthenticated a short time ago.
	Current, New string
	CheckRecent  func() error
}

// ChangePassword replaces a password, or sets the first one, and ends the other sessions. errs.PermissionDenied
// (PASSWORD_WRONG) or the error of CheckRecent; errs.FailedPrecondition (EMAIL_REQUIRED); errs.Conflict
// (PASSWORD_CHANGED) when it was changed meanwhile.
func (s *Service) ChangePassword(ctx context.Context, c PasswordChange) error {
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
	return s.Store.Change(ctx, c.User, Include{}, func(state State, _ time.Time) (Changes, error) {
		return changePassword(state, old, hash, c.Session, notice)
	})
}

// changePassword decides about a user's own change of a password that was checked against old.
func changePassword(s State, old, changed string, session uuid.UUID, notice mail.Mail) (Changes, error) {
	if s.PasswordHash != old {
		return Changes{}, errs.Conflict("PASSWORD_CHANGED", "the password was changed by another call meanwhile; "+
			"sign in with that one, or reset it")
	}
	var c Changes
	c.setPassword(s, changed, session, notice, audit.Event{Type: audit.PasswordChanged, Actor: s.ID, Subject: s.ID})
	return c, nil
}

// setPassword adds a new password and its consequences: every session but one ends, codes for a password reset become
// invalid, and the owner is notified. If sessions already end for another reason, that reason is kept.
func (c *Changes) setPassword(s State, hash string, except uuid.UUID, notice mail.Mail, e audit.Event) {
	c.PasswordHash, c.EndCodes = &hash, ResetPassword
	if c.EndSessions == nil {
		c.EndSessions = &SessionEnd{Reason: "PASSWORD_CHANGED", Except: except}
	}
	if s.Email != "" {
		c.Mails = append(c.Mails, s.addressed(notice))
	}
	c.Events = append(c.Events, e)
}

// mayChange checks that the caller is the owner.
func (s *Service) mayChange(ctx context.Context, c PasswordChange, email, old string) error {
	e := audit.Event{Type: audit.PasswordChanged, Actor: c.User, Subject: c.User}
	switch {
	case old == "" && email == "":
		return errs.FailedPrecondition("EMAIL_REQUIRED", "an account without an e-mail address can't have a "+
			"password; sign in with its wallet or provider")
	case old == "" && c.Current != "":
		return s.refused(ctx, e, errs.PermissionDenied("PASSWORD_WRONG", "the account has no password yet: leave "+
			"current_password empty to set the first one"))
	case old == "":
		return c.CheckRecent()
	}
	ok, err := s.Passwords.Matches(ctx, c.Current, old)
	if err != nil {
		return err
	}
	if !ok {
		return s.refused(ctx, e, errs.PermissionDenied("PASSWORD_WRONG", "current_password is wrong; "+
			"RequestPasswordReset mails a code for a new one"))
	}
	return nil
}
