package session

import (
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
)

// Owner is a user as they are while a session of theirs is stored, read under the lock on their account. A change of
// credentials is therefore either seen here, or happens later and ends the session.
type Owner struct {
	Access       account.AccessState
	PasswordHash string // empty when there is none
	Linked       bool   // the identity that they signed in with belongs to them
	LastEnd      int64  // how often all their sessions were ended
	CreatedAt    time.Time
	// Device is the one of the SignInContext, if it is known; or one that has signed in from the same address with the
	// same user agent; zero when there is none.
	Device uuid.UUID
	// AddressKnown says that a known device has signed in from the same address last.
	AddressKnown bool
	// SignedInBefore says that a device is known, or a session is stored.
	SignedInBefore bool
}

// SignInContext is what a sign-in comes with: the identity that it was proven with, and the device whose token it has
// sent; each may be zero.
type SignInContext struct{ Identity, Device uuid.UUID }

// NewSession is what is stored when a session begins. PasswordHash replaces the owner's unless it is empty. The device
// of the family becomes known, or is known for longer.
type NewSession struct {
	Family       Family
	PasswordHash string
	Events       []audit.Event
}

// newAccountWindow is how long the first sign-in to a new account is not reported as one from a new device.
const newAccountWindow = 24 * time.Hour

// isNewDevice decides whether the owner should hear of a sign-in: neither its device nor its address is known, and it
// is not the first one to an account that was created within a day.
func (o Owner) isNewDevice(now time.Time) bool {
	return o.Device == uuid.Nil && !o.AddressKnown && (o.SignedInBefore || now.Sub(o.CreatedAt) > newAccountWindow)
}

// check says who may begin a session: somebody whose account is enabled and whose proof is still valid. signed is the
// access state in their tokens, which were signed before the lock was taken. errs.Unauthenticated:
// INVALID_CREDENTIALS, ACCOUNT_DISABLED, IDENTITY_UNLINKED, SESSION_REVOKED when all tokens were revoked since the
// sign-in with an identity, which may be minutes ago; errs.Unavailable (TRY_AGAIN) when the roles or attributes have
// changed: the change may have ended all sessions, and would have ended this one.
func (p Proof) check(o Owner, signed account.AccessState) error {
	switch {
	case p.PasswordHash != "" && o.PasswordHash != p.PasswordHash:
		return ErrCredentials()
	case o.Access.Disabled:
		return authority.ErrDisabled()
	case p.Identity != uuid.Nil && !o.Linked:
		return ErrUnlinked()
	case p.Identity != uuid.Nil && o.LastEnd > p.LastEnd:
		return errs.Unauthenticated("SESSION_REVOKED", "everything that was signed in to the account was ended "+
			"meanwhile: sign in again")
	case !slices.Equal(o.Access.Roles, signed.Roles) || !maps.Equal(o.Access.Attributes, signed.Attributes):
		return errs.Unavailable("TRY_AGAIN", "the account was changed just now")
	}
	return nil
}
