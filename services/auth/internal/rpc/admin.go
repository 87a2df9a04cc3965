package rpc

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/admin"
	"github.com/purserhq/purser/services/auth/internal/apikey"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/serviceaccount"
	"github.com/purserhq/purser/services/auth/internal/session"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/internal/streams"
)

// AdminServer serves purser.auth.v1.AdminService.
type AdminServer struct {
	authv1.UnimplementedAdminServiceServer
	rotator         *signing.Rotator
	users           *admin.Service
	serviceAccounts *serviceaccount.Service
	events          audit.Reader
	feed            audit.FeedStore
	watchers        *streams.Pool    // of WatchAuditEvents, by caller
	authority       authority.Reader // of those who watch events
	access          AccessReaders
}

// AccessReaders read what accounts can be signed in with.
type AccessReaders struct {
	Sessions   *session.Service
	APIKeys    *apikey.Service
	Identities *identity.Service
}

// AdminDeps are what an AdminServer depends on.
type AdminDeps struct {
	Rotator         *signing.Rotator
	Users           *admin.Service
	ServiceAccounts *serviceaccount.Service
	Events          audit.Reader
	Feed            audit.FeedStore
	Authority       authority.Reader
	Access          AccessReaders
}

// NewAdminServer returns the server.
func NewAdminServer(d AdminDeps) *AdminServer {
	return &AdminServer{rotator: d.Rotator, users: d.Users, serviceAccounts: d.ServiceAccounts,
		events: d.Events, feed: d.Feed, authority: d.Authority, access: d.Access,
		watchers: streams.NewPool(maxWatchers, maxWatchersPerCaller)}
}

// ListSigningKeys implements the RPC.
func (s *AdminServer) ListSigningKeys(ctx context.Context,
	_ *authv1.ListSigningKeysRequest) (*authv1.ListSigningKeysResponse, error) {
	o, err := s.rotator.Overview(ctx)
	if err != nil {
		return nil, err
	}
	resp := &authv1.ListSigningKeysResponse{Epoch: o.Epoch, NextChangeTime: timestamp(o.NextStepAt)}
	for _, k := range o.Keys {
		resp.Keys = append(resp.Keys, signingKey(k))
	}
	return resp, nil
}

// RotateSigningKey implements the RPC.
func (s *AdminServer) RotateSigningKey(ctx context.Context,
	_ *authv1.RotateSigningKeyRequest) (*authv1.RotateSigningKeyResponse, error) {
	if _, err := operator(ctx); err != nil {
		return nil, err
	}
	if err := s.rotator.Rotate(ctx, true); err != nil {
		return nil, err
	}
	key, err := s.active(ctx)
	return &authv1.RotateSigningKeyResponse{Key: key}, err
}

// RevokeSigningKey implements the RPC.
func (s *AdminServer) RevokeSigningKey(ctx context.Context,
	req *authv1.RevokeSigningKeyRequest) (*authv1.RevokeSigningKeyResponse, error) {
	if _, err := operator(ctx); err != nil {
		return nil, err
	}
	if err := s.rotator.Revoke(ctx, req.GetKid()); err != nil {
		return nil, err
	}
	key, err := s.active(ctx)
	return &authv1.RevokeSigningKeyResponse{Key: key}, err
}

func (s *AdminServer) active(ctx context.Context) (*authv1.SigningKey, error) {
	o, err := s.rotator.Overview(ctx)
	if err != nil {
		return nil, err
	}
	for _, k := range o.Keys {
		if k.State == signing.Active {
			return signingKey(k), nil
		}
	}
	return nil, errs.Unavailable("NO_ACTIVE_KEY", "no signing key is active now")
}

func signingKey(k signing.Key) *authv1.SigningKey {
	return &authv1.SigningKey{
		Kid: k.KID, Algorithm: k.Algorithm, PromotedEarly: k.PromotedEarly,
		State:       authv1.SigningKeyState(authv1.SigningKeyState_value["SIGNING_KEY_STATE_"+string(k.State)]),
		PublishTime: timestamp(k.PublishedAt), ActivateTime: timestamp(k.ActivatedAt),
		RetireTime: timestamp(k.RetiringAt),
	}
}

// timestamp is nil for the zero time.
func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}
