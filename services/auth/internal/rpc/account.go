// Package rpc translates between the API purser.auth.v1 and the domain packages. It adds what depends on the call: the
// limits of attempts and the floor of response times.
package rpc

import (
	"context"
	"math"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/attempts"
)

// AccountServer serves purser.auth.v1.AccountService.
type AccountServer struct {
	authv1.UnimplementedAccountServiceServer
	accounts *account.Service
	attempts *attempts.Limiter
	floor    Floor
}

// NewAccountServer returns the server; f is the floor of the methods that must not reveal whether an account exists.
func NewAccountServer(a *account.Service, l *attempts.Limiter, f Floor) *AccountServer {
	return &AccountServer{accounts: a, attempts: l, floor: f}
}

// Register implements the RPC.
func (s *AccountServer) Register(ctx context.Context, req *authv1.RegisterRequest) (*authv1.RegisterResponse, error) {
	// Every registration is counted, because each costs a password hash and a count of only some would reveal which
	// addresses are taken. It is counted by e-mail address too, because each sends a mail there, also when the account
	// is deleted in between.
	err := s.withFloor(ctx, "register:"+account.NormalEmail(req.GetEmail()), func() error {
		return s.accounts.Register(ctx, req.GetEmail(), req.GetPassword(), req.GetDisplayName())
	})
	return &authv1.RegisterResponse{}, err
}

// ResendVerification implements the RPC.
func (s *AccountServer) ResendVerification(ctx context.Context,
	req *authv1.ResendVerificationRequest) (*authv1.ResendVerificationResponse, error) {
	err := s.withFloor(ctx, mailName(ctx, req.GetEmail()), func() error {
		return s.accounts.ResendVerification(ctx, req.GetEmail())
	})
	return &authv1.ResendVerificationResponse{}, err
}

// RequestPasswordReset implements the RPC.
func (s *AccountServer) RequestPasswordReset(ctx context.Context,
	req *authv1.RequestPasswordResetRequest) (*authv1.RequestPasswordResetResponse, error) {
	err := s.withFloor(ctx, mailName(ctx, req.GetEmail()), func() error {
		return s.accounts.RequestReset(ctx, req.GetEmail())
	})
	return &authv1.RequestPasswordResetResponse{}, err
}

// mailName is by what requests for mails to an address are counted: by where they come from as well, so that nobody
// uses up those of the owner. How many mails they cause is limited by mailbox.
func mailName(ctx context.Context, email string) string {
	return "mail:" + clientAddress(ctx) + " " + account.NormalEmail(email)
}

// withFloor counts a call by the client's address and by name, and answers no sooner than the floor. Names of mails
// differ from those of sign-ins, so that requests for mails lock nobody out.
func (s *AccountServer) withFloor(ctx context.Context, name string, call func() error) error {
	if _, err := s.attempts.Take(ctx, clientAddress(ctx), name); err != nil {
		return err
	}
	start := time.Now()
	err := call()
	s.floor.wait(ctx, start, err)
	return err
}

// VerifyEmail implements the RPC.
func (s *AccountServer) VerifyEmail(ctx context.Context, req *authv1.VerifyEmailRequest) (*authv1.VerifyEmailResponse,
	error) {
	var removed account.Removed
	err := withMailedCode(ctx, s.attempts, func() (err error) {
		removed, err = s.accounts.Verify(ctx, account.Verification{
			Code: req.GetCode(), Password: req.GetPassword(),
			Charge: func(email string) (func(), error) { // a guess counts like one of Login
				return s.attempts.Take(ctx, clientAddress(ctx), "login:"+email)
			},
		})
		return err
	})
	return &authv1.VerifyEmailResponse{Removed: removedToProto(removed)}, err
}

// RequestEmailChange implements the RPC.
func (s *AccountServer) RequestEmailChange(ctx context.Context,
	req *authv1.RequestEmailChangeRequest) (*authv1.RequestEmailChangeResponse, error) {
	caller, err := recently(ctx)
	if err != nil {
		return nil, err
	}
	err = s.withFloor(ctx, "mail:"+account.NormalEmail(req.GetNewEmail()), func() error {
		return s.accounts.RequestEmailChange(ctx, caller.UserID, req.GetNewEmail())
	})
	return &authv1.RequestEmailChangeResponse{}, err
}

// ConfirmEmailChange implements the RPC.
func (s *AccountServer) ConfirmEmailChange(ctx context.Context,
	req *authv1.ConfirmEmailChangeRequest) (*authv1.ConfirmEmailChangeResponse, error) {
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	var email string
	err = withMailedCode(ctx, s.attempts, func() (err error) {
		email, err = s.accounts.ConfirmEmailChange(ctx, caller.UserID, caller.SessionID, req.GetCode())
		return err
	})
	return &authv1.ConfirmEmailChangeResponse{Email: email}, err
}

// CheckPasswordReset implements the RPC.
func (s *AccountServer) CheckPasswordReset(ctx context.Context,
	req *authv1.CheckPasswordResetRequest) (*authv1.CheckPasswordResetResponse, error) {
	var expiresAt time.Time
	err := withMailedCode(ctx, s.attempts, func() (err error) {
		expiresAt, err = s.accounts.CheckReset(ctx, req.GetCode())
		return err
	})
	return &authv1.CheckPasswordResetResponse{ExpireTime: timestamp(expiresAt)}, err
}

// CompletePasswordReset implements the RPC.
func (s *AccountServer) CompletePasswordReset(ctx context.Context,
	req *authv1.CompletePasswordResetRequest) (*authv1.CompletePasswordResetResponse, error) {
	var removed account.Removed
	err := withMailedCode(ctx, s.attempts, func() (err error) {
		removed, err = s.accounts.CompleteReset(ctx, req.GetCode(), req.GetNewPassword())
		return err
	})
	return &authv1.CompletePasswordResetResponse{Removed: removedToProto(removed)}, err
}

// GetMe implements the RPC.
func (s *AccountServer) GetMe(ctx context.Context, _ *authv1.GetMeRequest) (*authv1.GetMeResponse, error) {
	u, err := s.accounts.ByID(ctx, authn.CallerFrom(ctx).UserID)
	if err != nil {
		return nil, err
	}
	return &authv1.GetMeResponse{User: &authv1.User{
		Id: u.ID.String(), Email: u.Email, DisplayName: u.DisplayName,
		Roles: u.Roles, CreateTime: timestamppb.New(u.CreatedAt), EmailVerified: !u.VerifiedAt.IsZero(),
		Profile: profileToProto(u.Profile),
	}}, nil
}

// UpdateProfile implements the RPC.
func (s *AccountServer) UpdateProfile(ctx context.Context,
	req *authv1.UpdateProfileRequest) (*authv1.UpdateProfileResponse, error) {
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	p, err := s.accounts.UpdateProfile(ctx, caller.UserID, profileFromProto(req.GetProfile()),
		req.GetUpdateMask().GetPaths())
	if err != nil {
		return nil, err
	}
	return &authv1.UpdateProfileResponse{Profile: profileToProto(p)}, nil
}

// ChangePassword implements the RPC.
func (s *AccountServer) ChangePassword(ctx context.Context,
	req *authv1.ChangePasswordRequest) (*authv1.ChangePasswordResponse, error) {
	caller, err := person(ctx)
	if err != nil {
		return nil, err
	}
	// Counted by user, because whoever stole a token may guess the password with it.
	giveBack, err := s.attempts.Take(ctx, clientAddress(ctx), "password:"+caller.UserID.String())
	if err != nil {
		return nil, err
	}
	err = s.accounts.ChangePassword(ctx, account.PasswordChange{
		User: caller.UserID, Session: caller.SessionID, Current: req.GetCurrentPassword(), New: req.GetNewPassword(),
		CheckRecent: func() error { _, err := recently(ctx); return err },
	})
	if e := errs.As(err); e == nil || e.Reason != "PASSWORD_WRONG" {
		giveBack()
	}
	return &authv1.ChangePasswordResponse{}, err
}

// DeleteMe implements the RPC.
func (s *AccountServer) DeleteMe(ctx context.Context, _ *authv1.DeleteMeRequest) (*authv1.DeleteMeResponse, error) {
	caller, err := recently(ctx)
	if err != nil {
		return nil, err
	}
	planned, err := s.accounts.Delete(ctx, caller.UserID)
	if err != nil {
		return nil, err
	}
	return &authv1.DeleteMeResponse{PlanTime: timestamp(planned)}, nil
}

// removedToProto returns nil when nothing was removed.
func removedToProto(r account.Removed) *authv1.RemovedSetup {
	if r == (account.Removed{}) {
		return nil
	}
	return &authv1.RemovedSetup{
		Password: r.Password, SecondFactor: r.SecondFactor, ApiKeys: bounded(r.APIKeys),
		Identities: bounded(r.Identities), Sessions: bounded(r.Sessions),
	}
}

// bounded returns a count as the contracts have it.
func bounded(n int) int32 { return int32(min(n, math.MaxInt32)) } //nolint:gosec // it fits

func profileFromProto(p *authv1.Profile) account.Profile {
	return account.Profile{
		DisplayName: p.GetDisplayName(), FirstName: p.GetFirstName(), LastName: p.GetLastName(), Bio: p.GetBio(),
		PictureURL: p.GetPictureUrl(),
	}
}

func profileToProto(p account.Profile) *authv1.Profile {
	return &authv1.Profile{
		DisplayName: p.DisplayName, FirstName: p.FirstName, LastName: p.LastName, Bio: p.Bio,
		PictureUrl: p.PictureURL,
	}
}
