package rpc

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/timerange"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/apikey"
	"github.com/purserhq/purser/services/auth/internal/attempts"
)

// APIKeyServer serves purser.auth.v1.ApiKeyService.
type APIKeyServer struct {
	authv1.UnimplementedApiKeyServiceServer
	keys     *apikey.Service
	attempts *attempts.Limiter
}

// NewAPIKeyServer returns the server.
func NewAPIKeyServer(k *apikey.Service, a *attempts.Limiter) *APIKeyServer {
	return &APIKeyServer{keys: k, attempts: a}
}

// CreateApiKey implements the RPC.
func (s *APIKeyServer) CreateApiKey(ctx context.Context,
	req *authv1.CreateApiKeyRequest) (*authv1.CreateApiKeyResponse, error) {
	caller, err := recently(ctx)
	if err != nil {
		return nil, err
	}
	r, err := keyRequest(req)
	if err != nil {
		return nil, err
	}
	key, k, err := s.keys.Create(ctx, caller, r)
	if err != nil {
		return nil, err
	}
	return &authv1.CreateApiKeyResponse{Key: key, ApiKey: apiKeyToProto(k)}, nil
}

func keyRequest(req *authv1.CreateApiKeyRequest) (apikey.CreateRequest, error) {
	expires, err := timerange.Time("expire_time", req.GetExpireTime())
	return apikey.CreateRequest{Name: req.GetName(), Scopes: req.GetScopes(), Allowed: req.GetAllowedCidrs(),
		ExpiresAt: expires}, err
}

// ListApiKeys implements the RPC.
func (s *APIKeyServer) ListApiKeys(ctx context.Context, _ *authv1.ListApiKeysRequest) (*authv1.ListApiKeysResponse,
	error) {
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	keys, err := s.keys.List(ctx, caller.UserID)
	if err != nil {
		return nil, err
	}
	resp := &authv1.ListApiKeysResponse{}
	for _, k := range keys {
		resp.ApiKeys = append(resp.ApiKeys, apiKeyToProto(k))
	}
	return resp, nil
}

// RevokeApiKey implements the RPC.
func (s *APIKeyServer) RevokeApiKey(ctx context.Context,
	req *authv1.RevokeApiKeyRequest) (*authv1.RevokeApiKeyResponse, error) {
	id, err := uuid.Parse(req.GetApiKeyId())
	if err != nil {
		return nil, errs.Invalid("api_key_id", "must be a UUID")
	}
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.keys.Revoke(ctx, caller.UserID, id); err != nil {
		return nil, err
	}
	return &authv1.RevokeApiKeyResponse{}, nil
}

// ExchangeApiKey implements the RPC.
func (s *APIKeyServer) ExchangeApiKey(ctx context.Context,
	req *authv1.ExchangeApiKeyRequest) (*authv1.ExchangeApiKeyResponse, error) {
	giveBack, err := s.attempts.Take(ctx, clientAddress(ctx), "")
	if err != nil {
		return nil, err
	}
	token, expires, err := s.keys.Exchange(ctx, req.GetKey(), clientIP(ctx))
	if !errs.Is(err, errs.KindUnauthenticated) {
		giveBack()
	}
	if err != nil {
		return nil, err
	}
	return &authv1.ExchangeApiKeyResponse{AccessToken: token, AccessExpireTime: timestamppb.New(expires)}, nil
}

func apiKeyToProto(k apikey.Key) *authv1.ApiKey {
	p := &authv1.ApiKey{
		ApiKeyId: k.ID.String(), Name: k.Name, Scopes: k.Scopes,
		CreateTime: timestamppb.New(k.CreatedAt), ExpireTime: timestamppb.New(k.ExpiresAt),
	}
	for _, a := range k.Allowed {
		p.AllowedCidrs = append(p.AllowedCidrs, a.String())
	}
	if k.LastUsedAt != nil {
		p.LastUseTime = timestamppb.New(*k.LastUsedAt)
	}
	if k.RevokedAt != nil {
		p.RevokeTime = timestamppb.New(*k.RevokedAt)
	}
	return p
}
