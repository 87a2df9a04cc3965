package rpc

import (
	"context"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/session"
)

// ListUserSessions implements the RPC.
func (s *AdminServer) ListUserSessions(ctx context.Context,
	req *authv1.ListUserSessionsRequest) (*authv1.ListUserSessionsResponse, error) {
	id, err := s.existing(ctx, req)
	if err != nil {
		return nil, err
	}
	caller := authn.CallerFrom(ctx)
	query := page.NewQuery("ListUserSessions", caller.UserID.String(), id.String())
	before, _, err := page.Parse[uuid.UUID](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), 20, 100)
	list, err := s.access.Sessions.List(ctx, id, before, limit+1)
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, list, limit, func(f session.Family) uuid.UUID { return f.ID },
		func(f session.Family) *authv1.Session { return sessionToProto(f, caller) })
	if err != nil {
		return nil, err
	}
	return &authv1.ListUserSessionsResponse{Sessions: onPage, NextPageToken: next}, nil
}

// RevokeUserSession implements the RPC.
func (s *AdminServer) RevokeUserSession(ctx context.Context,
	req *authv1.RevokeUserSessionRequest) (*authv1.RevokeUserSessionResponse, error) {
	caller, id, err := userChange(ctx, req)
	if err != nil {
		return nil, err
	}
	session, err := uuid.Parse(req.GetSessionId())
	if err != nil {
		return nil, errs.Invalid("session_id", "must be a UUID")
	}
	return &authv1.RevokeUserSessionResponse{}, s.users.EndSession(ctx, caller.UserID, id, session)
}

// RevokeUserSessions implements the RPC.
func (s *AdminServer) RevokeUserSessions(ctx context.Context,
	req *authv1.RevokeUserSessionsRequest) (*authv1.RevokeUserSessionsResponse, error) {
	caller, id, err := userChange(ctx, req)
	if err != nil {
		return nil, err
	}
	ended, err := s.users.EndSessions(ctx, caller.UserID, id)
	return &authv1.RevokeUserSessionsResponse{EndedSessions: int32(ended)}, err
}

// ListUserApiKeys implements the RPC.
func (s *AdminServer) ListUserApiKeys(ctx context.Context,
	req *authv1.ListUserApiKeysRequest) (*authv1.ListUserApiKeysResponse, error) {
	id, err := s.existing(ctx, req)
	if err != nil {
		return nil, err
	}
	keys, err := s.access.APIKeys.List(ctx, id)
	resp := &authv1.ListUserApiKeysResponse{}
	for _, k := range keys {
		resp.ApiKeys = append(resp.ApiKeys, apiKeyToProto(k))
	}
	return resp, err
}

// RevokeUserApiKey implements the RPC.
func (s *AdminServer) RevokeUserApiKey(ctx context.Context,
	req *authv1.RevokeUserApiKeyRequest) (*authv1.RevokeUserApiKeyResponse, error) {
	caller, id, err := userChange(ctx, req)
	if err != nil {
		return nil, err
	}
	key, err := uuid.Parse(req.GetApiKeyId())
	if err != nil {
		return nil, errs.Invalid("api_key_id", "must be a UUID")
	}
	return &authv1.RevokeUserApiKeyResponse{}, s.users.RevokeAPIKey(ctx, caller.UserID, id, key)
}

// ListUserIdentities implements the RPC.
func (s *AdminServer) ListUserIdentities(ctx context.Context,
	req *authv1.ListUserIdentitiesRequest) (*authv1.ListUserIdentitiesResponse, error) {
	id, err := s.existing(ctx, req)
	if err != nil {
		return nil, err
	}
	list, err := s.access.Identities.List(ctx, id)
	resp := &authv1.ListUserIdentitiesResponse{}
	for _, i := range list {
		resp.Identities = append(resp.Identities, identityToProto(i))
	}
	return resp, err
}

// RemoveSecondFactor implements the RPC.
func (s *AdminServer) RemoveSecondFactor(ctx context.Context,
	req *authv1.RemoveSecondFactorRequest) (*authv1.RemoveSecondFactorResponse, error) {
	caller, id, err := userChange(ctx, req)
	if err != nil {
		return nil, err
	}
	due, err := s.users.RemoveSecondFactor(ctx, caller.UserID, id)
	return &authv1.RemoveSecondFactorResponse{RemoveTime: timestamp(due)}, err
}

// CancelSecondFactorRemoval implements the RPC.
func (s *AdminServer) CancelSecondFactorRemoval(ctx context.Context,
	req *authv1.CancelSecondFactorRemovalRequest) (*authv1.CancelSecondFactorRemovalResponse, error) {
	caller, id, err := userChange(ctx, req)
	if err != nil {
		return nil, err
	}
	return &authv1.CancelSecondFactorRemovalResponse{}, s.users.CancelRemoval(ctx, caller.UserID, id)
}

// InviteUser implements the RPC.
func (s *AdminServer) InviteUser(ctx context.Context, req *authv1.InviteUserRequest) (*authv1.InviteUserResponse,
	error) {
	caller, err := operator(ctx)
	if err != nil {
		return nil, err
	}
	a, expires, err := s.users.Invite(ctx, caller.UserID, req.GetEmail(), req.GetRoles(), req.GetAttributes())
	if err != nil {
		return nil, err
	}
	return &authv1.InviteUserResponse{User: userRecord(a), ExpireTime: timestamp(expires)}, nil
}

// existing returns the id of a user that there is.
func (s *AdminServer) existing(ctx context.Context, req interface{ GetUserId() string }) (uuid.UUID, error) {
	id, err := userID(req)
	if err != nil {
		return id, err
	}
	_, err = s.users.Find(ctx, id)
	return id, err
}
