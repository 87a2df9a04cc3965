package rpc

import (
	"context"
	"slices"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/apikey"
	"github.com/purserhq/purser/services/auth/internal/serviceaccount"
)

// provenFor is how long after a sign-in was proven it counts as recent.
const provenFor = 10 * time.Minute

// person is the caller, unless they signed in with an API key, which is not for
// the account itself, or are a service account.
func person(ctx context.Context) (authn.Caller, error) {
	caller := authn.CallerFrom(ctx)
	if slices.Contains(caller.Methods, serviceaccount.Method) {
		return caller, errs.PermissionDenied("SERVICE_CALLER", "a service account can't do this; it is for people")
	}
	if slices.Contains(caller.Methods, apikey.Method) {
		return caller, errs.PermissionDenied("API_KEY_CALLER", "an API key can't do this; sign in")
	}
	return caller, nil
}

// recently is a person who proved to be themselves within provenFor, as what
// could lock them out asks for: a token that was stolen is not enough.
func recently(ctx context.Context) (authn.Caller, error) {
	caller, err := person(ctx)
	if err == nil && time.Since(caller.AuthTime) > provenFor {
		err = errs.PermissionDenied("REAUTHENTICATION_REQUIRED", "sign in again, or call Reauthenticate, first")
	}
	return caller, err
}

// operator is who may change what others have: a person as recently says, or a
// service account.
func operator(ctx context.Context) (authn.Caller, error) {
	caller := authn.CallerFrom(ctx)
	if slices.Contains(caller.Methods, serviceaccount.Method) {
		return caller, nil
	}
	return recently(ctx)
}
