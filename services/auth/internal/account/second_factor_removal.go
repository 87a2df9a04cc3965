package account

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
)

// KeepSecondFactor is the purpose of the code with which an owner ends the removal of their second factor.
const KeepSecondFactor Purpose = "KEEP_SECOND_FACTOR"

// SecondFactor is the state of a confirmed second factor, which changes whenever somebody uses or replaces it. The
// zero one is none.
type SecondFactor struct {
	ConfirmedAt   time.Time
	LastStep      int64 // of the last code that was accepted
	RecoveryCodes int   // that are unused
}

// Same reports whether a factor is this one, not used since.
func (f SecondFactor) Same(other SecondFactor) bool {
	return f.ConfirmedAt.Equal(other.ConfirmedAt) && f.LastStep == other.LastStep &&
		f.RecoveryCodes == other.RecoveryCodes
}

// Removal is a pending removal of a second factor, for an owner who lost it.
type Removal struct {
	// By is the administrator or service account that requested it, and ByHolds the permissions that they have now.
	By      uuid.UUID
	ByHolds []string
	At, Due time.Time
	Factor  SecondFactor // as it was At
}

// KeepSecondFactor ends the pending removal of a user's second factor, by the user. No error when there is none.
func (s *Service) KeepSecondFactor(ctx context.Context, user uuid.UUID) error {
	return s.Store.Change(ctx, user, Include{Factor: true}, func(state State, _ time.Time) (Changes, error) {
		return EndRemoval(state, user, "KEPT"), nil
	})
}

// KeepSecondFactorByCode is KeepSecondFactor with the mailed code, which it uses up. errs.FailedPrecondition
// (CODE_INVALID).
func (s *Service) KeepSecondFactorByCode(ctx context.Context, code string) error {
	err := s.Store.ChangeByCode(ctx, KeepSecondFactor, hashOf(code), Include{Factor: true},
		func(state State, _ time.Time) (Changes, error) {
			return EndRemoval(state, uuid.Nil, "KEPT_BY_CODE"), nil
		})
	if errs.Is(err, errs.KindNotFound) {
		return s.refused(ctx, audit.Event{Type: audit.SecondFactorRemovalCanceled}, errCodeInvalid())
	}
	return err
}

// EndRemoval returns how a pending removal ends without the removal; nothing changes when none is pending. Its state
// needs Factor. actor may be zero, reason is an UPPER_SNAKE one.
func EndRemoval(s State, actor uuid.UUID, reason string) Changes {
	if s.Removal == nil {
		return Changes{}
	}
	return Changes{Removal: &Removal{}, EndCodes: []Purpose{KeepSecondFactor}, Events: []audit.Event{{
		Type: audit.SecondFactorRemovalCanceled, Reason: reason, Actor: actor, Subject: s.ID}}}
}
