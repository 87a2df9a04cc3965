// Package account has the rules of accounts: registration, verified addresses, passwords, profiles and deletion.
//
// It promises: an answer to an anonymous caller doesn't reveal whether an address has an account; a mailed code works
// once, for its purpose alone; a new password ends the sessions that the old one may have started. What changes is
// decided by pure functions (see Decide): a Store reads the locked account, calls the function and stores the Changes
// that it returns.
//
// Limits: package rpc makes the response times equal. Users can sign in to an account whose address is not verified.
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
	Email string // lower case; empty for an account without one, e.g. created by a wallet sign-in
	Profile
	Roles     []string
	CreatedAt time.Time
	// VerifiedAt is when somebody proved to own the address; zero while nobody has.
	VerifiedAt time.Time
}

// AccessState is what decides about the access of an account, as of now.
type AccessState struct {
	Roles []string
	// Attributes are put into its tokens, for the rules of other services.
	Attributes map[string]string
	// Disabled accounts can't sign in, nor refresh.
	Disabled bool
}

// Store is where accounts are stored. Its Change methods lock one account, decide on it and store the result in one
// transaction. They refuse what package authority refuses, and answer errs.NotFound when there is no such account.
type Store interface {
	// Register stores a new account. If another account has the address, Register applies onTaken to that one
	// instead. errs.Unavailable (TRY_AGAIN) when that one was deleted meanwhile.
	Register(ctx context.Context, r Registration, include Include, onTaken Decide) error
	// ByID returns errs.NotFound for an id that nobody has.
	ByID(ctx context.Context, id uuid.UUID) (User, error)
	Change(ctx context.Context, id uuid.UUID, include Include, decide Decide) error
	// ChangeByEmail changes the account with this address. If there is none, decide gets the zero State, and only the
	// events that it returns are stored. No caller is checked: they have not signed in.
	ChangeByEmail(ctx context.Context, email string, include Include, decide Decide) error
	// ChangeByCode uses up a mailed code with a change of its account. errs.NotFound when it is unknown, used or
	// expired.
	ChangeByCode(ctx context.Context, p Purpose, h Hash, include Include, decide Decide) error
	// CodeExpiry returns when a mailed code expires; errs.NotFound when it is unknown, used or expired.
	CodeExpiry(ctx context.Context, p Purpose, h Hash) (time.Time, error)
	// Owner returns the account that a mailed code is of, with its address and password hash, each empty when there is
	// none. errs.NotFound when the code is unknown, used or expired.
	Owner(ctx context.Context, p Purpose, h Hash) (id uuid.UUID, email, passwordHash string, err error)
	// Password returns a user's address and password hash, each empty when there is none; errs.NotFound.
	Password(ctx context.Context, id uuid.UUID) (email, passwordHash string, err error)
}

// Registration is an account to be made, with what is stored beside it: Decide is about the new account; nil stores
// nothing.
type Registration struct {
	User         User
	PasswordHash string
	Include      Include
	Decide       Decide
}

// Passwords hashes and checks passwords; see package password.
type Passwords interface {
	Hash(ctx context.Context, password string) (string, error)
	Matches(ctx context.Context, password, hash string) (bool, error)
}

// Breaches knows passwords that were published in breaches; see package password.
type Breaches interface {
	Known(ctx context.Context, password string) bool
}

// Policy of accounts.
type Policy struct {
	// MinPassword in characters.
	MinPassword int
	// MailsPerHour bounds the mails of one kind to one account.
	MailsPerHour int
	// DeletionGrace is how long an account is kept that its owner asked to delete; 0 deletes it at once.
	DeletionGrace time.Duration
}

// Deps are what a Service depends on.
type Deps struct {
	Store     Store
	Passwords Passwords
	Breaches  Breaches
	Texts     *mail.Texts
	// Audit records what was refused.
	Audit audit.Recorder
	Now   func() time.Time
}

// Service applies the rules of accounts.
type Service struct {
	Deps
	policy Policy
}

// NewService returns a Service.
func NewService(d Deps, p Policy) *Service { return &Service{Deps: d, policy: p} }

// Register creates an account and mails a code to verify its address with. Only the owner of a taken address is told
// that it was taken, by mail: the answer is the same, and the password is hashed either way.
func (s *Service) Register(ctx context.Context, email, password, displayName string) error {
	if err := s.CheckRegistration(email, password, displayName); err != nil {
		return err
	}
	email = NormalEmail(email)
	if err := s.acceptable(ctx, "password", password); err != nil {
		return err
	}
	p := Profile{DisplayName: strings.TrimSpace(displayName)}
	hash, err := s.Passwords.Hash(ctx, password)
	if err != nil {
		return err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("new user id: %w", err)
	}
	code, err := s.newCodeRequest(VerifyEmail)
	if err != nil {
		return err
	}
	notice, err := s.Texts.Mail(mail.RegistrationTried, mail.Data{})
	if err != nil {
		return err
	}
	u := User{ID: id, Email: email, Profile: p, Roles: []string{role.IndividualInvestor}, CreatedAt: s.Now().UTC()}
	return s.Store.Register(ctx, Registration{
		User: u, PasswordHash: hash,
		Include: Include{RecentMails: []mail.Kind{code.mail.Kind}}, Decide: code.registered,
	}, Include{RecentMails: []mail.Kind{notice.Kind}}, func(owner State, _ time.Time) (Changes, error) {
		return registrationTried(owner, notice, s.policy.MailsPerHour), nil
	})
}

// CheckRegistration returns errs.Invalid with every mistake in a registration, but for a password that is known from a
// breach.
func (s *Service) CheckRegistration(email, password, displayName string) error {
	var same error
	if password != "" && strings.EqualFold(password, NormalEmail(email)) {
		same = errs.Invalid("password", "must not be the e-mail address")
	}
	p := Profile{DisplayName: displayName}
	return errs.AllInvalid(same, s.CheckPassword("password", password), p.normalize([]string{"display_name"}, ""))
}

// registered decides about a new account: it gets a code, within the limit of mails to its address.
func (r codeRequest) registered(s State, _ time.Time) (Changes, error) {
	c := Changes{Events: []audit.Event{{Type: audit.Registered, Subject: s.ID}}}
	if r.mayMail(s) {
		c.NewCode, c.Mails = &r.Code, []mail.Mail{s.addressed(r.mail)}
		return c, nil
	}
	c.Events = append(c.Events, audit.Event{Type: r.event, Outcome: audit.Refused, Reason: "TOO_MANY_MAILS",
		Subject: s.ID})
	return c, nil
}

// registrationTried decides about a registration whose address has an account: its owner is notified, within the limit
// of mails, and the account stays as it is.
func registrationTried(owner State, notice mail.Mail, maxPerHour int) Changes {
	c := Changes{Events: []audit.Event{{Type: audit.RegistrationTried, Outcome: audit.Refused, Reason: "EMAIL_TAKEN",
		Subject: owner.ID}}}
	if owner.RecentMails < maxPerHour {
		c.Mails = []mail.Mail{owner.addressed(notice)}
	}
	return c
}

// ByID returns an account.
func (s *Service) ByID(ctx context.Context, id uuid.UUID) (User, error) { return s.Store.ByID(ctx, id) }

// NormalEmail returns the form in which addresses are stored and compared.
func NormalEmail(email string) string { return strings.ToLower(strings.TrimSpace(email)) }

// refused records the event of a refusal and returns the refusal.
func (s *Service) refused(ctx context.Context, e audit.Event, refusal *errs.Error) error {
	e.Outcome, e.Reason = audit.Refused, refusal.Reason
	if err := s.Audit.Record(ctx, e); err != nil {
		return err
	}
	return refusal
}
