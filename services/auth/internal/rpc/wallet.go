package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/session"
)

// StartWalletLogin implements the RPC. Every start is counted, because each is stored for minutes.
func (s *SessionServer) StartWalletLogin(ctx context.Context,
	req *authv1.StartWalletLoginRequest) (*authv1.StartWalletLoginResponse, error) {
	if _, err := s.attempts.Take(ctx, clientAddress(ctx), ""); err != nil {
		return nil, err
	}
	message, expires, err := s.methods.Wallets.Start(ctx, req.GetAddress(), req.GetChainId())
	if err != nil {
		return nil, err
	}
	return &authv1.StartWalletLoginResponse{Message: message, ExpireTime: timestamppb.New(expires)}, nil
}

// FinishWalletLogin implements the RPC.
func (s *SessionServer) FinishWalletLogin(ctx context.Context,
	req *authv1.FinishWalletLoginRequest) (*authv1.FinishWalletLoginResponse, error) {
	var t session.Tokens
	ctx = s.sessions.WithDevice(ctx, req.GetDeviceToken())
	err := attempt(ctx, s.attempts, func() (err error) {
		t, err = s.methods.Wallets.Finish(ctx, req.GetMessage(), req.GetSignature(), req.GetSecondFactorCode())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &authv1.FinishWalletLoginResponse{Tokens: tokensToProto(t), DeviceToken: t.Device}, nil
}

// StartWalletLink implements the RPC.
func (s *IdentityServer) StartWalletLink(ctx context.Context,
	req *authv1.StartWalletLinkRequest) (*authv1.StartWalletLinkResponse, error) {
	caller, err := recently(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.attempts.Take(ctx, clientAddress(ctx), ""); err != nil {
		return nil, err
	}
	message, expires, err := s.methods.Wallets.StartLink(ctx, caller.UserID, req.GetAddress(), req.GetChainId())
	if err != nil {
		return nil, err
	}
	return &authv1.StartWalletLinkResponse{Message: message, ExpireTime: timestamppb.New(expires)}, nil
}

// LinkWallet implements the RPC.
func (s *IdentityServer) LinkWallet(ctx context.Context, req *authv1.LinkWalletRequest) (*authv1.LinkWalletResponse,
	error) {
	caller, err := recently(ctx)
	if err != nil {
		return nil, err
	}
	resp := &authv1.LinkWalletResponse{}
	err = attempt(ctx, s.attempts, func() error {
		linked, err := s.methods.Wallets.Link(ctx, caller.UserID, req.GetMessage(), req.GetSignature())
		resp.Identity = identityToProto(linked)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
