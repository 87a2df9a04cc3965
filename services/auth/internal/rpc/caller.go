package rpc

import (
	"context"

	"github.com/purserhq/purser/pkg/authn"
)

// person returns the caller, who must be a user in a session of their own. errs.PermissionDenied for an API key and a
// service account.
func person(ctx context.Context) (authn.Caller, error) {
	caller := authn.CallerFrom(ctx)
	return caller, caller.RequirePerson()
}

// recently returns a person who has signed in or reauthenticated a short time ago.
func recently(ctx context.Context) (authn.Caller, error) {
	caller := authn.CallerFrom(ctx)
	return caller, caller.RequireRecentSignIn()
}

// operator returns the caller of an administrative change.
func operator(ctx context.Context) (authn.Caller, error) {
	caller := authn.CallerFrom(ctx)
	return caller, caller.RequireOperator()
}
