package account

import (
	"slices"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// CheckCaller refuses a change of an account by its own user in a session that was revoked. The session's access token
// still works for seconds, until every verifier knows of the revocation: long enough for a locked-out attacker to add
// another sign-in method. Call it under the lock on the account, which sign-ins and Reclaim hold too. sessionActive
// reports whether a session of the user is not revoked. errs.Unauthenticated (SESSION_REVOKED).
func CheckCaller(caller authn.Caller, user uuid.UUID, sessionActive func(session uuid.UUID) (bool, error)) error {
	if caller.UserID != user || slices.Contains(caller.Methods, authn.MethodAPIKey) {
		return nil
	}
	ok, err := sessionActive(caller.SessionID)
	if err == nil && !ok {
		err = errs.Unauthenticated("SESSION_REVOKED", "the session has ended: sign in again")
	}
	return err
}
