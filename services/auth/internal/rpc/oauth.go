package rpc

import (
	"context"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/auth/internal/oauth"
	"github.com/purserhq/purser/services/auth/internal/session"
)

// StartOAuth implements the RPC. Every start is counted, because each is stored for minutes.
func (s *SessionServer) StartOAuth(ctx context.Context, req *authv1.StartOAuthRequest) (*authv1.StartOAuthResponse,
	error) {
	if _, err := s.attempts.Take(ctx, clientAddress(ctx), ""); err != nil {
		return nil, err
	}
	started, err := s.methods.OAuth.Start(ctx, req.GetProvider(), req.GetRedirectUri())
	if err != nil {
		return nil, err
	}
	return &authv1.StartOAuthResponse{
		AuthorizationUrl: started.URL, State: started.State, Secret: started.Secret,
		ExpireTime: timestamppb.New(started.ExpiresAt),
	}, nil
}

// FinishOAuth implements the RPC.
func (s *SessionServer) FinishOAuth(ctx context.Context, req *authv1.FinishOAuthRequest) (*authv1.FinishOAuthResponse,
	error) {
	resp := &authv1.FinishOAuthResponse{}
	ctx = s.sessions.WithDevice(ctx, req.GetDeviceToken())
	err := attempt(ctx, s.attempts, func() error {
		t, code, err := s.methods.OAuth.Finish(ctx,
			oauth.Callback{State: req.GetState(), Code: req.GetCode(), Secret: req.GetSecret(), Issuer: req.GetIss()})
		if err == nil && code == "" {
			resp.Tokens, resp.DeviceToken = tokensToProto(t), t.Device
		}
		resp.LoginCode = code
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}

// ExchangeLoginCode implements the RPC.
func (s *SessionServer) ExchangeLoginCode(ctx context.Context,
	req *authv1.ExchangeLoginCodeRequest) (*authv1.ExchangeLoginCodeResponse, error) {
	var t session.Tokens
	ctx = s.sessions.WithDevice(ctx, req.GetDeviceToken())
	err := attempt(ctx, s.attempts, func() (err error) {
		t, err = s.methods.OAuth.Exchange(ctx, req.GetCode(), req.GetCodeVerifier(), req.GetSecondFactorCode())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &authv1.ExchangeLoginCodeResponse{Tokens: tokensToProto(t), DeviceToken: t.Device}, nil
}

// attempt counts a call by the client's address, unless it succeeded or failed for another reason than a wrong guess.
func attempt(ctx context.Context, l *attempts.Limiter, call func() error) error {
	giveBack, err := l.Take(ctx, clientAddress(ctx), "")
	if err != nil {
		return err
	}
	return counted(giveBack, call())
}

// withMailedCode counts a call with a mailed code by the client's address, unless the code was valid.
func withMailedCode(ctx context.Context, l *attempts.Limiter, call func() error) error {
	giveBack, err := l.Take(ctx, clientAddress(ctx), "")
	if err != nil {
		return err
	}
	if err = call(); !errs.Is(err, errs.KindFailedPrecondition) {
		giveBack()
	}
	return err
}
