// Package identity says whose account an identity elsewhere belongs to: one of
// an identity provider, or a wallet.
//
// It promises: an identity belongs to one account; it is found by what never
// changes of it, its subject, and only one that is not known yet by its e-mail
// address, when the provider says that this was verified. An account whose own
// address was never verified is not trusted by one that proves to own the
// address: whatever could still be signed in with is taken from it first, for
// somebody else may have made it in advance.
//
// Limits: a provider is believed what it says of addresses; configure only
// those that check them.
package identity

import (
	"context"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/role"
)

const (
	mostOfAnUser = 20
	maxSubject   = 255 // OpenID Connect Core 1.0, section 2
	maxText      = 80  // characters of a name or a label
	maxEmail     = 254
)

// Claim is who somebody has proven to be elsewhere.
type Claim struct {
	Provider string
	// Subject never changes at the provider and is never given to another.
	Subject string
	// Email is empty when there is none; Verified says that the provider has
	// seen that it is theirs.
	Email    string
	Verified bool
	// Name and Label may be anything; the label is what its owner knows the
	// identity by.
	Name, Label string
}

// Identity is one that belongs to an account.
type Identity struct {
	ID, UserID               uuid.UUID
	Provider, Subject, Label string
	CreatedAt, LastUsedAt    time.Time // LastUsedAt is zero before the first sign-in
}

// Owner is an account that an identity could belong to.
type Owner struct {
	ID       uuid.UUID
	Verified bool // its own address is
	Disabled bool
}

// Found is what there is for a claim.
type Found struct {
	// Linked is the account that the identity belongs to.
	Linked *Owner
	// ByEmail is the account with the claim's address; nil unless that is
	// verified.
	ByEmail *Owner
}

// SignedIn is an account, and the identity of it that was signed in with.
type SignedIn struct{ User, Identity uuid.UUID }

// Step is what to do about a claim.
type Step int

// The steps.
const (
	// SignIn to the account that the identity belongs to.
	SignIn Step = iota
	// Link it to the account with its address.
	Link
	// TakeOver is Link after everything that the account could be signed in
	// with was taken from it.
	TakeOver
	// Create an account.
	Create
)

// Store is where identities are kept.
type Store interface {
	// Resolve finds what there is for c, lets decide choose, and does that and
	// records it in one transaction: linking and taking over set the account's
	// address verified. u is the account to create, without roles of others.
	// decide may run more than once. It returns the account, with the identity
	// that is linked to it now.
	Resolve(ctx context.Context, c Claim, u account.User, decide func(Found) (Step, error)) (SignedIn, error)
	// Add links an identity to this user. errs.AlreadyExists when it belongs
	// to an account, errs.FailedPrecondition past most.
	Add(ctx context.Context, user uuid.UUID, c Claim, now time.Time, most int) (Identity, error)
	// List returns the user's identities, oldest first.
	List(ctx context.Context, user uuid.UUID) ([]Identity, error)
	// Remove unlinks an identity of this user. errs.NotFound when it is none
	// of theirs, errs.FailedPrecondition (LAST_SIGN_IN_METHOD) when nothing
	// would be left to sign in with.
	Remove(ctx context.Context, user, id uuid.UUID) error
}

// Service is the rules of identities.
type Service struct {
	store Store
	now   func() time.Time
}

// NewService returns the rules over a store.
func NewService(s Store, now func() time.Time) *Service { return &Service{store: s, now: now} }

// SignIn returns the account of who made a claim, which is linked or created
// if need be. byEmail says whether the claim is of a provider of addresses,
// which has to bring a verified one with an identity that is not known yet.
// errs.FailedPrecondition: PROVIDER_EMAIL_UNVERIFIED; errs.Unauthenticated:
// ACCOUNT_DISABLED, IDENTITY_INVALID.
func (s *Service) SignIn(ctx context.Context, c Claim, byEmail bool) (SignedIn, error) {
	c, err := c.normal()
	if err != nil {
		return SignedIn{}, err
	}
	id, err := uuid.NewV7()
	if err != nil {
		return SignedIn{}, fmt.Errorf("new user id: %w", err)
	}
	now := s.now().UTC()
	u := account.User{ID: id, Profile: account.Profile{DisplayName: c.Name}, Roles: []string{role.IndividualInvestor},
		CreatedAt: now}
	if c.Verified {
		u.Email, u.VerifiedAt = c.Email, now
	}
	return s.store.Resolve(ctx, c, u, func(f Found) (Step, error) { return decide(c, f, byEmail) })
}

// decide is the one table of whom a claim signs in.
func decide(c Claim, f Found, byEmail bool) (Step, error) {
	owner, step := f.Linked, SignIn
	if owner == nil {
		if byEmail && !c.Verified {
			return 0, errs.FailedPrecondition("PROVIDER_EMAIL_UNVERIFIED",
				"the provider has not verified your e-mail address; verify it there, then sign in again")
		}
		if owner = f.ByEmail; owner == nil {
			return Create, nil
		}
		step = Link
		if !owner.Verified {
			step = TakeOver
		}
	}
	if owner.Disabled {
		return 0, account.ErrDisabled()
	}
	return step, nil
}

// Add links what the caller has proven to be to their account.
// errs.AlreadyExists (IDENTITY_LINKED) when it belongs to one already,
// errs.FailedPrecondition (TOO_MANY_IDENTITIES).
func (s *Service) Add(ctx context.Context, user uuid.UUID, c Claim) (Identity, error) {
	c, err := c.normal()
	if err != nil {
		return Identity{}, err
	}
	return s.store.Add(ctx, user, c, s.now().UTC(), mostOfAnUser)
}

// List returns the caller's identities, oldest first.
func (s *Service) List(ctx context.Context, user uuid.UUID) ([]Identity, error) {
	return s.store.List(ctx, user)
}

// Remove unlinks one of the caller's identities. errs.NotFound,
// errs.FailedPrecondition (LAST_SIGN_IN_METHOD).
func (s *Service) Remove(ctx context.Context, user, id uuid.UUID) error {
	return s.store.Remove(ctx, user, id)
}

// normal is a claim as it may be stored and compared. An address that isn't
// plain ASCII counts as none: letters such as the Kelvin sign turn into others
// in lower case, and so into another's address.
func (c Claim) normal() (Claim, error) {
	if c.Provider == "" || c.Subject == "" || len(c.Subject) > maxSubject ||
		strings.ContainsFunc(c.Subject, unprintable) {
		return c, errs.Unauthenticated("IDENTITY_INVALID", "the provider names no subject that could be kept")
	}
	local, host, ok := strings.Cut(c.Email, "@")
	if !ok || local == "" || host == "" || strings.Contains(host, "@") || len(c.Email) > maxEmail ||
		strings.ContainsFunc(c.Email, unprintable) {
		c.Email, c.Verified = "", false
	}
	c.Email = account.NormalEmail(c.Email)
	c.Name, c.Label = text(c.Name), text(c.Label)
	return c, nil
}

func unprintable(r rune) bool { return r <= ' ' || r > '~' }

// text is s as it may be shown.
func text(s string) string {
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == unicode.ReplacementChar {
			return -1
		}
		return r
	}, strings.ToValidUTF8(s, "")))
	if runes := []rune(s); len(runes) > maxText {
		s = string(runes[:maxText])
	}
	return s
}

// Linked is the event of an identity that was linked to an account for a
// reason of ours.
func Linked(user, id uuid.UUID, reason string) audit.Event {
	return audit.Event{Type: audit.IdentityLinked, Reason: reason, Actor: user, Subject: user, Object: id.String()}
}
