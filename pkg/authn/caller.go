package authn

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"
)

// Caller is who is calling, by their verified access token. The zero Caller is
// anonymous.
type Caller struct {
	UserID    uuid.UUID
	SessionID uuid.UUID
	// Roles and Permissions as the token carries them. Read only.
	Roles       []string
	Permissions []string
	// Attributes are key-value pairs set by an admin, such as a region, for
	// services' own rules. Read only; nil when there are none.
	Attributes map[string]string
	// Methods are how the caller signed in: those of RFC 8176, such as "pwd" and
	// "otp", MethodAPIKey or MethodService. AuthTime is when that was proven.
	Methods   []string
	AuthTime  time.Time
	IssuedAt  time.Time // zero when the token doesn't say
	ExpiresAt time.Time
	// Token is the access token itself, to call other services on the caller's
	// behalf. Never log it.
	Token string
}

// Anonymous reports whether the call carries no verified token.
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

// CallerFrom returns the caller of ctx; the anonymous one when there is none.
func CallerFrom(ctx context.Context) Caller {
	c, ok := ctx.Value(callerKey{}).(Caller)
	if !ok {
		return Caller{}
	}
	return c
}

type requiredKey struct{}

// WithRequiredPermission returns a context that carries the permission that the
// called method requires, for a service that checks it once more by what is stored.
func WithRequiredPermission(ctx context.Context, permission string) context.Context {
	return context.WithValue(ctx, requiredKey{}, permission)
}

// RequiredPermission returns the permission that the called method requires; ""
// when it requires none.
func RequiredPermission(ctx context.Context) string {
	p, _ := ctx.Value(requiredKey{}).(string)
	return p
}
