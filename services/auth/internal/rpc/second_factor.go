package rpc

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// EnrollTotp implements the RPC.
func (s *SessionServer) EnrollTotp(ctx context.Context, _ *authv1.EnrollTotpRequest) (*authv1.EnrollTotpResponse,
	error) {
	caller, err := recently(ctx)
	if err != nil {
		return nil, err
	}
	e, err := s.factors.Enroll(ctx, caller.UserID)
	if err != nil {
		return nil, err
	}
	return &authv1.EnrollTotpResponse{Secret: e.Secret, Uri: e.URI}, nil
}

// ConfirmTotp implements the RPC.
func (s *SessionServer) ConfirmTotp(ctx context.Context, req *authv1.ConfirmTotpRequest) (*authv1.ConfirmTotpResponse,
	error) {
	var codes []string
	err := s.withCode(ctx, func(user uuid.UUID) (err error) {
		codes, err = s.factors.Confirm(ctx, user, req.GetTotpCode())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &authv1.ConfirmTotpResponse{RecoveryCodes: codes}, nil
}

// DisableTotp implements the RPC.
func (s *SessionServer) DisableTotp(ctx context.Context, req *authv1.DisableTotpRequest) (*authv1.DisableTotpResponse,
	error) {
	err := s.withCode(ctx, func(user uuid.UUID) error { return s.factors.Disable(ctx, user, req.GetSecondFactorCode()) })
	if err != nil {
		return nil, err
	}
	return &authv1.DisableTotpResponse{}, nil
}

// RenewRecoveryCodes implements the RPC.
func (s *SessionServer) RenewRecoveryCodes(ctx context.Context,
	req *authv1.RenewRecoveryCodesRequest) (*authv1.RenewRecoveryCodesResponse, error) {
	var codes []string
	err := s.withCode(ctx, func(user uuid.UUID) (err error) {
		codes, err = s.factors.RenewRecoveryCodes(ctx, user, req.GetSecondFactorCode())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &authv1.RenewRecoveryCodesResponse{RecoveryCodes: codes}, nil
}

// withCode does something that takes a code, for a caller who proved recently
// to be themselves.
func (s *SessionServer) withCode(ctx context.Context, do func(user uuid.UUID) error) error {
	caller, err := recently(ctx)
	if err != nil {
		return err
	}
	return s.guess(ctx, caller.UserID, func() error { return do(caller.UserID) })
}

// guess counts an attempt of a signed-in user against their limits.
func (s *SessionServer) guess(ctx context.Context, user uuid.UUID, try func() error) error {
	giveBack, err := s.attempts.Take(ctx, clientAddress(ctx), "user:"+user.String())
	if err != nil {
		return err
	}
	err = try()
	if !wrongGuess(err) {
		giveBack()
	}
	return err
}

// Reauthenticate implements the RPC.
func (s *SessionServer) Reauthenticate(ctx context.Context,
	req *authv1.ReauthenticateRequest) (*authv1.ReauthenticateResponse, error) {
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	resp := &authv1.ReauthenticateResponse{}
	err = s.guess(ctx, caller.UserID, func() error {
		t, err := s.sessions.Reauthenticate(ctx, caller.UserID, caller.SessionID, req.GetPassword(), req.GetSecondFactorCode())
		resp.AccessToken, resp.AccessExpireTime = t.Access, timestamppb.New(t.AccessExpiresAt)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
