package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// Purpose of a mailed code; it is good for no other.
type Purpose string

// The purposes.
const (
	VerifyEmail   Purpose = "VERIFY_EMAIL"
	ResetPassword Purpose = "RESET_PASSWORD"
)

// lasts is how long a code is good.
func (p Purpose) lasts() time.Duration {
	if p == ResetPassword {
		return 30 * time.Minute
	}
	return 24 * time.Hour
}

// Hash is the SHA-256 of a code, all that is kept of it. A code is random, so a
// fast hash is enough.
type Hash [sha256.Size]byte

// Asked is a code that was asked for, on its way to an account's address.
type Asked struct {
	Purpose Purpose
	Hash    Hash
	Lasts   time.Duration
	Mail    mail.Mail
	Event   audit.Event
	// MailsPerHour bounds the mails of one kind to one account; past it nothing
	// is kept or sent.
	MailsPerHour int
}

// asked makes a code and its mail.
func (s *Service) asked(p Purpose) (Asked, error) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	token := base64.RawURLEncoding.EncodeToString(b)
	kind, event := mail.VerifyEmail, audit.VerificationRequested
	if p == ResetPassword {
		kind, event = mail.ResetPassword, audit.PasswordResetRequested
	}
	m, err := s.Texts.Mail(kind, mail.Data{Token: token})
	return Asked{
		Purpose: p, Hash: sha256.Sum256([]byte(token)), Lasts: p.lasts(), Mail: m,
		Event: audit.Event{Type: event}, MailsPerHour: s.policy.MailsPerHour,
	}, err
}

// errToken is the answer to a code that isn't good, whatever the reason.
func errToken() *errs.Error {
	return errs.FailedPrecondition("TOKEN_INVALID", "the code is not good, or not any more: ask for a new one")
}

// ResendVerification mails a new code to an address whose account is not
// verified; to any other it does nothing.
func (s *Service) ResendVerification(ctx context.Context, email string) error {
	a, err := s.asked(VerifyEmail)
	if err != nil {
		return err
	}
	return s.Store.Ask(ctx, NormalEmail(email), func(o Owner) bool { return !o.Verified }, a)
}

// Verify notes that the address of a code's account is its owner's.
// errs.FailedPrecondition (TOKEN_INVALID).
func (s *Service) Verify(ctx context.Context, token string) error {
	err := s.Store.Verify(ctx, sha256.Sum256([]byte(token)))
	if errs.Is(err, errs.KindNotFound) {
		return s.refused(ctx, audit.Event{Type: audit.EmailVerified}, errToken())
	}
	return err
}

// RequestReset mails a code for a new password to an address that has an
// account which is not disabled; to any other it does nothing.
func (s *Service) RequestReset(ctx context.Context, email string) error {
	a, err := s.asked(ResetPassword)
	if err != nil {
		return err
	}
	return s.Store.Ask(ctx, NormalEmail(email), func(o Owner) bool { return !o.Disabled }, a)
}

// CheckReset returns until when a code for a new password is good.
// errs.FailedPrecondition (TOKEN_INVALID).
func (s *Service) CheckReset(ctx context.Context, token string) (time.Time, error) {
	until, err := s.Store.Asked(ctx, ResetPassword, sha256.Sum256([]byte(token)))
	if errs.Is(err, errs.KindNotFound) {
		return time.Time{}, errToken()
	}
	return until, err
}

// CompleteReset sets a new password with a code. errs.FailedPrecondition
// (TOKEN_INVALID).
func (s *Service) CompleteReset(ctx context.Context, token, password string) error {
	if err := s.acceptable(ctx, "new_password", password); err != nil {
		return err
	}
	// Looked at first: a made-up code is not worth a password hash.
	if _, err := s.CheckReset(ctx, token); err != nil {
		return s.refusedReset(ctx, err)
	}
	hash, err := s.Passwords.Hash(ctx, password)
	if err != nil {
		return err
	}
	notice, err := s.Texts.Mail(mail.PasswordChanged, mail.Data{At: s.Now()})
	if err != nil {
		return err
	}
	err = s.Store.Reset(ctx, sha256.Sum256([]byte(token)), hash, notice)
	if errs.Is(err, errs.KindNotFound) {
		err = errToken()
	}
	return s.refusedReset(ctx, err)
}

func (s *Service) refusedReset(ctx context.Context, err error) error {
	if e := errs.As(err); e != nil && e.Kind == errs.KindFailedPrecondition {
		return s.refused(ctx, audit.Event{Type: audit.PasswordReset}, e)
	}
	return err
}
