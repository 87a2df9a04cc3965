package authn

import (
	"slices"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

// How a caller signed in, beside the methods of RFC 8176.
const (
	MethodAPIKey  = "key"
	MethodService = "svc"
)

// ProvenFor is how long after a sign-in was proven it counts as recent.
const ProvenFor = 10 * time.Minute

// Person refuses who signed in with an API key, which is not for the account
// itself, and service accounts: errs.PermissionDenied (API_KEY_CALLER,
// SERVICE_CALLER).
func (c Caller) Person() error {
	if slices.Contains(c.Methods, MethodService) {
		return errs.PermissionDenied("SERVICE_CALLER", "a service account can't do this; it is for people")
	}
	if slices.Contains(c.Methods, MethodAPIKey) {
		return errs.PermissionDenied("API_KEY_CALLER", "an API key can't do this; sign in")
	}
	return nil
}

// Recently refuses who is no Person, or proved to be one longer than ProvenFor
// ago (REAUTHENTICATION_REQUIRED): for what could lock them out a token that was
// stolen is not enough.
func (c Caller) Recently() error {
	if err := c.Person(); err != nil {
		return err
	}
	if time.Since(c.AuthTime) > ProvenFor {
		return errs.PermissionDenied("REAUTHENTICATION_REQUIRED", "sign in again, or call Reauthenticate, first")
	}
	return nil
}

// Operator refuses who may not change what others have: it takes a person as
// Recently does, or a service account. Permissions are looked at elsewhere.
func (c Caller) Operator() error {
	if slices.Contains(c.Methods, MethodService) {
		return nil
	}
	return c.Recently()
}
