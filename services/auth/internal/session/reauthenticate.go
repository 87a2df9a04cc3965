package session

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
)

// Reauthenticate authenticates the user of a session once more (step-up, RFC 9470) and returns an access token with
// the new time; the refresh token stays as it is.
//
// An account with a second factor needs a code of it, and the password only when one is given; any other account needs
// its password. errs.Invalid on password when it is missing; errs.Unauthenticated: INVALID_CREDENTIALS,
// SESSION_REVOKED, ACCOUNT_DISABLED, or as SecondFactor.
func (s *Service) Reauthenticate(ctx context.Context, user, session uuid.UUID, password, code string) (Tokens, error) {
	proven, err := s.prove(ctx, user, password, code)
	if err != nil {
		return Tokens{}, s.refused(ctx, audit.Reauthenticated, user, err)
	}
	var tokens Tokens
	ended := errs.Unauthenticated("SESSION_REVOKED", "the session has ended: sign in again")
	err = s.Store.ChangeOwn(ctx, user, session,
		func(f Family, access account.AccessState, now time.Time) (Family, audit.Event, error) {
			switch {
			case access.Disabled:
				return f, audit.Event{}, authority.ErrDisabled()
			case f.RevokedAt != nil || !now.Before(f.ExpiresAt):
				return f, audit.Event{}, ended
			}
			f.Methods = slices.Clone(f.Methods)
			for _, m := range proven {
				if !slices.Contains(f.Methods, m) {
					f.Methods = append(f.Methods, m)
				}
			}
			f.AuthTime = now
			var err error
			tokens, err = s.tokens(f, "", access)
			return f, audit.Event{Type: audit.Reauthenticated, Actor: user, Subject: user, Object: session.String()},
				err
		})
	if errs.Is(err, errs.KindNotFound) {
		err = ended
	}
	if err != nil {
		return Tokens{}, err
	}
	return tokens, nil
}

// prove checks the password, unless it is empty, and the code, and returns the methods that they prove (RFC 8176).
func (s *Service) prove(ctx context.Context, user uuid.UUID, password, code string) ([]string, error) {
	var proven []string
	if password != "" {
		hash, err := s.Store.PasswordHash(ctx, user)
		if err != nil {
			return nil, err
		}
		ok, err := s.Passwords.Matches(ctx, password, hash)
		if err != nil {
			return nil, err
		}
		if !ok {
			return nil, errs.Unauthenticated("INVALID_CREDENTIALS", "the password is wrong")
		}
		proven = append(proven, "pwd")
	}
	if s.SecondFactor != nil {
		more, err := s.SecondFactor.Check(ctx, user, code)
		if err != nil {
			return nil, err
		}
		proven = append(proven, more...)
	}
	if len(proven) == 0 {
		return nil, errs.Invalid("password", "is required, because the account has no second factor; an account "+
			"without a password signs in again")
	}
	return proven, nil
}
