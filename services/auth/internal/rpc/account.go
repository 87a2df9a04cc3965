// Package rpc translates between the contracts of purser.auth.v1 and the
// domain. No rule lives here.
package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/grpcserver"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/attempts"
)

// AccountServer serves purser.auth.v1.AccountService.
type AccountServer struct {
	authv1.UnimplementedAccountServiceServer
	accounts *account.Service
	attempts *attempts.Limiter
}

// NewAccountServer serves the accounts.
func NewAccountServer(a *account.Service, l *attempts.Limiter) *AccountServer {
	return &AccountServer{accounts: a, attempts: l}
}

// Register implements the RPC.
func (s *AccountServer) Register(ctx context.Context, req *authv1.RegisterRequest) (*authv1.RegisterResponse, error) {
	// Every registration counts: it costs a password hash, and telling a new
	// address from a taken one by what it costs would tell.
	if _, err := s.attempts.Take(ctx, grpcserver.PeerAddress(ctx), ""); err != nil {
		return nil, err
	}
	if err := s.accounts.Register(ctx, req.GetEmail(), req.GetPassword(), req.GetDisplayName()); err != nil {
		return nil, err
	}
	return &authv1.RegisterResponse{}, nil
}

// GetMe implements the RPC.
func (s *AccountServer) GetMe(ctx context.Context, _ *authv1.GetMeRequest) (*authv1.GetMeResponse, error) {
	u, err := s.accounts.ByID(ctx, authn.CallerFrom(ctx).UserID)
	if err != nil {
		return nil, err
	}
	return &authv1.GetMeResponse{User: &authv1.User{
		Id: u.ID.String(), Email: u.Email, DisplayName: u.DisplayName,
		Roles: u.Roles, CreateTime: timestamppb.New(u.CreatedAt),
	}}, nil
}
