package account

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

// Verification is a request to verify the address of the account that a code was mailed to.
type Verification struct {
	Code string
	// Password of the account; empty when whoever has the code doesn't know it.
	Password string
	// Charge counts a guess at the password of the account with this address, before it is checked, and returns what
	// undoes that.
	Charge func(email string) (refund func(), err error)
}

// Verify uses up a code, marks the address of its account as verified, and returns what was removed: see Prove. A
// refusal doesn't use up the code.
//
// errs.FailedPrecondition (CODE_INVALID); errs.PermissionDenied (PASSWORD_WRONG), also for an account that has no
// password; errs.Conflict (PASSWORD_CHANGED) when it was changed meanwhile; the error of Charge.
func (s *Service) Verify(ctx context.Context, v Verification) (Removed, error) {
	checked := ""
	if v.Password != "" {
		var err error
		if checked, err = s.checkVerification(ctx, v); err != nil {
			return Removed{}, err
		}
	}
	var removed Removed
	err := s.Store.ChangeByCode(ctx, VerifyEmail, hashOf(v.Code), Include{Credentials: true},
		func(state State, now time.Time) (Changes, error) {
			c, err := verify(state, now, checked)
			removed = c.Removed
			return c, err
		})
	if errs.Is(err, errs.KindNotFound) {
		err = s.refusedVerification(ctx, uuid.Nil, errCodeInvalid())
	}
	if err != nil {
		return Removed{}, err
	}
	return removed, nil
}

// checkVerification checks the password of the account that a code is of, and returns the hash that it matches.
func (s *Service) checkVerification(ctx context.Context, v Verification) (string, error) {
	id, email, hash, err := s.Store.Owner(ctx, VerifyEmail, hashOf(v.Code))
	if errs.Is(err, errs.KindNotFound) {
		return "", s.refusedVerification(ctx, uuid.Nil, errCodeInvalid())
	}
	if err != nil {
		return "", err
	}
	refund, err := v.Charge(email)
	if err != nil {
		return "", err
	}
	ok, err := s.Passwords.Matches(ctx, v.Password, hash)
	if err != nil {
		refund()
		return "", err
	}
	if !ok {
		return "", s.refusedVerification(ctx, id, errs.PermissionDenied("PASSWORD_WRONG",
			"the password is wrong; the code is still good: try again, or leave the password empty, "+
				"which removes what was set up before"))
	}
	refund()
	return hash, nil
}

func (s *Service) refusedVerification(ctx context.Context, user uuid.UUID, refusal *errs.Error) error {
	return s.refused(ctx, audit.Event{Type: audit.EmailVerified, Subject: user}, refusal)
}

// verify decides what a code that proves an address changes. checked is the hash that the password of whoever has the
// code matched, empty when they gave none.
func verify(s State, now time.Time, checked string) (Changes, error) {
	if err := provable(s); err != nil {
		return Changes{}, err
	}
	if checked != "" && checked != s.PasswordHash {
		return Changes{}, errPasswordChanged()
	}
	c := Prove(s, now, checked != "")
	c.Events = append(c.Events, audit.Event{Type: audit.EmailVerified, Subject: s.ID})
	return c, nil
}
