package rpc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/apikey"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/revocation"
	"github.com/purserhq/purser/services/auth/internal/serviceaccount"
	"github.com/purserhq/purser/services/auth/internal/session"
	"github.com/purserhq/purser/services/auth/internal/signing"
)

// TokenServer serves purser.auth.v1.TokenService.
type TokenServer struct {
	authv1.UnimplementedTokenServiceServer
	ring      *signing.Ring
	verifier  *authn.Verifier
	sessions  *session.Service
	authority authority.Reader
	feed      *revocation.Feed
	streams   *revocationStreams
}

// NewTokenServer returns the server of the ring's keys, of introspection and of the revocations in f, which it streams
// on at most streamsPerAddress streams per client address or service account.
func NewTokenServer(r *signing.Ring, v *authn.Verifier, s *session.Service, now authority.Reader, f *revocation.Feed,
	streamsPerAddress int) *TokenServer {
	return &TokenServer{ring: r, verifier: v, sessions: s, authority: now, feed: f,
		streams: newRevocationStreams(streamsPerAddress)}
}

// GetJwks implements the RPC.
func (s *TokenServer) GetJwks(context.Context, *authv1.GetJwksRequest) (*authv1.GetJwksResponse, error) {
	set, ok := s.ring.Published()
	if !ok {
		return nil, errs.Unavailable("JWKS_UNAVAILABLE", "no key set is available now")
	}
	resp := &authv1.GetJwksResponse{Epoch: set.Epoch, MaxAge: durationpb.New(set.MaxAge)}
	for _, k := range set.Keys {
		key, err := webKey(k)
		if err != nil {
			return nil, err
		}
		resp.Keys = append(resp.Keys, key)
	}
	return resp, nil
}

// webKey converts a key by way of its JSON, which has other fields for each type.
func webKey(k jose.JSONWebKey) (*authv1.JsonWebKey, error) {
	document, err := json.Marshal(k)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", k.KeyID, err)
	}
	var key authv1.JsonWebKey
	if err := protojson.Unmarshal(document, &key); err != nil {
		return nil, fmt.Errorf("key %s: %w", k.KeyID, err)
	}
	return &key, nil
}

// Introspect implements the RPC.
func (s *TokenServer) Introspect(ctx context.Context, req *authv1.IntrospectRequest) (*authv1.IntrospectResponse,
	error) {
	inspect := s.inspect
	if req.GetCurrent() {
		inspect = s.inspectStored
	}
	c, alive, err := inspect(ctx, req.GetToken())
	if err != nil || !alive {
		return &authv1.IntrospectResponse{}, err
	}
	return &authv1.IntrospectResponse{
		Active: true, Sub: c.UserID.String(), Sid: c.SessionID.String(), ExpireTime: timestamppb.New(c.ExpiresAt),
		Roles: c.Roles, Permissions: c.Permissions,
	}, nil
}

// inspect verifies an access token and reports whether its session, API key or secret has not ended: by the feed of
// revocations while that is fresh, otherwise by the database.
func (s *TokenServer) inspect(ctx context.Context, token string) (authn.Caller, bool, error) {
	c, err := s.verifier.Verify(ctx, token)
	if err != nil || s.feed.Fresh() {
		return whetherActive(c, err)
	}
	_, err = s.authority.Now(ctx, c)
	return whetherActive(c, err)
}

// whetherActive tells a token that is refused from one of which it is not known.
func whetherActive(c authn.Caller, err error) (authn.Caller, bool, error) {
	if errs.Is(err, errs.KindUnauthenticated) {
		return c, false, nil
	}
	return c, err == nil, err
}

// inspectStored is inspect by what is stored at this moment: of the token's permissions, those that the account still
// has.
func (s *TokenServer) inspectStored(ctx context.Context, token string) (authn.Caller, bool, error) {
	c, err := s.verifier.Verify(ctx, token)
	if err == nil {
		var held authority.Held
		held, err = s.authority.Now(ctx, c)
		c.Permissions = held.Permissions
	}
	return whetherActive(c, err)
}

// Revoke implements the RPC.
func (s *TokenServer) Revoke(ctx context.Context, req *authv1.RevokeRequest) (*authv1.RevokeResponse, error) {
	if strings.Contains(req.GetToken(), ".") { // an access token: refresh tokens have no dot
		c, alive, err := s.inspect(ctx, req.GetToken())
		if err != nil || !alive {
			return &authv1.RevokeResponse{}, err
		}
		if slices.Contains(c.Methods, apikey.Method) {
			return nil, errs.FailedPrecondition("API_KEY_TOKEN",
				"the token of an API key ends by itself within 5 minutes; revoke the key")
		}
		if slices.Contains(c.Methods, serviceaccount.Method) {
			return nil, errs.FailedPrecondition("SERVICE_TOKEN",
				"the token of a service account ends by itself within 5 minutes; rotate its secret")
		}
		err = s.sessions.Revoke(ctx, c.UserID, c.SessionID)
		if errs.Is(err, errs.KindNotFound) { // deleted after its end
			err = nil
		}
		return &authv1.RevokeResponse{}, err
	}
	return &authv1.RevokeResponse{}, s.sessions.RevokeToken(ctx, session.Token(req.GetToken()))
}
