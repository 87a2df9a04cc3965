package admin

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// RemoveSecondFactor lets the second factor of an account be removed after Policy.RemovalDelay, unless its owner, who
// gets a mail, keeps it. It returns when; a removal that is pending already stays as it is. errs.NotFound,
// errs.PermissionDenied (PERMISSION_NOT_HELD), errs.FailedPrecondition (OWN_ACCOUNT, TOTP_NOT_ENROLLED,
// EMAIL_NOT_VERIFIED), errs.Exhausted (TOO_MANY_MAILS).
func (s *Service) RemoveSecondFactor(ctx context.Context, actor, user uuid.UUID) (due time.Time, err error) {
	include := account.Include{Roles: true, Factor: true, RecentMails: []mail.Kind{mail.KeepSecondFactor}}
	// An owner who reads the mail late is told that the code is too old, not that it never existed.
	text, code := account.NewCode(account.KeepSecondFactor, s.policy.RemovalDelay+time.Hour)
	err = s.store.Change(ctx, user, include, func(state account.State, now time.Time) (account.Changes, error) {
		r, pending, err := s.removal(state, actor, now)
		due = r.Due
		if err != nil || pending {
			return account.Changes{}, err
		}
		m, err := s.texts.Mail(mail.KeepSecondFactor, mail.Data{Token: text, At: due})
		if err != nil {
			return account.Changes{}, err
		}
		m.User, m.To = state.ID, state.Email
		e := audit.Event{Type: audit.SecondFactorRemovalRequested, Actor: actor, Subject: user}
		return account.Changes{Removal: &r, NewCode: &code, Mails: []mail.Mail{m}, Events: []audit.Event{e}}, nil
	})
	return due, err
}

// removal returns the removal to make of an account's second factor, or the one that is pending.
func (s *Service) removal(state account.State, actor uuid.UUID, now time.Time) (r account.Removal, pending bool,
	err error) {
	switch {
	case actor == state.ID:
		return r, false, errs.FailedPrecondition("OWN_ACCOUNT", "nobody can remove their own second factor this way; "+
			"SessionService.DisableTotp does it with a code")
	case mayChange(state) != nil:
		return r, false, mayChange(state)
	case state.Factor.ConfirmedAt.IsZero():
		return r, false, errs.FailedPrecondition("TOTP_NOT_ENROLLED", "the account has no second factor")
	case state.Removal != nil && state.Removal.Factor.Same(state.Factor):
		return *state.Removal, true, nil
	case !state.Proven():
		return r, false, errs.FailedPrecondition("EMAIL_NOT_VERIFIED", "the account has no verified e-mail address "+
			"at which its owner could be warned")
	case state.RecentMails >= s.policy.MailsPerHour:
		return r, false, tooManyMails()
	}
	return account.Removal{By: actor, At: now, Due: now.Add(s.policy.RemovalDelay), Factor: state.Factor}, false,
		nil
}

func tooManyMails() error {
	return errs.Exhausted("TOO_MANY_MAILS", "the account got too many mails of this kind within an hour; try again "+
		"later")
}

// CancelRemoval ends a pending removal of a second factor. No error when there is none. errs.NotFound,
// errs.PermissionDenied (PERMISSION_NOT_HELD).
func (s *Service) CancelRemoval(ctx context.Context, actor, user uuid.UUID) error {
	return s.store.Change(ctx, user, account.Include{Roles: true, Factor: true},
		func(state account.State, _ time.Time) (account.Changes, error) {
			return account.EndRemoval(state, actor, "ADMIN"), mayChange(state)
		})
}

// removalsPerRun bounds what RemoveDue does in one call; the next one goes on.
const removalsPerRun = 1000

// RemoveDue removes the second factors whose removal is due, and ends the sessions of their accounts. A job calls it.
func (s *Service) RemoveDue(ctx context.Context) error {
	users, err := s.store.DueRemovals(ctx, removalsPerRun)
	if err != nil {
		return err
	}
	var failures []error
	for _, user := range users {
		err := s.store.Change(ctx, user, account.Include{Roles: true, Factor: true},
			func(state account.State, now time.Time) (account.Changes, error) { return removeDue(state, now), nil })
		if err != nil && !errs.Is(err, errs.KindNotFound) { // deleted meanwhile
			failures = append(failures, err)
		}
	}
	return errors.Join(failures...)
}

// removeDue decides about a removal that may be due. A factor that was used or replaced since the request is not lost;
// and nobody finishes what they may not begin any more. Its state needs Roles and SecondFactor.
func removeDue(s account.State, now time.Time) account.Changes {
	switch {
	case s.Removal == nil || now.Before(s.Removal.Due):
		return account.Changes{}
	case !s.Removal.Factor.Same(s.Factor):
		return account.EndRemoval(s, uuid.Nil, "SECOND_FACTOR_USED")
	case authority.Held{Permissions: s.Removal.ByHolds}.Require(append(role.Permissions(s.Roles),
		role.ManageUsers)...) != nil:
		return account.EndRemoval(s, uuid.Nil, "ADMIN_LOST_PERMISSION")
	}
	return account.Changes{
		RemoveSecondFactor: true, EndCodes: []account.Purpose{account.KeepSecondFactor},
		EndSessions: &account.SessionEnd{Reason: "SECOND_FACTOR_REMOVED"}, RevokeTokens: true,
		Events: []audit.Event{{Type: audit.SecondFactorDisabled, Reason: "REMOVED_BY_ADMIN", Actor: s.Removal.By,
			Subject: s.ID}},
	}
}
