package account

import (
	"context"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

// Invitation is the purpose of the code that accepts an invitation.
const Invitation Purpose = "INVITATION"

// InvitationTTL is how long an invitation can be accepted.
const InvitationTTL = 7 * 24 * time.Hour

// NewCode returns a code to mail, and what is stored of it.
func NewCode(p Purpose, ttl time.Duration) (string, Code) {
	text, hash := newCode()
	return text, Code{Purpose: p, Hash: hash, Lifetime: ttl}
}

// CheckInvitation returns errs.Invalid with every mistake in the acceptance of an invitation, but for a password that
// is known from a breach, or is the address.
func (s *Service) CheckInvitation(password, displayName string) error {
	p := Profile{DisplayName: displayName}
	return errs.AllInvalid(s.CheckPassword("password", password), p.normalize([]string{"display_name"}, ""))
}

// AcceptInvitation uses up the code of an invitation, and sets the password and the name of its account, whose address
// it verifies. errs.Invalid, errs.FailedPrecondition (CODE_INVALID).
func (s *Service) AcceptInvitation(ctx context.Context, code, password, displayName string) error {
	if err := s.CheckInvitation(password, displayName); err != nil {
		return err
	}
	if err := s.acceptable(ctx, "password", password); err != nil {
		return err
	}
	refused := func(err error) error {
		if errs.Is(err, errs.KindNotFound) {
			return s.refused(ctx, audit.Event{Type: audit.InvitationAccepted}, errCodeInvalid())
		}
		return err
	}
	// Checked before hashing, which a made-up code is not worth.
	if _, err := s.Store.CodeExpiry(ctx, Invitation, hashOf(code)); err != nil {
		return refused(err)
	}
	hash, err := s.Passwords.Hash(ctx, password)
	if err != nil {
		return err
	}
	return refused(s.Store.ChangeByCode(ctx, Invitation, hashOf(code), Include{Credentials: true},
		func(state State, now time.Time) (Changes, error) {
			if strings.EqualFold(password, state.Email) {
				return Changes{}, errs.Invalid("password", "must not be the e-mail address")
			}
			return accept(state, now, hash, strings.TrimSpace(displayName))
		}))
}

// accept decides about the acceptance of an invitation. errs.NotFound when it was withdrawn. The event of it is
// recorded with whatever verifies the address of an invited account.
func accept(s State, now time.Time, hash, displayName string) (Changes, error) {
	if s.InvitedAt.IsZero() {
		return Changes{}, errs.NotFound("invitation")
	}
	if err := provable(s); err != nil {
		return Changes{}, err
	}
	p := s.Profile
	p.DisplayName = displayName
	c := Prove(s, now, false)
	c.Profile, c.PasswordHash = &p, &hash
	return c, nil
}
