// Package account is the rules of accounts: making them, proving whose their
// addresses are, their passwords and profiles, and deleting them.
//
// It promises: an answer that anybody may ask for doesn't tell whether an
// address has an account; a mailed code works once, for its purpose alone; a
// new password ends the sessions that the old one may have started.
//
// Limits: that the answers take the same time is the caller's to see to (see
// package rpc). Accounts that are not verified can be signed in to.
package account

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// User is an account.
type User struct {
	ID    uuid.UUID
	Email string // lower case; empty for one that has none, as a wallet's
	Profile
	Notifications Notifications
	Roles         []string
	CreatedAt     time.Time
	// VerifiedAt is when it was proven that its address is its owner's; zero
	// while it is not.
	VerifiedAt time.Time
}

// Standing is what an account may do at the moment.
type Standing struct {
	Roles []string
	// Attributes ride in its tokens, for callers' own rules.
	Attributes map[string]string
	// Disabled accounts can't sign in, nor refresh.
	Disabled bool
}

// ErrDisabled is the answer to who proved to be the owner of a disabled account.
func ErrDisabled() error {
	return errs.Unauthenticated("ACCOUNT_DISABLED", "the account is disabled")
}

// Store is where accounts are kept. What it is given to send goes to the
// address of the account that it is about.
type Store interface {
	// Register stores a new account, or leaves the one that has its address as
	// it is.
	Register(ctx context.Context, r Registration) error
	// ByID returns errs.NotFound for an id that nobody has.
	ByID(ctx context.Context, id uuid.UUID) (User, error)
	// Ask keeps what was asked for of the account with an address, when there
	// is one that want takes. It ends what was asked for before.
	Ask(ctx context.Context, email string, want func(Owner) bool, a Asked) error
	// Asked returns until when a code is good; errs.NotFound when it isn't.
	Asked(ctx context.Context, p Purpose, h Hash) (time.Time, error)
	// Verify uses up a code, and notes that its account's address is verified.
	// errs.NotFound when the code isn't good.
	Verify(ctx context.Context, h Hash) error
	// Reset uses up a code, sets the password of its account and ends its
	// sessions; when its address was not verified, everything else that the
	// account can be signed in with, too, and otherwise the identities and API
	// keys from before it was. errs.NotFound when the code isn't good.
	Reset(ctx context.Context, h Hash, passwordHash string, notice mail.Mail) error
	// Password returns a user's address and password hash, each empty when
	// there is none; errs.NotFound.
	Password(ctx context.Context, id uuid.UUID) (email, passwordHash string, err error)
	// ChangePassword replaces a password hash if it is still old, and ends the
	// sessions but except. errs.Conflict (PASSWORD_CHANGED).
	ChangePassword(ctx context.Context, id uuid.UUID, old, changed string, except uuid.UUID, notice mail.Mail) error
	// Update stores what change makes of a user's profile and choices.
	Update(ctx context.Context, id uuid.UUID, change func(*User), e audit.Event) (User, error)
	// Delete deletes a user with everything personal.
	Delete(ctx context.Context, id uuid.UUID, farewell mail.Mail) error
}

// Registration is an account to be made.
type Registration struct {
	User         User
	PasswordHash string
	// Asked is for a new account, Tried for the owner of the address when it
	// has one.
	Asked Asked
	Tried mail.Mail
	// MailsPerHour bounds the mails of one kind to one account.
	MailsPerHour int
}

// Owner is who an address belongs to.
type Owner struct{ Verified, Disabled bool }

// Passwords hashes and checks passwords; see package password.
type Passwords interface {
	Hash(ctx context.Context, password string) (string, error)
	Matches(ctx context.Context, password, hash string) (bool, error)
}

// Breaches knows passwords from breaches; see package password.
type Breaches interface {
	Known(ctx context.Context, password string) bool
}

// Policy of accounts.
type Policy struct {
	// MinPassword in characters.
	MinPassword int
	// MailsPerHour bounds the mails of one kind to one account.
	MailsPerHour int
}

// Deps are what the rules stand on.
type Deps struct {
	Store     Store
	Passwords Passwords
	Breaches  Breaches
	Texts     *mail.Texts
	// Audit keeps what was refused.
	Audit audit.Recorder
	Now   func() time.Time
}

// Service is the rules of accounts.
type Service struct {
	Deps
	policy Policy
}

// NewService returns the rules.
func NewService(d Deps, p Policy) *Service { return &Service{Deps: d, policy: p} }

// Register creates an account and mails a code to verify its address with.
// Whether the address was taken is told to nobody but its owner, by mail: the
// password is hashed either way.
func (s *Service) Register(ctx context.Context, email, password, displayName string) error {
	email = NormalEmail(email)
	if strings.EqualFold(password, email) {
		return errs.Invalid("password", "must not be the e-mail address")
	}
	if err := s.acceptable(ctx, "password", password); err != nil {
		return err
	}
	p := Profile{DisplayName: displayName}
	if err := p.tidy([]string{"display_name"}, ""); err != nil {
		return err
	}
	hash, err := s.Passwords.Hash(ctx, password)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("new user id: %w", err)
	}
	asked, err := s.asked(VerifyEmail)
	if err != nil {
		return err
	}
	tried, err := s.Texts.Mail(mail.RegistrationTried, mail.Data{})
	if err != nil {
		return err
	}
	return s.Store.Register(ctx, Registration{
		User: User{
			ID: id, Email: email, Profile: p, Roles: []string{role.IndividualInvestor}, CreatedAt: s.Now().UTC(),
		},
		PasswordHash: hash, Asked: asked, Tried: tried, MailsPerHour: s.policy.MailsPerHour,
	})
}

// ByID returns an account.
func (s *Service) ByID(ctx context.Context, id uuid.UUID) (User, error) { return s.Store.ByID(ctx, id) }

// NormalEmail is the form that addresses are stored and compared in.
func NormalEmail(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// refused records that something was refused, for a reason of ours, and returns
// that.
func (s *Service) refused(ctx context.Context, e audit.Event, why *errs.Error) error {
	e.Outcome, e.Reason = audit.Refused, why.Reason
	if err := s.Audit.Record(ctx, e); err != nil {
		return err
	}
	return why
}
