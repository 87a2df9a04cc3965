package rpc

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/device"
	"github.com/purserhq/purser/services/auth/internal/session"
	"github.com/purserhq/purser/services/auth/internal/totp"
)

// Login implements the RPC.
func (s *SessionServer) Login(ctx context.Context, req *authv1.LoginRequest) (*authv1.LoginResponse, error) {
	t, since, err := s.login(s.sessions.WithDevice(ctx, req.GetDeviceToken()), req)
	if err != nil {
		s.floor.wait(ctx, since, err)
		return nil, err
	}
	return &authv1.LoginResponse{Tokens: tokensToProto(t), DeviceToken: t.Device}, nil
}

// login counts an attempt, by what is known of who makes it:
//
//   - from a device that has signed in to the account before, in a count of that device;
//   - from anybody else by their address and the account. Where these have none left, a right password is accepted
//     from an address that has signed in to the account before, and with a right recovery code. Whoever guesses wrong
//     there is answered what, and when, everybody is: or the answer would reveal whose account it is.
//
// The floor of a refusal begins at since.
func (s *SessionServer) login(ctx context.Context, req *authv1.LoginRequest) (t session.Tokens, since time.Time,
	err error) {
	since = time.Now()
	try := func(giveBack func()) error {
		t, err = s.sessions.Login(ctx, req.GetEmail(), req.GetPassword(), req.GetSecondFactorCode())
		return counted(giveBack, err)
	}
	if giveBack := s.deviceAttempt(ctx, req.GetEmail()); giveBack != nil {
		err = try(giveBack)
		return t, since, err
	}
	// The prefix keeps whatever is typed as an address from being the name of another count.
	address, name := clientAddress(ctx), "login:"+account.NormalEmail(req.GetEmail())
	if giveBack, limited := s.attempts.TryTake(ctx, address, name); limited == nil {
		err = try(giveBack)
		return t, since, err
	}
	var guess error
	if giveBack := s.knownAttempt(ctx, req); giveBack != nil {
		if guess = try(giveBack); !wrongGuess(guess) {
			return t, since, guess
		}
	}
	giveBack, err := s.attempts.Take(ctx, address, name)
	if err != nil {
		return session.Tokens{}, since, err
	}
	since = time.Now()
	if guess == nil {
		guess = try(giveBack)
	}
	return t, since, guess
}

// counted gives an attempt back unless err is that of a wrong guess, and returns err.
func counted(giveBack func(), err error) error {
	if !wrongGuess(err) {
		giveBack()
	}
	return err
}

// deviceAttempt charges an attempt to the device of ctx; nil when it is none of the account with this address, or has
// no attempts left. Charging comes first: so a token of another account causes a few queries a minute.
func (s *SessionServer) deviceAttempt(ctx context.Context, email string) (giveBack func()) {
	d := device.From(ctx)
	if d == (device.Device{}) {
		return nil
	}
	giveBack, err := s.attempts.TakeOwn(ctx, "device", d.ID.String())
	if err != nil {
		return nil
	}
	if known, err := s.sessions.KnowsDevice(ctx, email, d); err != nil || !known {
		return nil
	}
	return giveBack
}

// knownAttempt lets an attempt through although the limit of its account or address is reached: one with a right
// recovery code, and a few from an address that has signed in to the account before. nil for others.
func (s *SessionServer) knownAttempt(ctx context.Context, req *authv1.LoginRequest) (giveBack func()) {
	email := account.NormalEmail(req.GetEmail())
	if code := req.GetSecondFactorCode(); totp.IsRecoveryCode(code) {
		if user, err := s.sessions.UserOf(ctx, email); err == nil {
			if giveBack := s.recoveryAttempt(ctx, user, code); giveBack != nil {
				return giveBack
			}
		}
	}
	giveBack, err := s.attempts.TakeOwn(ctx, "known", clientAddress(ctx)+" "+email)
	if err != nil {
		return nil
	}
	if known, err := s.sessions.KnowsAddress(ctx, email, clientAddress(ctx)); err != nil || !known {
		return nil
	}
	return giveBack
}

// recoveryAttempt charges an attempt to a count that only who has an unused recovery code of the user can use up; nil
// for any other code. The code can't be guessed (80 bits), but whoever found it could try passwords with it.
func (s *SessionServer) recoveryAttempt(ctx context.Context, user uuid.UUID, code string) (giveBack func()) {
	if !totp.IsRecoveryCode(code) {
		return nil
	}
	if known, err := s.secondFactors.KnowsRecoveryCode(ctx, user, code); err != nil || !known {
		return nil
	}
	giveBack, err := s.attempts.TakeOwn(ctx, "recovery", user.String())
	if err != nil {
		return nil
	}
	return giveBack
}

// wrongGuess reports whether a sign-in failed for a wrong secret. A missing second factor is none.
func wrongGuess(err error) bool {
	return errs.Is(err, errs.KindUnauthenticated) && errs.As(err).Reason != "TOTP_REQUIRED"
}
