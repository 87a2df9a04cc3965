package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/oauth"
)

// StartProviderLink implements the RPC. Every start is counted, because each is stored for minutes.
func (s *IdentityServer) StartProviderLink(ctx context.Context,
	req *authv1.StartProviderLinkRequest) (*authv1.StartProviderLinkResponse, error) {
	caller, err := recently(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := s.attempts.Take(ctx, clientAddress(ctx), ""); err != nil {
		return nil, err
	}
	started, err := s.methods.OAuth.StartLink(ctx, caller.UserID, caller.SessionID, req.GetProvider(),
		req.GetRedirectUri())
	if err != nil {
		return nil, err
	}
	return &authv1.StartProviderLinkResponse{
		AuthorizationUrl: started.URL, State: started.State, Secret: started.Secret,
		ExpireTime: timestamppb.New(started.ExpiresAt),
	}, nil
}

// LinkProvider implements the RPC.
func (s *IdentityServer) LinkProvider(ctx context.Context,
	req *authv1.LinkProviderRequest) (*authv1.LinkProviderResponse, error) {
	caller, err := recently(ctx)
	if err != nil {
		return nil, err
	}
	var linked identity.Identity
	err = attempt(ctx, s.attempts, func() (err error) {
		linked, err = s.methods.OAuth.FinishLink(ctx, caller.UserID, caller.SessionID,
			oauth.Callback{State: req.GetState(), Code: req.GetCode(), Secret: req.GetSecret(), Issuer: req.GetIss()})
		return err
	})
	if err != nil {
		return nil, err
	}
	return &authv1.LinkProviderResponse{Identity: identityToProto(linked)}, nil
}

// KeepSecondFactor implements the RPC.
func (s *IdentityServer) KeepSecondFactor(ctx context.Context,
	_ *authv1.KeepSecondFactorRequest) (*authv1.KeepSecondFactorResponse, error) {
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	return &authv1.KeepSecondFactorResponse{}, s.accounts.KeepSecondFactor(ctx, caller.UserID)
}

// KeepSecondFactorByCode implements the RPC. It is counted unless the code was valid.
func (s *IdentityServer) KeepSecondFactorByCode(ctx context.Context,
	req *authv1.KeepSecondFactorByCodeRequest) (*authv1.KeepSecondFactorByCodeResponse, error) {
	err := withMailedCode(ctx, s.attempts, func() error {
		return s.accounts.KeepSecondFactorByCode(ctx, req.GetCode())
	})
	return &authv1.KeepSecondFactorByCodeResponse{}, err
}

// EndEverything implements the RPC.
func (s *IdentityServer) EndEverything(ctx context.Context,
	_ *authv1.EndEverythingRequest) (*authv1.EndEverythingResponse, error) {
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	ended, err := s.identities.EndEverything(ctx, caller.UserID)
	return &authv1.EndEverythingResponse{EndedSessions: int32(ended.Sessions),
		RevokedApiKeys: int32(ended.APIKeys), EndedCodes: int32(ended.Codes)}, err
}
