// Package authority says what the caller of a change may do at the moment of the change.
//
// An access token says what its bearer was allowed when it was issued, up to 15 minutes ago. A change of accounts,
// roles, keys, service accounts or jobs depends on what its caller is allowed now. So the transaction of each such
// change locks the caller first, and refuses one whose session, API key or secret has ended, who is disabled, or who
// no longer has the permission that the method needs. A change of authority locks the same rows. Therefore what is
// called after such a change has ended is refused, and of two concurrent changes one comes first.
//
// Limits: methods that only read go by the token, until verifiers hear of its revocation.
package authority

import (
	"context"
	"slices"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// Held are the permissions that a caller holds at the moment. The zero Held holds none.
type Held struct {
	// All is true on the command line, and in the jobs of the service; see WithoutCaller.
	All bool
	// Permissions are those that are stored for the caller and that the token carries as well.
	Permissions []string
}

type servedKey struct{}

// Served returns a context for a call from outside of the process. In it nothing is held without a caller, as in a
// call of a public method, whereas on the command line and in jobs everything is.
func Served(ctx context.Context) context.Context { return context.WithValue(ctx, servedKey{}, true) }

// WithoutCaller is what is held in a context without a caller.
func WithoutCaller(ctx context.Context) Held {
	served, _ := ctx.Value(servedKey{}).(bool)
	return Held{All: !served}
}

// May reports whether a permission is held.
func (h Held) May(permission string) bool { return h.All || slices.Contains(h.Permissions, permission) }

// Require refuses a caller who does not hold each of these permissions: nobody may grant, or take from somebody else,
// what they do not hold themselves. errs.PermissionDenied (PERMISSION_NOT_HELD).
func (h Held) Require(permissions ...string) error {
	for _, p := range permissions {
		if !h.May(p) {
			return errs.PermissionDenied("PERMISSION_NOT_HELD", "nobody grants or takes a permission, or changes an "+
				"account with one, that they don't hold: the caller lacks "+p).With("permission", p)
		}
	}
	return nil
}

// Reader reads what callers hold at the moment, for what has no transaction of its own.
type Reader interface {
	// Now returns what the bearer of a verified token holds.
	Now(ctx context.Context, bearer authn.Caller) (Held, error)
	// Check refuses the call of ctx when its caller does not hold any more what the method requires. The errors are
	// those of Decide.
	Check(ctx context.Context) error
}

// State is what is stored of a caller.
type State struct {
	// Active is false when the session, API key or secret of the token has ended, or the account does not exist.
	Active bool
	// Disabled is true when the account is.
	Disabled bool
	// Permissions of the account. For an API key those of its owner, because its token has its scopes.
	Permissions []string
}

// ErrDisabled is the answer to somebody who proved to be the owner of a disabled account: errs.Unauthenticated
// (ACCOUNT_DISABLED).
func ErrDisabled() error {
	return errs.Unauthenticated("ACCOUNT_DISABLED", "the account is disabled; ask an administrator of this deployment")
}

// Decide returns what a caller holds, by their token and what is stored of them. required is the permission that the
// called method needs; none when empty. errs.Unauthenticated: SESSION_REVOKED, ACCOUNT_DISABLED. errs.PermissionDenied
// (PERMISSION_MISSING).
func Decide(caller authn.Caller, s State, required string) (Held, error) {
	switch {
	case !s.Active:
		return Held{}, errs.Unauthenticated("SESSION_REVOKED",
			"the session, API key or secret of the token has ended: sign in again")
	case s.Disabled:
		return Held{}, ErrDisabled()
	}
	h := Held{Permissions: slices.DeleteFunc(slices.Clone(s.Permissions),
		func(p string) bool { return !caller.May(p) })}
	if required != "" && !h.May(required) {
		return Held{}, authn.PermissionTaken(required)
	}
	return h, nil
}
