package account

import (
	"slices"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// CheckCaller refuses a change of an account by its own user in a session that was revoked. Their access token is
// accepted for the seconds until all verifiers hear of that, in which somebody who was locked out could add another
// way to sign in. Call it under the lock on the account, which sign-ins and take-overs hold too. running reports
// whether a session of the user is not revoked. errs.Unauthenticated (SESSION_REVOKED).
func CheckCaller(caller authn.Caller, user uuid.UUID, running func(session uuid.UUID) (bool, error)) error {
	if caller.UserID != user || slices.Contains(caller.Methods, authn.MethodAPIKey) {
		return nil
	}
	ok, err := running(caller.SessionID)
	if err == nil && !ok {
		err = errs.Unauthenticated("SESSION_REVOKED", "the session has ended")
	}
	return err
}
