package session

import (
	"context"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

// Refresh exchanges a token for its successor. errs.Unauthenticated with
// reason REFRESH_TOKEN_INVALID, REFRESH_TOKEN_EXPIRED, REFRESH_TOKEN_REUSED or
// SESSION_REVOKED.
func (s *Service) Refresh(ctx context.Context, token Token) (Tokens, error) {
	var (
		tokens  Tokens
		refusal error
	)
	err := s.store.Change(ctx, token.Hash(), func(f Family, roles []string) (Family, error) {
		// Assigned afresh at every run: the transaction may be repeated.
		var next Token
		var err error
		f, next, refusal, err = s.rotate(f, token)
		if err != nil || refusal != nil {
			return f, err
		}
		// Sign before storing: a token is not used up by a call that can't be
		// answered, or a signer that is away for longer than the recovery would
		// end sessions.
		tokens, err = s.tokens(f, next, roles)
		return f, err
	})
	switch {
	case errs.Is(err, errs.KindNotFound):
		return Tokens{}, errs.Unauthenticated("REFRESH_TOKEN_INVALID", "the refresh token is not one of ours")
	case err != nil:
		return Tokens{}, err
	case refusal != nil:
		return Tokens{}, refusal
	}
	return tokens, nil
}

// rotate decides what presenting a token does to its family. A refusal is an
// outcome that is stored (a revocation), not a failure of the transaction.
func (s *Service) rotate(f Family, token Token) (_ Family, next Token, refusal, err error) {
	now, hash := s.now().UTC(), token.Hash()
	switch {
	case f.RevokedAt != nil:
		return f, "", errs.Unauthenticated("SESSION_REVOKED", "the session has ended"), nil
	case !now.Before(f.ExpiresAt):
		return f, "", errs.Unauthenticated("REFRESH_TOKEN_EXPIRED", "the session has expired"), nil
	case hash == f.Current && !now.Before(f.CurrentExpiresAt):
		return f, "", errs.Unauthenticated("REFRESH_TOKEN_EXPIRED", "the refresh token has expired"), nil
	case hash == f.Current:
		next = NewToken()
		sealed, err := token.seal(next)
		if err != nil {
			return f, "", nil, err
		}
		f.Previous, f.Current, f.SealedSuccessor = &hash, next.Hash(), sealed
		f.RotatedAt, f.CurrentExpiresAt = now, earlier(now.Add(s.policy.Refresh), f.ExpiresAt)
		return f, next, nil, nil
	case f.Previous != nil && hash == *f.Previous && now.Before(f.RotatedAt.Add(s.policy.Recovery)):
		// The successor is unused, or this would not be the previous token.
		next, err = token.open(f.SealedSuccessor)
		return f, next, nil, err
	default:
		f.RevokedAt, f.RevokeReason, f.SealedSuccessor = &now, "REFRESH_TOKEN_REUSED", nil
		return f, "", errs.Unauthenticated("REFRESH_TOKEN_REUSED", "the refresh token was used before; the session has ended"), nil
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
