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
	e, err := s.secondFactors.Enroll(ctx, caller.UserID)
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
		codes, err = s.secondFactors.Confirm(ctx, user, req.GetTotpCode())
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
	err := s.withCode(ctx, func(user uuid.UUID) error {
		return s.secondFactors.Disable(ctx, user,
			req.GetSecondFactorCode())
	})
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
		codes, err = s.secondFactors.RenewRecoveryCodes(ctx, user, req.GetSecondFactorCode())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &authv1.RenewRecoveryCodesResponse{RecoveryCodes: codes}, nil
}

// withCode runs a change that needs a code, for a caller who has signed in or reauthenticated recently.
func (s *SessionServer) withCode(ctx context.Context, change func(user uuid.UUID) error) error {
	caller, err := recently(ctx)
	if err != nil {
		return err
	}
	return s.attemptOf(ctx, caller.UserID, func() error { return change(caller.UserID) })
}

// attemptOf is attempt, counted by a signed-in user as well.
func (s *SessionServer) attemptOf(ctx context.Context, user uuid.UUID, call func() error) error {
	giveBack, err := s.attempts.Take(ctx, clientAddress(ctx), "user:"+user.String())
	if err != nil {
		return err
	}
	err = call()
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
	err = s.attemptOf(ctx, caller.UserID, func() error {
		t, err := s.sessions.Reauthenticate(ctx, caller.UserID, caller.SessionID, req.GetPassword(),
			req.GetSecondFactorCode())
		resp.AccessToken, resp.AccessExpireTime = t.Access, timestamppb.New(t.AccessExpiresAt)
		return err
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
}
