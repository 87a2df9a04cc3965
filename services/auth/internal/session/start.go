package session

import (
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
)

// Owner is a user as they are while a session of theirs is stored, read under the lock on their account. So a change
// of what they signed in with comes before, and is seen, or after, and ends the session.
type Owner struct {
	Access       account.AccessState
	PasswordHash string // empty when there is none
	Linked       bool   // the identity that they signed in with belongs to them
}

// Start is what is stored when a session begins. PasswordHash replaces the owner's unless it is empty.
type Start struct {
	Family       Family
	PasswordHash string
	Event        audit.Event
}

// check says who may begin a session: somebody whose account is enabled and whose proof is still valid. signed is the
// access state in their tokens, which were signed before the lock was taken. errs.Unauthenticated:
// INVALID_CREDENTIALS, ACCOUNT_DISABLED, IDENTITY_UNLINKED; errs.Unavailable (TRY_AGAIN) when the roles or attributes
// have changed: the change may have ended all sessions, and would have ended this one.
func (p Proof) check(o Owner, signed account.AccessState) error {
	switch {
	case p.PasswordHash != "" && o.PasswordHash != p.PasswordHash:
		return ErrCredentials()
	case o.Access.Disabled:
		return authority.ErrDisabled()
	case p.Identity != uuid.Nil && !o.Linked:
		return ErrUnlinked()
	case !slices.Equal(o.Access.Roles, signed.Roles) || !maps.Equal(o.Access.Attributes, signed.Attributes):
		return errs.Unavailable("TRY_AGAIN", "the account was changed just now")
	}
	return nil
}
