package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcserver"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/auth/internal/session"
)

// SessionServer serves purser.auth.v1.SessionService.
type SessionServer struct {
	authv1.UnimplementedSessionServiceServer
	sessions *session.Service
	attempts *attempts.Limiter
}

// NewSessionServer serves the sessions.
func NewSessionServer(s *session.Service, a *attempts.Limiter) *SessionServer {
	return &SessionServer{sessions: s, attempts: a}
}

// Login implements the RPC.
func (s *SessionServer) Login(ctx context.Context, req *authv1.LoginRequest) (*authv1.LoginResponse, error) {
	giveBack, err := s.attempts.Take(grpcserver.PeerAddress(ctx), account.NormalEmail(req.GetEmail()))
	if err != nil {
		return nil, err
	}
	t, err := s.sessions.Login(ctx, req.GetEmail(), req.GetPassword())
	if !errs.Is(err, errs.KindUnauthenticated) {
		giveBack()
	}
	if err != nil {
		return nil, err
	}
	return &authv1.LoginResponse{Tokens: tokensToProto(t)}, nil
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

func tokensToProto(t session.Tokens) *authv1.Tokens {
	return &authv1.Tokens{
		AccessToken: t.Access, AccessExpireTime: timestamppb.New(t.AccessExpiresAt),
		RefreshToken: t.Refresh, RefreshExpireTime: timestamppb.New(t.RefreshExpiresAt),
	}
}
