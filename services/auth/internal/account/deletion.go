package account

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// Delete deletes an account with everything personal; an account that is deleted already is no error. With
// Policy.DeletionGrace it is disabled instead, unless nobody has proven its address, and planned is when it will be
// deleted; zero when it is. errs.FailedPrecondition (LAST_ADMIN).
func (s *Service) Delete(ctx context.Context, user uuid.UUID) (planned time.Time, err error) {
	farewell, err := s.Texts.Mail(mail.AccountDeleted, mail.Data{At: s.Now()})
	if err != nil {
		return time.Time{}, err
	}
	if s.policy.DeletionGrace > 0 {
		return s.planDeletion(ctx, user, farewell)
	}
	err = s.Store.Change(ctx, user, Include{Admins: true}, func(state State, _ time.Time) (Changes, error) {
		return Deleted(state, user, farewell)
	})
	if errs.Is(err, errs.KindNotFound) {
		err = nil
	}
	return time.Time{}, err
}

// Deleted decides about the deletion of an account by actor, zero for the time that its owner planned it for. s needs
// its Admins.
func Deleted(s State, actor uuid.UUID, farewell mail.Mail) (Changes, error) {
	if err := s.Admins.CheckLastAdmin(); err != nil {
		return Changes{}, err
	}
	c := Changes{
		Delete: true, EndSessions: &SessionEnd{Reason: "ACCOUNT_DELETED"}, RevokeTokens: true,
		Events: []audit.Event{{Type: audit.AccountDeleted, Actor: actor, Subject: s.ID}},
	}
	// An address that was never verified may be a stranger's, whom somebody could flood by creating and deleting
	// accounts.
	if s.Proven() {
		farewell.To = s.Email // without a User: a user's mails are deleted with them
		c.Mails = []mail.Mail{farewell}
	}
	return c, nil
}

// planDeletion puts a deletion off. An account whose address nobody has proven is deleted at once: it would keep the
// address from its owner, who can neither sign in nor reset anything meanwhile, and has no mail to cancel with.
func (s *Service) planDeletion(ctx context.Context, user uuid.UUID, farewell mail.Mail) (planned time.Time,
	err error) {
	grace := s.policy.DeletionGrace
	code, hash := newCode()
	notice, err := s.Texts.Mail(mail.CancelDeletion, mail.Data{Token: code, At: s.Now().Add(grace)})
	if err != nil {
		return planned, err
	}
	stored := Code{Purpose: CancelDeletion, Hash: hash, Lifetime: grace}
	err = s.Store.Change(ctx, user, Include{Admins: true, Credentials: true},
		func(state State, now time.Time) (Changes, error) {
			if !state.DeleteAt.IsZero() {
				planned = state.DeleteAt
				return Changes{}, nil
			}
			planned = time.Time{}
			if state.Email != "" && !state.Proven() {
				return Deleted(state, user, farewell)
			}
			planned = now.Add(grace)
			return deletionPlanned(state, now, planned, stored, notice)
		})
	if errs.Is(err, errs.KindNotFound) {
		err = nil
	}
	return planned, err
}

// deletionPlanned decides about the request of an owner to delete their account some time later. Nothing that can sign
// in to it is left, and the address stays taken. s needs its Admins and Credentials.
func deletionPlanned(s State, now, at time.Time, code Code, notice mail.Mail) (Changes, error) {
	if err := s.Admins.CheckLastAdmin(); err != nil {
		return Changes{}, err
	}
	c := Changes{
		DeleteAt: &at, DisabledAt: &now, EndSessions: &SessionEnd{Reason: "ACCOUNT_DELETED"}, RevokeTokens: true,
		RevokeAPIKeys: IDs(s.APIKeys), EndCodes: []Purpose{ResetPassword, ChangeEmail},
		Events: []audit.Event{{Type: audit.DeletionPlanned, Actor: s.ID, Subject: s.ID}},
	}
	if s.Proven() { // as for the mail of Deleted
		c.NewCode, c.Mails = &code, []mail.Mail{s.addressed(notice)}
	}
	return c, nil
}

// CancelDeletion uses up the code of the mail about a planned deletion, and keeps the account.
// errs.FailedPrecondition (CODE_INVALID).
func (s *Service) CancelDeletion(ctx context.Context, code string) error {
	err := s.Store.ChangeByCode(ctx, CancelDeletion, hashOf(code), Include{},
		func(state State, _ time.Time) (Changes, error) {
			if state.DeleteAt.IsZero() {
				return Changes{}, errs.NotFound("code")
			}
			return DeletionCancelled(state, state.ID), nil
		})
	if errs.Is(err, errs.KindNotFound) {
		return s.refused(ctx, audit.Event{Type: audit.DeletionCancelled}, errs.FailedPrecondition("CODE_INVALID",
			"the code is wrong, used, expired or for another purpose; ask an administrator of this deployment"))
	}
	return err
}

// DeletionCancelled decides to keep an account whose deletion is planned.
func DeletionCancelled(s State, actor uuid.UUID) Changes {
	return Changes{
		DeleteAt: new(time.Time), DisabledAt: new(time.Time), EndCodes: []Purpose{CancelDeletion},
		Events: []audit.Event{{Type: audit.DeletionCancelled, Actor: actor, Subject: s.ID}},
	}
}
