package rpc

import (
	"context"

	"github.com/purserhq/purser/pkg/authn"
)

// person is the caller, unless an API key or a service account.
func person(ctx context.Context) (authn.Caller, error) {
	caller := authn.CallerFrom(ctx)
	return caller, caller.RequirePerson()
}

// recently is a person who proved to be themselves a short time ago.
func recently(ctx context.Context) (authn.Caller, error) {
	caller := authn.CallerFrom(ctx)
	return caller, caller.RequireRecentSignIn()
}

// operator is who may change what others have.
func operator(ctx context.Context) (authn.Caller, error) {
	caller := authn.CallerFrom(ctx)
	return caller, caller.RequireOperator()
}
