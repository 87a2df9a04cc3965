package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/portfolio/internal/webhook"
)

// CreateWebhookEndpoint implements the RPC.
func (s *AlertServer) CreateWebhookEndpoint(ctx context.Context,
	req *portfoliov1.CreateWebhookEndpointRequest) (*portfoliov1.CreateWebhookEndpointResponse, error) {
	request, err := requests.ID(req)
	if err := errs.AllInvalid(err, s.webhooks.CheckURL(req.GetUrl())); err != nil {
		return nil, err
	}
	e, secret, err := s.webhooks.Create(ctx, authn.CallerFrom(ctx).UserID, req.GetUrl(), request)
	if err != nil {
		return nil, err
	}
	return &portfoliov1.CreateWebhookEndpointResponse{Endpoint: endpointToProto(e), Secret: secret}, nil
}

// GetWebhookEndpoint implements the RPC.
func (s *AlertServer) GetWebhookEndpoint(ctx context.Context,
	req *portfoliov1.GetWebhookEndpointRequest) (*portfoliov1.GetWebhookEndpointResponse, error) {
	id, err := idFromProto("endpoint_id", req.GetEndpointId())
	if err != nil {
		return nil, err
	}
	e, err := s.webhooks.Endpoint(ctx, authn.CallerFrom(ctx).UserID, id)
	if err != nil {
		return nil, err
	}
	return &portfoliov1.GetWebhookEndpointResponse{Endpoint: endpointToProto(e)}, nil
}

// ListWebhookEndpoints implements the RPC.
func (s *AlertServer) ListWebhookEndpoints(ctx context.Context,
	_ *portfoliov1.ListWebhookEndpointsRequest) (*portfoliov1.ListWebhookEndpointsResponse, error) {
	endpoints, err := s.webhooks.Endpoints(ctx, authn.CallerFrom(ctx).UserID)
	if err != nil {
		return nil, err
	}
	resp := &portfoliov1.ListWebhookEndpointsResponse{}
	for _, e := range endpoints {
		resp.Endpoints = append(resp.Endpoints, endpointToProto(e))
	}
	return resp, nil
}

// RotateWebhookSecret implements the RPC.
func (s *AlertServer) RotateWebhookSecret(ctx context.Context,
	req *portfoliov1.RotateWebhookSecretRequest) (*portfoliov1.RotateWebhookSecretResponse, error) {
	id, err := idFromProto("endpoint_id", req.GetEndpointId())
	if err != nil {
		return nil, err
	}
	e, secret, err := s.webhooks.RotateSecret(ctx, authn.CallerFrom(ctx).UserID, id)
	if err != nil {
		return nil, err
	}
	return &portfoliov1.RotateWebhookSecretResponse{Endpoint: endpointToProto(e), Secret: secret}, nil
}

// DeleteWebhookEndpoint implements the RPC.
func (s *AlertServer) DeleteWebhookEndpoint(ctx context.Context,
	req *portfoliov1.DeleteWebhookEndpointRequest) (*portfoliov1.DeleteWebhookEndpointResponse, error) {
	id, err := idFromProto("endpoint_id", req.GetEndpointId())
	if err != nil {
		return nil, err
	}
	if err := s.webhooks.DeleteEndpoint(ctx, authn.CallerFrom(ctx).UserID, id); err != nil {
		return nil, err
	}
	return &portfoliov1.DeleteWebhookEndpointResponse{}, nil
}

func endpointToProto(e webhook.Endpoint) *portfoliov1.WebhookEndpoint {
	return &portfoliov1.WebhookEndpoint{EndpointId: e.ID.String(), Url: e.URL,
		CreateTime: timestamppb.New(e.CreatedAt), PreviousSecretExpireTime: timeToProto(e.PreviousUntil)}
}
