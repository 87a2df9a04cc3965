package account

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// Purpose of a mailed code. A code is valid for one purpose only.
type Purpose string

// The purposes.
const (
	VerifyEmail   Purpose = "VERIFY_EMAIL"
	ResetPassword Purpose = "RESET_PASSWORD"
	ChangeEmail   Purpose = "CHANGE_EMAIL"
	// CancelDeletion keeps an account that its owner asked to delete.
	CancelDeletion Purpose = "CANCEL_DELETION"
)

// lifetime of a code from its request on.
func (p Purpose) lifetime() time.Duration {
	if p == VerifyEmail {
		return 24 * time.Hour
	}
	return 30 * time.Minute
}

// Hash is the SHA-256 of a code; the code itself is not stored. A code is random, so a fast hash is enough.
type Hash [sha256.Size]byte

func hashOf(code string) Hash { return sha256.Sum256([]byte(code)) }

// codeRequest is a request for a new code, with the mail that carries it.
type codeRequest struct {
	Code
	mail       mail.Mail
	event      audit.Type
	maxPerHour int // mails of this kind to one account
}

// mayMail limits the mails of a code to one mailbox. Beyond maxPerHour there is one more whenever the last is older
// than an even share of the hour, or than half of the code's lifetime. So whoever uses the mails up can't keep the
// owner from a code: the mailbox always has one that is valid for a while.
func (r codeRequest) mayMail(s State) bool {
	interval := min(time.Hour/time.Duration(r.maxPerHour), r.Lifetime/2)
	return s.RecentMails < r.maxPerHour || s.SinceLastMail >= interval
}

// newCode returns 256 random bits, and what is stored of them.
func newCode() (string, Hash) {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails: crypto/rand ends the program instead
	code := base64.RawURLEncoding.EncodeToString(b)
	return code, hashOf(code)
}

// newCodeRequest makes a code and its mail.
func (s *Service) newCodeRequest(p Purpose) (codeRequest, error) {
	code, hash := newCode()
	kind, event := mail.VerifyEmail, audit.VerificationRequested
	if p == ResetPassword {
		kind, event = mail.ResetPassword, audit.PasswordResetRequested
	}
	m, err := s.Texts.Mail(kind, mail.Data{Token: code})
	return codeRequest{
		// Beside the earlier ones, or anybody could end the owner's code by requesting another.
		Code: Code{Purpose: p, Hash: hash, Lifetime: p.lifetime(), Beside: true},
		mail: m, event: event, maxPerHour: s.policy.MailsPerHour,
	}, err
}

// decide says who gets a code: the owner of an account that the purpose applies to, within the limit of
// mails. Anybody else gets nothing but an event.
func (r codeRequest) decide(s State, _ time.Time) (Changes, error) {
	refused := ""
	switch {
	case s.ID == uuid.Nil:
		refused = "NO_SUCH_ACCOUNT"
	case r.Purpose == VerifyEmail && !s.VerifiedAt.IsZero(), r.Purpose == ResetPassword && !s.DisabledAt.IsZero():
		refused = "NOT_APPLICABLE"
	case !r.mayMail(s):
		refused = "TOO_MANY_MAILS"
	}
	e := audit.Event{Type: r.event, Subject: s.ID}
	if refused != "" {
		e.Outcome, e.Reason = audit.Refused, refused
		return Changes{Events: []audit.Event{e}}, nil
	}
	return Changes{NewCode: &r.Code, Mails: []mail.Mail{s.addressed(r.mail)}, Events: []audit.Event{e}}, nil
}

// requestCode mails a new code to an address, when its account may have one.
func (s *Service) requestCode(ctx context.Context, email string, p Purpose) error {
	r, err := s.newCodeRequest(p)
	if err != nil {
		return err
	}
	return s.Store.ChangeByEmail(ctx, NormalEmail(email), Include{RecentMails: []mail.Kind{r.mail.Kind}}, r.decide)
}

// errCodeInvalid is the answer to a code that can't be used, whatever the reason.
func errCodeInvalid() *errs.Error {
	return errs.FailedPrecondition("CODE_INVALID", "the code is wrong, used, expired, ended by the use of "+
		"another one, for another purpose or another account; request a new one (ResendVerification, "+
		"RequestPasswordReset, RequestEmailChange)")
}

// ResendVerification mails a new code to an address whose account is not verified; for any other it does nothing.
func (s *Service) ResendVerification(ctx context.Context, email string) error {
	return s.requestCode(ctx, email, VerifyEmail)
}

// RequestReset mails a code for a new password to an address whose account is not disabled; for any other it does
// nothing.
func (s *Service) RequestReset(ctx context.Context, email string) error {
	return s.requestCode(ctx, email, ResetPassword)
}

// CheckReset returns when a code for a new password expires. errs.FailedPrecondition (CODE_INVALID).
func (s *Service) CheckReset(ctx context.Context, code string) (time.Time, error) {
	expiresAt, err := s.Store.CodeExpiry(ctx, ResetPassword, hashOf(code))
	if errs.Is(err, errs.KindNotFound) {
		return time.Time{}, errCodeInvalid()
	}
	return expiresAt, err
}

// CompleteReset uses up a code, sets a new password and ends the sessions. It proves the address as well: see Prove.
// errs.FailedPrecondition (CODE_INVALID).
func (s *Service) CompleteReset(ctx context.Context, code, password string) (Removed, error) {
	if err := s.acceptable(ctx, "new_password", password); err != nil {
		return Removed{}, err
	}
	// Checked before hashing, which a made-up code is not worth.
	if _, err := s.CheckReset(ctx, code); err != nil {
		return Removed{}, s.refusedReset(ctx, err)
	}
	hash, err := s.Passwords.Hash(ctx, password)
	if err != nil {
		return Removed{}, err
	}
	var removed Removed
	err = s.Store.ChangeByCode(ctx, ResetPassword, hashOf(code), Include{Credentials: true},
		func(state State, now time.Time) (Changes, error) {
			if err := provable(state); err != nil {
				return Changes{}, err
			}
			c := reset(state, now, hash)
			removed = c.Removed
			return c, nil
		})
	if errs.Is(err, errs.KindNotFound) {
		err = errCodeInvalid()
	}
	return removed, s.refusedReset(ctx, err)
}

// reset decides what a code that sets a new password changes.
func reset(s State, now time.Time, passwordHash string) Changes {
	c := Prove(s, now, false)
	c.KnowClient = true // whoever has the code may sign in from here, however many others try
	c.setPassword(passwordHash, uuid.Nil, audit.Event{Type: audit.PasswordReset, Subject: s.ID})
	return c
}

func (s *Service) refusedReset(ctx context.Context, err error) error {
	if e := errs.As(err); e != nil && e.Kind == errs.KindFailedPrecondition {
		return s.refused(ctx, audit.Event{Type: audit.PasswordReset}, e)
	}
	return err
}
