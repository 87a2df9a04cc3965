// Package identity decides which account an external identity belongs to: an account at an identity provider, or a
// wallet.
//
// It promises: an identity belongs to one account. It is found by its subject, which never changes; a new one is
// matched by e-mail address only when the provider says that the address is verified. When the account with that
// address was never verified itself, somebody else may have registered it in advance: everything that it could be
// signed in with is removed before the identity is linked.
//
// Limits: a provider's word on addresses is trusted; configure only providers that verify them.
package identity

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/role"
)

const (
	maxPerUser = 20
	maxSubject = 255 // bytes; OpenID Connect Core 1.0, section 2
	maxText    = 80  // characters of a name or a label
	maxEmail   = 254 // bytes; RFC 5321
)

// Claim is the external identity that somebody has proven to be theirs.
type Claim struct {
	Provider string
	// Subject never changes at the provider and is never given to another.
	Subject string
	// Email is empty when there is none; Verified says that the provider has verified it.
	Email    string
	Verified bool
	// Name and Label may be anything; the label is by what the owner recognizes the identity.
	Name, Label string
}

// Identity is one that belongs to an account.
type Identity struct {
	ID, UserID               uuid.UUID
	Provider, Subject, Label string
	CreatedAt, LastUsedAt    time.Time // LastUsedAt is zero before the first sign-in
}

// Found is what exists for a claim.
type Found struct {
	// Linked is the account that the identity belongs to.
	Linked *account.State
	// ByEmail is the account with the claim's address, and its Credentials; nil unless the claim's address is
	// verified.
	ByEmail *account.State
}

// SignedIn is an account, and the identity of it that was signed in with.
type SignedIn struct {
	User, Identity uuid.UUID
	// LastEnd is how often all sessions of the account were ended: a session that begins after the next end would
	// outlive it.
	LastEnd int64
}

// Step is what to do about a claim.
type Step int

// The steps.
const (
	// SignIn to the account that the identity belongs to.
	SignIn Step = iota
	// Link the identity to the account with its address.
	Link
	// Create an account and link the identity to it.
	Create
)

// Decision is what to do about a claim. Changes are those of the account with its address, before it is linked.
type Decision struct {
	Step    Step
	Changes account.Changes
}

// Store is where identities are stored.
type Store interface {
	// Resolve finds what exists for c with the accounts locked, lets decide choose, does that and records it, in one
	// transaction. u is the account to create. decide may run more than once. It returns the account, with the
	// identity that is linked to it now. errs.Conflict (IDENTITY_CHANGED) when it is being linked by others.
	Resolve(ctx context.Context, c Claim, u account.User, decide func(Found) (Decision, error)) (SignedIn, error)
	// Add locks this user and links an identity to them, unless check refuses for how many are linked already.
	// errs.AlreadyExists (IDENTITY_LINKED) when it belongs to an account.
	Add(ctx context.Context, user uuid.UUID, c Claim, now time.Time, check func(linked int) error) (Identity, error)
	// List returns the user's identities, oldest first.
	List(ctx context.Context, user uuid.UUID) ([]Identity, error)
	// EndEverything ends what the method of Service says, and records e.
	EndEverything(ctx context.Context, user uuid.UUID, e audit.Event) (Ended, error)
	// Change locks the user's account, with its Credentials, and stores what decide returns. errs.NotFound.
	Change(ctx context.Context, user uuid.UUID, decide account.Decide) error
}

// Service applies the rules of identities.
type Service struct {
	store Store
	now   func() time.Time
}

// NewService returns a Service over a store.
func NewService(s Store, now func() time.Time) *Service { return &Service{store: s, now: now} }

// SignIn returns the account of a claim, which is linked or created if need be. needsEmail says that a new identity of
// this provider must come with a verified address. errs.FailedPrecondition: PROVIDER_EMAIL_UNVERIFIED;
// errs.Unauthenticated: ACCOUNT_DISABLED, IDENTITY_INVALID.
func (s *Service) SignIn(ctx context.Context, c Claim, needsEmail bool) (SignedIn, error) {
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
	return s.store.Resolve(ctx, c, u, func(f Found) (Decision, error) { return decide(c, f, needsEmail, now) })
}

// decide says which account a claim signs in to.
func decide(c Claim, f Found, needsEmail bool, now time.Time) (Decision, error) {
	owner, d := f.Linked, Decision{Step: SignIn}
	if owner == nil {
		if needsEmail && !c.Verified {
			return d, errs.FailedPrecondition("PROVIDER_EMAIL_UNVERIFIED",
				"the provider has not verified your e-mail address; verify it there, then sign in again")
		}
		if owner = f.ByEmail; owner == nil {
			return Decision{Step: Create}, nil
		}
		d.Step = Link
		d.Changes = account.Prove(*owner, now, false)
	}
	if !owner.DisabledAt.IsZero() {
		return d, authority.ErrDisabled()
	}
	return d, nil
}

// Add links the identity of a claim to the caller's account. errs.AlreadyExists (IDENTITY_LINKED) when it belongs to
// one already, errs.FailedPrecondition (TOO_MANY_IDENTITIES).
func (s *Service) Add(ctx context.Context, user uuid.UUID, c Claim) (Identity, error) {
	c, err := c.normal()
	if err != nil {
		return Identity{}, err
	}
	return s.store.Add(ctx, user, c, s.now().UTC(), checkCount)
}

// checkCount refuses one more identity than an account may have.
func checkCount(linked int) error {
	if linked >= maxPerUser {
		return errs.FailedPrecondition("TOO_MANY_IDENTITIES",
			fmt.Sprintf("an account has at most %d identities; unlink one first", maxPerUser))
	}
	return nil
}

// List returns the caller's identities, oldest first.
func (s *Service) List(ctx context.Context, user uuid.UUID) ([]Identity, error) {
	return s.store.List(ctx, user)
}

// Remove unlinks one of the caller's identities. errs.NotFound when it is none of theirs, errs.FailedPrecondition
// (LAST_SIGN_IN_METHOD) when they could not sign in any more.
func (s *Service) Remove(ctx context.Context, user, id uuid.UUID) error {
	return s.store.Change(ctx, user, func(state account.State, _ time.Time) (account.Changes, error) {
		return remove(state, id)
	})
}

// remove decides about unlinking an identity. Under the lock, the second of two that are removed at once is seen to
// be the last.
func remove(s account.State, id uuid.UUID) (account.Changes, error) {
	if !slices.ContainsFunc(s.Identities, func(c account.Credential) bool { return c.ID == id }) {
		return account.Changes{}, errs.NotFound("identity")
	}
	if len(s.Identities) == 1 && (s.PasswordHash == "" || s.Email == "") {
		return account.Changes{}, errs.FailedPrecondition("LAST_SIGN_IN_METHOD",
			"it is the only way to sign in to the account; set a password or link another first")
	}
	e := audit.Event{Type: audit.IdentityUnlinked, Actor: s.ID, Subject: s.ID, Object: id.String()}
	return account.Changes{UnlinkIdentities: []uuid.UUID{id}, Events: []audit.Event{e}}, nil
}

// normal returns the claim in the form that is stored and compared. An address that isn't plain ASCII counts as none:
// letters such as the Kelvin sign become other letters in lower case, and so somebody else's address.
// errs.Unauthenticated (IDENTITY_INVALID).
func (c Claim) normal() (Claim, error) {
	if c.Provider == "" || c.Subject == "" || len(c.Subject) > maxSubject ||
		strings.ContainsFunc(c.Subject, unprintable) {
		return c, errs.Unauthenticated("IDENTITY_INVALID",
			"the provider names no subject, or one that is too long or not printable ASCII")
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

// text returns s in a form that is safe to show, shortened to maxText characters.
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

// Linked returns the event of an identity that was linked to an account. The reason is an UPPER_SNAKE one.
func Linked(user, id uuid.UUID, reason string) audit.Event {
	return audit.Event{Type: audit.IdentityLinked, Reason: reason, Actor: user, Subject: user, Object: id.String()}
}
