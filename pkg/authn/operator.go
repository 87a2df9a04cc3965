package authn

import (
	"fmt"
	"slices"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

// Values of Caller.Methods beside those of RFC 8176.
const (
	MethodAPIKey  = "key" // an API key
	MethodService = "svc" // the secret of a service account
)

// MaxSignInAge is how old a sign-in, or the last Reauthenticate, may be to count
// as recent.
const MaxSignInAge = 10 * time.Minute

// RequirePerson returns an error unless a person has signed in:
// errs.PermissionDenied with SERVICE_CALLER for a service account and
// API_KEY_CALLER for an API key.
func (c Caller) RequirePerson() error {
	if slices.Contains(c.Methods, MethodService) {
		return errs.PermissionDenied("SERVICE_CALLER", "this is for people: a service account can't do it")
	}
	if slices.Contains(c.Methods, MethodAPIKey) {
		return errs.PermissionDenied("API_KEY_CALLER", "an API key can't do this: sign in with "+
			"SessionService.Login, and call with that session's access token")
	}
	return nil
}

// RequireRecentSignIn returns the error of RequirePerson, or
// errs.PermissionDenied (REAUTHENTICATION_REQUIRED) when the person's sign-in is
// older than MaxSignInAge. It guards what could lock people out of their
// accounts: a stolen access token is not enough for that.
func (c Caller) RequireRecentSignIn() error {
	if err := c.RequirePerson(); err != nil {
		return err
	}
	if time.Since(c.AuthTime) > MaxSignInAge {
		return errs.PermissionDenied("REAUTHENTICATION_REQUIRED", fmt.Sprintf(
			"this needs a sign-in of the last %d minutes: call SessionService.Reauthenticate, and then this "+
				"again with "+
				"the access token that it returns", int(MaxSignInAge/time.Minute)))
	}
	return nil
}

// RequireOperator returns an error unless the caller is a service account or
// passes RequireRecentSignIn. It guards changes to what others own; permissions
// are checked before, by the method's access rule.
func (c Caller) RequireOperator() error {
	if slices.Contains(c.Methods, MethodService) {
		return nil
	}
	return c.RequireRecentSignIn()
}
