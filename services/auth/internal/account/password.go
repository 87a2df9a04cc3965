package account

import (
	"context"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/password"
)

// MaxPassword is the maximum length of a password, in characters.
const MaxPassword = 128

// acceptable refuses a password that CheckPassword refuses, or that is known from a breach. errs.Invalid on field.
func (s *Service) acceptable(ctx context.Context, field, typed string) error {
	if err := s.CheckPassword(field, typed); err != nil {
		return err
	}
	normal, err := password.Normalize(field, typed)
	if err != nil {
		return err
	}
	if s.Breaches.Known(ctx, normal) {
		return errs.Invalid(field, "must not be a password that is known from a breach: attackers try those first; "+
			"choose another one, for example four random words")
	}
	return nil
}

// CheckPassword refuses a password with characters that none may have, and one that is too short or too long in its
// normal form. errs.Invalid on field.
func (s *Service) CheckPassword(field, typed string) error {
	normal, err := password.Normalize(field, typed)
	if err != nil {
		return err
	}
	switch n := utf8.RuneCountInString(normal); {
	case n < s.policy.MinPassword:
		return errs.Invalid(field, fmt.Sprintf("must be at least %d characters, has %d", s.policy.MinPassword, n))
	case n > MaxPassword:
		return errs.Invalid(field, fmt.Sprintf("must be at most %d characters, has %d", MaxPassword, n))
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
	return s.Store.Change(ctx, c.User, Include{}, func(state State, _ time.Time) (Changes, error) {
		return changePassword(state, old, hash, c.Session)
	})
}

// changePassword decides about a user's own change of a password that was checked against old.
func changePassword(s State, old, changed string, session uuid.UUID) (Changes, error) {
	if s.PasswordHash != old {
		return Changes{}, errPasswordChanged()
	}
	var c Changes
	c.setPassword(changed, session, audit.Event{Type: audit.PasswordChanged, Actor: s.ID, Subject: s.ID})
	return c, nil
}

// setPassword adds a new password and its consequences: every session but one ends, and mailed codes for a password
// reset or another address become invalid. If sessions already end for another reason, that reason is kept.
func (c *Changes) setPassword(hash string, except uuid.UUID, e audit.Event) {
	c.PasswordHash, c.EndCodes = &hash, append(c.EndCodes, ResetPassword, ChangeEmail)
	if c.EndSessions == nil {
		c.EndSessions = &SessionEnd{Reason: "PASSWORD_CHANGED", Except: except}
	}
	c.Events = append(c.Events, e)
}

// errPasswordChanged is the answer when a password was checked against a hash that another call has replaced.
func errPasswordChanged() error {
	return errs.Conflict("PASSWORD_CHANGED", "the password was changed by another call meanwhile; "+
		"sign in with that one, or reset it")
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
