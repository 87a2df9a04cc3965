package rpc

import (
	"context"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// AcceptInvitation implements the RPC.
func (s *AccountServer) AcceptInvitation(ctx context.Context,
	req *authv1.AcceptInvitationRequest) (*authv1.AcceptInvitationResponse, error) {
	err := withMailedCode(ctx, s.attempts, func() error {
		return s.accounts.AcceptInvitation(ctx, req.GetCode(), req.GetPassword(), req.GetDisplayName())
	})
	return &authv1.AcceptInvitationResponse{}, err
}
