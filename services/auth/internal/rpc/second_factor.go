package rpc

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
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
	err := s.withCode(ctx, req.GetTotpCode(), func(user uuid.UUID) (err error) {
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
	err := s.withCode(ctx, req.GetSecondFactorCode(), func(user uuid.UUID) error {
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
	err := s.withCode(ctx, req.GetSecondFactorCode(), func(user uuid.UUID) (err error) {
		codes, err = s.secondFactors.RenewRecoveryCodes(ctx, user, req.GetSecondFactorCode())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &authv1.RenewRecoveryCodesResponse{RecoveryCodes: codes}, nil
}

// withCode runs a change that needs a code, for a caller who has signed in or reauthenticated recently.
func (s *SessionServer) withCode(ctx context.Context, code string, change func(user uuid.UUID) error) error {
	caller, err := recently(ctx)
	if err != nil {
		return err
	}
	return s.attemptOf(ctx, caller, code, func() error { return change(caller.UserID) })
}

// attemptOf is attempt, counted by the caller's session as well: whoever stole another session of the user does not
// use up the attempts of this one. A right recovery code gets through when these have none left.
func (s *SessionServer) attemptOf(ctx context.Context, caller authn.Caller, code string, call func() error) error {
	address, name := clientAddress(ctx), "session:"+caller.SessionID.String()
	giveBack, err := s.attempts.TryTake(ctx, address, name)
	if err != nil {
		giveBack = s.recoveryAttempt(ctx, caller.UserID, code)
	}
	if giveBack == nil {
		giveBack, err = s.attempts.Take(ctx, address, name)
		if err != nil {
			return err
		}
	}
	return counted(giveBack, call())
}

// Reauthenticate implements the RPC.
func (s *SessionServer) Reauthenticate(ctx context.Context,
	req *authv1.ReauthenticateRequest) (*authv1.ReauthenticateResponse, error) {
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	resp := &authv1.ReauthenticateResponse{}
	err = s.attemptOf(ctx, caller, req.GetSecondFactorCode(), func() error {
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
