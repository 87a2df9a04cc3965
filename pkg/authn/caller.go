package authn

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Caller is who is calling, as their verified access token says. The zero
// Caller is an anonymous one.
type Caller struct {
	UserID    uuid.UUID
	SessionID uuid.UUID
	// Roles and Permissions as the token carries them. Read only.
	Roles       []string
	Permissions []string
	// Attributes of the caller for rules of one's own, such as a region. Read
	// only; nil when there are none.
	Attributes map[string]string
	// Methods are how the caller signed in (RFC 8176: "pwd", "otp"; "key" for
	// an API key), AuthTime when.
	Methods   []string
	AuthTime  time.Time
	IssuedAt  time.Time // zero when the token doesn't say
	ExpiresAt time.Time
	// Token is the access token itself, to call other services in the
	// caller's name. Never log it.
	Token string
}

// Anonymous reports whether nobody has been authenticated.
func (c Caller) Anonymous() bool { return c.UserID == uuid.Nil }

// May reports whether the caller's token carries the permission.
func (c Caller) May(permission string) bool {
	return permission != "" && slices.Contains(c.Permissions, permission)
}

type callerKey struct{}

// WithCaller returns a context that carries the caller.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerFrom returns the caller that the server authenticated, or the
// anonymous one.
func CallerFrom(ctx context.Context) Caller {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok {
		return Caller{}
	}
	return c
}
