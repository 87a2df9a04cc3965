package rpc

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/auth/internal/identity"
)

// IdentityServer serves purser.auth.v1.IdentityService.
type IdentityServer struct {
	authv1.UnimplementedIdentityServiceServer
	identities *identity.Service
	methods    SignInMethods
	accounts   *account.Service
	attempts   *attempts.Limiter
}

// NewIdentityServer returns the server.
func NewIdentityServer(i *identity.Service, m SignInMethods, u *account.Service,
	a *attempts.Limiter) *IdentityServer {
	return &IdentityServer{identities: i, methods: m, accounts: u, attempts: a}
}

// ListIdentities implements the RPC.
func (s *IdentityServer) ListIdentities(ctx context.Context,
	_ *authv1.ListIdentitiesRequest) (*authv1.ListIdentitiesResponse, error) {
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	list, err := s.identities.List(ctx, caller.UserID)
	if err != nil {
		return nil, err
	}
	resp := &authv1.ListIdentitiesResponse{}
	for _, i := range list {
		resp.Identities = append(resp.Identities, identityToProto(i))
	}
	return resp, nil
}

// UnlinkIdentity implements the RPC.
func (s *IdentityServer) UnlinkIdentity(ctx context.Context,
	req *authv1.UnlinkIdentityRequest) (*authv1.UnlinkIdentityResponse, error) {
	id, err := uuid.Parse(req.GetIdentityId())
	if err != nil {
		return nil, errs.Invalid("identity_id", "must be a UUID")
	}
	caller, err := recently(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.identities.Remove(ctx, caller.UserID, id); err != nil {
		return nil, err
	}
	return &authv1.UnlinkIdentityResponse{}, nil
}

func identityToProto(i identity.Identity) *authv1.Identity {
	return &authv1.Identity{
		IdentityId: i.ID.String(), Provider: i.Provider, Subject: i.Subject, Label: i.Label,
		CreateTime: timestamppb.New(i.CreatedAt), LastUseTime: timestamp(i.LastUsedAt),
	}
}
