package rpc

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/auth/internal/oauth"
	"github.com/purserhq/purser/services/auth/internal/serviceaccount"
	"github.com/purserhq/purser/services/auth/internal/session"
	"github.com/purserhq/purser/services/auth/internal/siwe"
	"github.com/purserhq/purser/services/auth/internal/totp"
)

// SessionServer serves purser.auth.v1.SessionService.
type SessionServer struct {
	authv1.UnimplementedSessionServiceServer
	sessions        *session.Service
	secondFactors   *totp.Service
	serviceAccounts *serviceaccount.Service
	attempts        *attempts.Limiter
	methods         SignInMethods
	floor           Floor
}

// SignInMethods are the ways to sign in other than a password.
type SignInMethods struct {
	OAuth   *oauth.Service
	Wallets *siwe.Service
}

// NewSessionServer returns the server; floor is that of a refused password sign-in.
func NewSessionServer(s *session.Service, f *totp.Service, v *serviceaccount.Service, a *attempts.Limiter, floor Floor,
	m SignInMethods) *SessionServer {
	return &SessionServer{sessions: s, secondFactors: f, serviceAccounts: v, attempts: a, floor: floor, methods: m}
}

// Refresh implements the RPC.
func (s *SessionServer) Refresh(ctx context.Context, req *authv1.RefreshRequest) (*authv1.RefreshResponse, error) {
	t, err := s.sessions.Refresh(ctx, session.Token(req.GetRefreshToken()))
	if err != nil {
		return nil, err
	}
	return &authv1.RefreshResponse{Tokens: tokensToProto(t)}, nil
}

// Logout implements the RPC.
func (s *SessionServer) Logout(ctx context.Context, _ *authv1.LogoutRequest) (*authv1.LogoutResponse, error) {
	caller := authn.CallerFrom(ctx)
	if err := s.sessions.Logout(ctx, caller.UserID, caller.SessionID); err != nil {
		return nil, err
	}
	return &authv1.LogoutResponse{}, nil
}

// LogoutAll implements the RPC.
func (s *SessionServer) LogoutAll(ctx context.Context, _ *authv1.LogoutAllRequest) (*authv1.LogoutAllResponse, error) {
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.sessions.LogoutAll(ctx, caller.UserID); err != nil {
		return nil, err
	}
	return &authv1.LogoutAllResponse{}, nil
}

// ListSessions implements the RPC.
func (s *SessionServer) ListSessions(ctx context.Context,
	req *authv1.ListSessionsRequest) (*authv1.ListSessionsResponse, error) {
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	query := page.NewQuery("ListSessions", caller.UserID.String())
	after, _, err := page.Parse[uuid.UUID](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), 20, 100)
	list, err := s.sessions.List(ctx, caller.UserID, after, limit+1)
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, list, limit, func(f session.Family) uuid.UUID { return f.ID },
		func(f session.Family) *authv1.Session { return sessionToProto(f, caller) })
	if err != nil {
		return nil, err
	}
	return &authv1.ListSessionsResponse{Sessions: onPage, NextPageToken: next}, nil
}

// RevokeSession implements the RPC.
func (s *SessionServer) RevokeSession(ctx context.Context,
	req *authv1.RevokeSessionRequest) (*authv1.RevokeSessionResponse, error) {
	id, err := uuid.Parse(req.GetSessionId())
	if err != nil {
		return nil, errs.Invalid("session_id", "must be a UUID")
	}
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.sessions.Revoke(ctx, caller.UserID, id); err != nil {
		return nil, err
	}
	return &authv1.RevokeSessionResponse{}, nil
}

func sessionToProto(f session.Family, caller authn.Caller) *authv1.Session {
	return &authv1.Session{
		SessionId: f.ID.String(), DeviceId: idOrEmpty(f.DeviceID), CreateTime: timestamppb.New(f.CreatedAt),
		ExpireTime: timestamppb.New(f.ExpiresAt), LastUseTime: timestamppb.New(f.LastUsedAt),
		UserAgent: f.Client.UserAgent, IpAddress: f.Client.IPAddress, Current: f.ID == caller.SessionID,
	}
}

// idOrEmpty is "" for the zero id.
func idOrEmpty(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}

func tokensToProto(t session.Tokens) *authv1.Tokens {
	return &authv1.Tokens{
		AccessToken: t.Access, AccessExpireTime: timestamppb.New(t.AccessExpiresAt),
		RefreshToken: t.Refresh, RefreshExpireTime: timestamppb.New(t.RefreshExpiresAt),
	}
}
