package rpc

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/admin"
)

// ListUsers implements the RPC.
func (s *AdminServer) ListUsers(ctx context.Context, req *authv1.ListUsersRequest) (*authv1.ListUsersResponse, error) {
	disabled := "either"
	if req.Disabled != nil {
		disabled = fmt.Sprint(req.GetDisabled())
	}
	query := page.NewQuery("ListUsers", authn.CallerFrom(ctx).UserID.String(),
		account.NormalEmail(req.GetEmailPrefix()), req.GetRole(), disabled)
	before, _, err := page.Parse[uuid.UUID](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), 50, 200)
	list, err := s.users.List(ctx, admin.Filter{
		EmailPrefix: req.GetEmailPrefix(), Role: req.GetRole(), Disabled: req.Disabled, Before: before,
		Limit: limit + 1,
	})
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, list, limit, func(a admin.Account) uuid.UUID { return a.ID },
		userRecord)
	if err != nil {
		return nil, err
	}
	return &authv1.ListUsersResponse{Users: onPage, NextPageToken: next}, nil
}

// GetUser implements the RPC.
func (s *AdminServer) GetUser(ctx context.Context, req *authv1.GetUserRequest) (*authv1.GetUserResponse, error) {
	id, err := userID(req)
	if err != nil {
		return nil, err
	}
	a, err := s.users.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	return &authv1.GetUserResponse{User: userRecord(a)}, nil
}

// SetRoles implements the RPC.
func (s *AdminServer) SetRoles(ctx context.Context, req *authv1.SetRolesRequest) (*authv1.SetRolesResponse, error) {
	caller, id, err := userChange(ctx, req)
	if err != nil {
		return nil, err
	}
	a, err := s.users.SetRoles(ctx, caller.UserID, id, req.GetRoles(), req.EndSessions)
	if err != nil {
		return nil, err
	}
	return &authv1.SetRolesResponse{User: userRecord(a)}, nil
}

// SetAttributes implements the RPC.
func (s *AdminServer) SetAttributes(ctx context.Context,
	req *authv1.SetAttributesRequest) (*authv1.SetAttributesResponse, error) {
	caller, id, err := userChange(ctx, req)
	if err != nil {
		return nil, err
	}
	a, err := s.users.SetAttributes(ctx, caller.UserID, id, req.GetAttributes())
	if err != nil {
		return nil, err
	}
	return &authv1.SetAttributesResponse{User: userRecord(a)}, nil
}

// DisableUser implements the RPC.
func (s *AdminServer) DisableUser(ctx context.Context, req *authv1.DisableUserRequest) (*authv1.DisableUserResponse,
	error) {
	caller, id, err := userChange(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := s.users.Disable(ctx, caller.UserID, id); err != nil {
		return nil, err
	}
	return &authv1.DisableUserResponse{}, nil
}

// EnableUser implements the RPC.
func (s *AdminServer) EnableUser(ctx context.Context, req *authv1.EnableUserRequest) (*authv1.EnableUserResponse,
	error) {
	caller, id, err := userChange(ctx, req)
	if err != nil {
		return nil, err
	}
	if err := s.users.Enable(ctx, caller.UserID, id); err != nil {
		return nil, err
	}
	return &authv1.EnableUserResponse{}, nil
}

// userChange returns the operator who changes a user, and the user's id.
func userChange(ctx context.Context, req interface{ GetUserId() string }) (authn.Caller, uuid.UUID, error) {
	caller, err := operator(ctx)
	if err != nil {
		return caller, uuid.Nil, err
	}
	id, err := userID(req)
	return caller, id, err
}

func userID(req interface{ GetUserId() string }) (uuid.UUID, error) {
	id, err := uuid.Parse(req.GetUserId())
	if err != nil {
		return id, errs.Invalid("user_id", "must be a UUID")
	}
	return id, nil
}

func userRecord(a admin.Account) *authv1.UserRecord {
	return &authv1.UserRecord{
		User: &authv1.User{
			Id: a.ID.String(), Email: a.Email, DisplayName: a.DisplayName, Roles: a.Roles,
			CreateTime:    timestamppb.New(a.CreatedAt),
			EmailVerified: !a.VerifiedAt.IsZero(),
		},
		Attributes: a.Attributes, DisableTime: timestamp(a.DisabledAt), HasSecondFactor: a.SecondFactor,
		InviteTime: timestamp(a.InvitedAt), SecondFactorRemoveTime: timestamp(a.SecondFactorDue),
	}
}
