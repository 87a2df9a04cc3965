package rpc

import (
	"context"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/proto/access"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/authority"
)

// CheckCaller returns what refuses a caller whose authority has ended from every method that may change something,
// before the method looks at anything: it would tell, of a password or a code for example, whether it is right. See
// grpcserver.Server.CheckCallers. The transaction of the change reads the authority again, with a lock. Logout is
// exempt, so that it can be repeated.
func CheckCaller(now authority.Reader) func(ctx context.Context, fullMethod string) error {
	return func(ctx context.Context, fullMethod string) error {
		if fullMethod == authv1.SessionService_Logout_FullMethodName || !access.Changes(fullMethod) {
			return nil
		}
		return now.Check(ctx)
	}
}

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
