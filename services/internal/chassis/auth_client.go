package chassis

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/proto/access"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/proto/revocations"
)

// DialAuth connects to the auth service, which may be unreachable. The connection
// is nil when c has no address.
func (b *Builder) DialAuth(c AuthConfig) (*grpc.ClientConn, error) {
	if c.Auth.Addr == "" {
		b.Log.Warn("PURSER_AUTH_ADDR is not set: revoked tokens are accepted until they expire")
		return nil, nil //nolint:nilnil // the address is optional
	}
	c.Auth.Log = b.Log
	conn, err := DialAuth(c)
	if err != nil {
		return nil, err
	}
	b.Group.Close("auth client", conn.Close)
	return conn, nil
}

// DialAuth is Builder.DialAuth for a command, which closes the connection itself and says
// what it can't do without one.
func DialAuth(c AuthConfig) (*grpc.ClientConn, error) {
	if c.Auth.Addr == "" {
		return nil, nil //nolint:nilnil // the address is optional
	}
	conn, err := grpcclient.Dial(c.Auth, slices.Concat(
		access.Idempotent(authv1.TokenService_ServiceDesc.ServiceName),
		access.Idempotent(authv1.DeletionService_ServiceDesc.ServiceName),
		access.Idempotent(authv1.IdentityService_ServiceDesc.ServiceName),
		access.Idempotent(authv1.SessionService_ServiceDesc.ServiceName)))
	if err != nil {
		return nil, fmt.Errorf("PURSER_AUTH_ADDR: %w", err)
	}
	return conn, nil
}

// Identity returns ctx with a token of the service's own account.
type Identity func(ctx context.Context) (context.Context, error)

// AsServiceAccount returns a function that puts a token of the service's own account
// into a context; nil without an account.
func AsServiceAccount(auth *grpc.ClientConn, account ServiceAccountConfig) Identity {
	if account.ID == "" || auth == nil {
		return nil
	}
	sessions := authv1.NewSessionServiceClient(auth)
	tokens := authn.NewServiceTokens(func(ctx context.Context) (string, time.Time, error) {
		resp, err := sessions.IssueServiceAccountToken(ctx,
			&authv1.IssueServiceAccountTokenRequest{ClientId: account.ID, ClientSecret: account.Secret.Reveal()})
		if err != nil {
			return "", time.Time{}, err
		}
		return resp.GetAccessToken(), resp.GetAccessExpireTime().AsTime(), nil
	}, nil)
	return func(ctx context.Context) (context.Context, error) {
		token, err := tokens.Token(ctx)
		if err != nil {
			return nil, err
		}
		return grpcclient.WithToken(ctx, token), nil
	}
}

// NewVerifier returns a verifier of auth's tokens. It reads the key set of the
// issuer, and follows the stream of revocations over conn, which may be nil. It
// follows as the service's own account, for which auth keeps streams that nobody else
// can take; as anybody when self is nil or has no token now.
func (b *Builder) NewVerifier(c AuthConfig, conn *grpc.ClientConn, self Identity) (*authn.Verifier, error) {
	keys, err := c.Tokens.RemoteKeys(b.Log)
	if err != nil {
		return nil, err
	}
	b.Group.Close("keys", keys.Close)
	revoked := authn.NewRevocations(keys.Refetch, b.Log)
	if conn != nil {
		watch := b.noticeUsers(watchAs(self, revocations.Watch(conn)))
		b.Loop("revocations", func(ctx context.Context) error { return revoked.Follow(ctx, watch) })
	}
	transport, err := c.Tokens.Transport(b.Log) // the probes have connections of their own
	if err != nil {
		return nil, err
	}
	b.watchAuth(c, transport, revoked, conn != nil)
	return authn.NewVerifier(keys, authn.Options{Issuer: c.Tokens.Issuer, Revoked: revoked.Revoked}), nil
}

// CheckAuthority returns a check that asks auth whether a call's token and the
// permission that its method requires are still good at this moment, for changes that
// may not wait until the revocation of a token is known. The check returns
// errs.Unauthenticated (TOKEN_REVOKED), errs.PermissionDenied (PERMISSION_MISSING), or
// errs.Unavailable (AUTH_UNAVAILABLE) while auth doesn't answer. It is nil when conn is.
func CheckAuthority(conn *grpc.ClientConn) func(ctx context.Context) error {
	if conn == nil {
		return nil
	}
	tokens := authv1.NewTokenServiceClient(conn)
	return func(ctx context.Context) error {
		token := authn.CallerFrom(ctx).Token
		resp, err := tokens.Introspect(ctx, &authv1.IntrospectRequest{Token: token, Current: true})
		if errs.Is(err, errs.KindUnavailable) || errs.Is(err, errs.KindDeadline) {
			return errs.Unavailable("AUTH_UNAVAILABLE", "auth doesn't answer whether the caller may still do this").
				Because(err)
		}
		if err != nil {
			return err
		}
		if !resp.GetActive() {
			return authn.TokenRevoked()
		}
		if p := authn.RequiredPermission(ctx); p != "" && !slices.Contains(resp.GetPermissions(), p) {
			return authn.PermissionTaken(p)
		}
		return nil
	}
}

// watchAs opens streams with a token of self, if there is one.
func watchAs(self Identity, watch authn.WatchRevocations) authn.WatchRevocations {
	if self == nil {
		return watch
	}
	return func(ctx context.Context, take func(authn.RevocationUpdate) error) error {
		if identified, err := self(ctx); err == nil {
			ctx = identified
		}
		return watch(ctx, take)
	}
}
