package chassis

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/authn"
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
	conn, err := grpcclient.Dial(c.Auth, slices.Concat(
		access.Idempotent(authv1.TokenService_ServiceDesc.ServiceName),
		access.Idempotent(authv1.SessionService_ServiceDesc.ServiceName)))
	if err != nil {
		return nil, fmt.Errorf("PURSER_AUTH_ADDR: %w", err)
	}
	b.Group.Close("auth client", conn.Close)
	return conn, nil
}

// NewVerifier returns a verifier of auth's tokens. It reads the key set of the
// issuer, and follows the stream of revocations over conn, which may be nil.
func (b *Builder) NewVerifier(c AuthConfig, conn *grpc.ClientConn) *authn.Verifier {
	keys := authn.NewRemoteKeys(c.Tokens.KeySetURL(), b.Log)
	b.Group.Close("keys", keys.Close)
	revoked := authn.NewRevocations(keys.Refetch, b.Log)
	if conn != nil {
		watch := revocations.Watch(conn)
		b.Group.Loop("revocations", func(ctx context.Context) error { return revoked.Follow(ctx, watch) })
	}
	b.watchAuth(c, revoked, conn != nil)
	return authn.NewVerifier(keys, authn.Options{Issuer: c.Tokens.Issuer, Revoked: revoked.Revoked})
}
