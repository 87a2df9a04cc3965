package grpcserver

import (
	"context"
	"fmt"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
)

// accessLayer applies the method's access rule. Calls of a method without one
// are refused.
func accessLayer() func(context.Context, *call) error {
	return func(ctx context.Context, c *call) error {
		switch {
		case c.public():
			return c.next(ctx)
		case !c.hasRule:
			return errs.PermissionDenied("NO_ACCESS_RULE", "the method has no access rule, so nobody may call it")
		case c.rule.Authenticated && !authn.CallerFrom(ctx).Anonymous():
			return c.next(ctx)
		case c.rule.Permission != "" && authn.CallerFrom(ctx).May(c.rule.Permission):
			return c.next(authn.WithRequiredPermission(ctx, c.rule.Permission))
		default:
			return errs.PermissionDenied("PERMISSION_MISSING", fmt.Sprintf("this method needs the permission %s, "+
				"which the access token doesn't have; it is given by a role, and an API key's scopes must include it",
				c.rule.Permission)).With("permission", c.rule.Permission)
		}
	}
}
