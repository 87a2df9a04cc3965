package rpc

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/serviceaccount"
)

// IssueServiceAccountToken implements the RPC.
func (s *SessionServer) IssueServiceAccountToken(ctx context.Context,
	req *authv1.IssueServiceAccountTokenRequest) (*authv1.IssueServiceAccountTokenResponse, error) {
	giveBack, err := s.attempts.Take(ctx, clientAddress(ctx), "")
	if err != nil {
		return nil, err
	}
	token, expires, err := s.serviceAccounts.Issue(ctx, req.GetClientId(), req.GetClientSecret())
	if !wrongGuess(err) {
		giveBack()
	}
	if err != nil {
		return nil, err
	}
	return &authv1.IssueServiceAccountTokenResponse{AccessToken: token, AccessExpireTime: timestamppb.New(expires)},
		nil
}

// CreateServiceAccount implements the RPC.
func (s *AdminServer) CreateServiceAccount(ctx context.Context,
	req *authv1.CreateServiceAccountRequest) (*authv1.CreateServiceAccountResponse, error) {
	caller, err := operator(ctx)
	if err != nil {
		return nil, err
	}
	secret, a, err := s.serviceAccounts.Create(ctx, caller.UserID, req.GetName(), req.GetPermissions())
	if err != nil {
		return nil, err
	}
	return &authv1.CreateServiceAccountResponse{ClientSecret: secret, ServiceAccount: serviceAccount(a)}, nil
}

// RotateServiceAccountSecret implements the RPC.
func (s *AdminServer) RotateServiceAccountSecret(ctx context.Context,
	req *authv1.RotateServiceAccountSecretRequest) (*authv1.RotateServiceAccountSecretResponse, error) {
	caller, id, err := serviceAccountChange(ctx, req)
	if err != nil {
		return nil, err
	}
	secret, a, err := s.serviceAccounts.Rotate(ctx, caller.UserID, id, req.GetOverlap().AsDuration())
	if err != nil {
		return nil, err
	}
	return &authv1.RotateServiceAccountSecretResponse{ClientSecret: secret, ServiceAccount: serviceAccount(a)}, nil
}

// ListServiceAccounts implements the RPC.
func (s *AdminServer) ListServiceAccounts(ctx context.Context,
	req *authv1.ListServiceAccountsRequest) (*authv1.ListServiceAccountsResponse, error) {
	query := page.NewQuery("ListServiceAccounts", authn.CallerFrom(ctx).UserID.String())
	after, _, err := page.Parse[string](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), 50, 200)
	list, err := s.serviceAccounts.List(ctx, after, limit+1)
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, list, limit, func(a serviceaccount.Account) string { return a.Name },
		serviceAccount)
	if err != nil {
		return nil, err
	}
	return &authv1.ListServiceAccountsResponse{ServiceAccounts: onPage, NextPageToken: next}, nil
}

// UpdateServiceAccount implements the RPC.
func (s *AdminServer) UpdateServiceAccount(ctx context.Context,
	req *authv1.UpdateServiceAccountRequest) (*authv1.UpdateServiceAccountResponse, error) {
	caller, id, err := serviceAccountChange(ctx, req)
	if err != nil {
		return nil, err
	}
	a, err := s.serviceAccounts.Update(ctx, caller.UserID, id, req.GetPermissions())
	if err != nil {
		return nil, err
	}
	return &authv1.UpdateServiceAccountResponse{ServiceAccount: serviceAccount(a)}, nil
}

// GetServiceAccount implements the RPC.
func (s *AdminServer) GetServiceAccount(ctx context.Context,
	req *authv1.GetServiceAccountRequest) (*authv1.GetServiceAccountResponse, error) {
	id, err := uuid.Parse(req.GetServiceAccountId())
	if err != nil {
		return nil, errs.Invalid("service_account_id", "must be a UUID")
	}
	a, err := s.serviceAccounts.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	return &authv1.GetServiceAccountResponse{ServiceAccount: serviceAccount(a)}, nil
}

// EnableServiceAccount implements the RPC.
func (s *AdminServer) EnableServiceAccount(ctx context.Context,
	req *authv1.EnableServiceAccountRequest) (*authv1.EnableServiceAccountResponse, error) {
	caller, id, err := serviceAccountChange(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := s.serviceAccounts.Enable(ctx, caller.UserID, id); err != nil {
		return nil, err
	}
	return &authv1.EnableServiceAccountResponse{}, nil
}

// DisableServiceAccount implements the RPC.
func (s *AdminServer) DisableServiceAccount(ctx context.Context,
	req *authv1.DisableServiceAccountRequest) (*authv1.DisableServiceAccountResponse, error) {
	caller, id, err := serviceAccountChange(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := s.serviceAccounts.Disable(ctx, caller.UserID, id); err != nil {
		return nil, err
	}
	return &authv1.DisableServiceAccountResponse{}, nil
}

// serviceAccountChange returns the operator who changes a service account, and its id.
func serviceAccountChange(ctx context.Context, req interface{ GetServiceAccountId() string }) (authn.Caller, uuid.UUID,
	error) {
	caller, err := operator(ctx)
	if err != nil {
		return caller, uuid.Nil, err
	}
	id, err := uuid.Parse(req.GetServiceAccountId())
	if err != nil {
		return caller, id, errs.Invalid("service_account_id", "must be a UUID")
	}
	return caller, id, nil
}

func serviceAccount(a serviceaccount.Account) *authv1.ServiceAccount {
	p := &authv1.ServiceAccount{
		ServiceAccountId: a.ID.String(), Name: a.Name, Permissions: a.Permissions,
		CreateTime: timestamppb.New(a.CreatedAt), DisableTime: timestamp(a.DisabledAt),
	}
	for _, s := range a.Secrets {
		p.Secrets = append(p.Secrets, &authv1.ServiceAccountSecret{
			SecretId: s.ID.String(), CreateTime: timestamppb.New(s.CreatedAt),
			ExpireTime: timestamp(s.ExpiresAt), LastUseTime: timestamp(s.LastUsedAt),
		})
	}
	return p
}
