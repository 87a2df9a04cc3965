package admin

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/role"
)

// Invitation is an account to be made for somebody who has not set a password yet.
type Invitation struct {
	User       account.User
	Attributes map[string]string
	Changes    account.Changes // beside it: the code, the mail, the event
}

// CheckInvitation returns errs.Invalid with every mistake in the roles and attributes of an invitation.
func CheckInvitation(roles []string, attributes map[string]string) error {
	_, wrongRoles := knownRoles(roles)
	_, wrongAttributes := checkedAttributes(attributes)
	return errs.AllInvalid(wrongRoles, wrongAttributes)
}

// Invite makes an account for an address, with roles and attributes, and mails a code with which its owner accepts it.
// An open invitation is renewed. It returns when the code expires. errs.Invalid, errs.AlreadyExists (USER_EXISTS),
// errs.PermissionDenied (PERMISSION_NOT_HELD), errs.FailedPrecondition (ACCOUNT_DISABLED), errs.Exhausted
// (TOO_MANY_MAILS).
func (s *Service) Invite(ctx context.Context, actor uuid.UUID, email string, roles []string,
	attributes map[string]string) (Account, time.Time, error) {
	if err := CheckInvitation(roles, attributes); err != nil {
		return Account{}, time.Time{}, err
	}
	roles, _ = knownRoles(roles) // which has been checked
	attributes, _ = checkedAttributes(attributes)
	id, err := uuid.NewV7()
	if err != nil {
		return Account{}, time.Time{}, fmt.Errorf("new user id: %w", err)
	}
	text, code := account.NewCode(account.Invitation, account.InvitationTTL)
	m, err := s.texts.Mail(mail.AcceptInvitation, mail.Data{Token: text})
	if err != nil {
		return Account{}, time.Time{}, err
	}
	now := s.now().UTC()
	u := account.User{ID: id, Email: account.NormalEmail(email), Roles: roles, CreatedAt: now}
	invite := func(user account.User) account.Changes {
		m.User, m.To = user.ID, user.Email
		return account.Changes{NewCode: &code, Mails: []mail.Mail{m}, Events: []audit.Event{{Type: audit.Invited,
			Actor: actor, Subject: user.ID, Object: strings.Join(roles, " ")}}}
	}
	check := func(held authority.Held) error { return held.Require(role.Permissions(roles)...) }
	id, err = s.store.Invite(ctx, Invitation{User: u, Attributes: attributes, Changes: invite(u)}, check,
		mail.AcceptInvitation, func(state account.State, _ time.Time) (account.Changes, error) {
			if err := s.mayInviteAgain(state); err != nil {
				return account.Changes{}, err
			}
			c := invite(state.User)
			c.Roles, c.Attributes = &roles, attributes
			return c, nil
		})
	if err != nil {
		return Account{}, time.Time{}, err
	}
	a, err := s.store.Find(ctx, id)
	return a, now.Add(account.InvitationTTL), err
}

// mayInviteAgain refuses an account that is no open invitation, or may more than the caller.
func (s *Service) mayInviteAgain(state account.State) error {
	switch {
	case state.InvitedAt.IsZero() && state.VerifiedAt.IsZero():
		return errs.AlreadyExists("USER_EXISTS", "somebody has registered the address, and nobody has proven to own "+
			"it: roles would be theirs. Let its owner confirm it (ResendVerification), or delete the account "+
			"(DeletionService.DeleteUser) and invite again")
	case state.InvitedAt.IsZero():
		return errs.AlreadyExists("USER_EXISTS", "the address has an account; SetRoles and SetAttributes change it")
	case mayChange(state) != nil:
		return mayChange(state)
	case !state.DisabledAt.IsZero():
		return errs.FailedPrecondition("ACCOUNT_DISABLED", "the invitation was withdrawn; EnableUser comes first")
	case state.RecentMails >= s.policy.MailsPerHour:
		return tooManyMails()
	}
	return nil
}
