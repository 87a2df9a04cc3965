package session

import (
	"context"
	"slices"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
)

// maxSharedRefreshes bounds the refreshes of a session within sharedUseWindow, since each of their tokens stays
// usable.
const maxSharedRefreshes = 32

// Refresh exchanges a token for its successor. errs.Unauthenticated with
// reason REFRESH_TOKEN_INVALID, REFRESH_TOKEN_EXPIRED, REFRESH_TOKEN_REUSED or
// SESSION_REVOKED. errs.Exhausted (REFRESHED_TOO_OFTEN) past 32 times in ten
// seconds.
func (s *Service) Refresh(ctx context.Context, token Token) (Tokens, error) {
	var (
		tokens  Tokens
		refusal error
	)
	change := func(f Family, access account.AccessState, now time.Time) (Family, audit.Event, error) {
		// Assigned at every run, because the transaction may be repeated.
		var (
			next Token
			e    audit.Event
			err  error
		)
		if access.Disabled {
			refusal = authority.ErrDisabled()
			return f, e, nil
		}
		f, next, e, refusal, err = s.rotate(f, token, now)
		if err != nil || refusal != nil {
			return f, e, err
		}
		// Signed before storing: otherwise calls that can't be answered would use tokens up, and a signer that is
		// unavailable for longer than the recovery would end sessions.
		f.LastUsedAt, f.Client = now, audit.ClientFrom(ctx)
		tokens, err = s.tokens(f, next, access)
		return f, e, err
	}
	err := s.Store.Change(ctx, token.Hash(), change)
	switch {
	case errs.Is(err, errs.KindNotFound):
		return Tokens{}, errs.Unauthenticated("REFRESH_TOKEN_INVALID", "the refresh token is unknown: it is cut, "+
			"of another deployment, or no refresh token; sign in again")
	case err != nil:
		return Tokens{}, err
	case refusal != nil:
		return Tokens{}, refusal
	}
	return tokens, nil
}

// rotate decides what presenting a token does to its family. A refusal is not a failure of the transaction: it
// may revoke the family, which is stored.
func (s *Service) rotate(f Family, token Token, now time.Time) (_ Family, next Token, e audit.Event, refusal,
	err error) {
	hash := token.Hash()
	switch {
	case f.RevokedAt != nil:
		return f, "", e, errs.Unauthenticated("SESSION_REVOKED", "the session has ended: sign in again"), nil
	case !now.Before(f.ExpiresAt):
		return f, "", e, errs.Unauthenticated("REFRESH_TOKEN_EXPIRED", "the session has expired: sign in again"), nil
	case hash == f.Current && !now.Before(f.CurrentExpiresAt):
		return f, "", e, errs.Unauthenticated("REFRESH_TOKEN_EXPIRED", "the refresh token has expired: sign in "+
			"again"), nil
	case hash == f.Current && len(f.shareable(now)) >= maxSharedRefreshes:
		return f, "", e, errs.Exhausted("REFRESHED_TOO_OFTEN", "the session is refreshed too often; use its "+
				"access token until it expires").After(sharedUseWindow),
			nil
	case hash == f.Current:
		next = NewToken()
		sealed, err := token.seal(next)
		if err != nil {
			return f, "", e, nil, err
		}
		f.Used = append(f.shareable(now), Used{hash, now, sealed})
		f.Current, f.CurrentExpiresAt = next.Hash(), earlier(now.Add(s.policy.Refresh), f.ExpiresAt)
		return f, next, e, nil, nil
	}
	e = audit.Event{Type: audit.RefreshRecovered, Subject: f.UserID, Object: f.ID.String()}
	if next, ok := s.successor(f, token, now); ok {
		return f, next, e, nil, nil
	}
	f.RevokedAt, f.RevokeReason, f.Used = &now, "REFRESH_TOKEN_REUSED", nil
	e.Type, e.Outcome, e.Reason = audit.RefreshReused, audit.Refused, f.RevokeReason
	return f, "", e, errs.Unauthenticated("REFRESH_TOKEN_REUSED",
		"the refresh token was used before; the session has ended"), nil
}

// shareable returns the used tokens that callers who share them may still present, within sharedUseWindow of their
// use.
func (f Family) shareable(now time.Time) []Used {
	return slices.DeleteFunc(slices.Clone(f.Used), func(u Used) bool { return !now.Before(u.At.Add(sharedUseWindow)) })
}

// successor returns the current token to a caller that presents a used one: the last one that was used, within the
// recovery, or any other within sharedUseWindow of its use. The successors lead to the current token one by one.
func (s *Service) successor(f Family, token Token, now time.Time) (Token, bool) {
	next := token
	for {
		i := slices.IndexFunc(f.Used, func(u Used) bool { return u.Hash == next.Hash() })
		if i < 0 {
			return next, next != token && next.Hash() == f.Current
		}
		if next == token {
			limit := sharedUseWindow
			if i == len(f.Used)-1 {
				limit = max(limit, s.policy.Recovery)
			}
			if !now.Before(f.Used[i].At.Add(limit)) {
				return "", false
			}
		}
		opened, err := next.open(f.Used[i].Successor)
		if err != nil {
			return "", false
		}
		next = opened
	}
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
