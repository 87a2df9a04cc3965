package account

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// emailChange is a request for another address, with every mail that it may cause.
type emailChange struct {
	code Code
	// coded goes to the new address with the code; tried goes there instead when an account has the address; notice
	// goes to the present one.
	coded, tried, notice mail.Mail
	maxPerHour           int // mails of a kind to one account, and mails to one mailbox
}

// RequestEmailChange mails a code to a new address of a user, and a notice to the present one. Whether an account has
// the new address changes neither the result nor what the user can see afterwards. errs.Invalid on new_email for the
// present address.
func (s *Service) RequestEmailChange(ctx context.Context, user uuid.UUID, newEmail string) error {
	newEmail = NormalEmail(newEmail)
	r, err := s.newEmailChange(ctx, newEmail)
	if err != nil {
		return err
	}
	return s.Store.Change(ctx, user, Include{
		RecentMails: []mail.Kind{r.coded.Kind, r.tried.Kind, r.notice.Kind}, Mailbox: newEmail,
	}, r.decide)
}

func (s *Service) newEmailChange(ctx context.Context, newEmail string) (r emailChange, err error) {
	code, hash := newCode()
	r = emailChange{maxPerHour: s.policy.MailsPerHour, code: Code{
		Purpose: ChangeEmail, Hash: hash, Lifetime: ChangeEmail.lifetime(), NewEmail: newEmail,
	}}
	for _, of := range []struct {
		into *mail.Mail
		kind mail.Kind
		data mail.Data
	}{
		{&r.coded, mail.ChangeEmail, mail.Data{Token: code}}, {&r.tried, mail.EmailChangeTried, mail.Data{}},
		{&r.notice, mail.EmailChangeRequested, mail.Data{At: s.Now(), From: audit.ClientFrom(ctx).IPAddress}},
	} {
		if *of.into, err = s.Texts.Mail(of.kind, of.data); err != nil {
			return r, err
		}
	}
	return r, nil
}

// decide says who is mailed what. An earlier code ends in any case, or its end would tell whether the new address is
// taken.
func (r emailChange) decide(s State, _ time.Time) (Changes, error) {
	if s.Email == r.code.NewEmail {
		return Changes{}, errs.Invalid("new_email", "must not be the account's present address; ResendVerification "+
			"mails a code that verifies that")
	}
	e := audit.Event{Type: audit.EmailChangeRequested, Actor: s.ID, Subject: s.ID}
	c := Changes{EndCodes: []Purpose{ChangeEmail}}
	if s.RecentMails < r.maxPerHour && s.Proven() {
		c.Mails = append(c.Mails, s.addressed(r.notice))
	}
	toNew := func(m mail.Mail) mail.Mail {
		m.User, m.To, m.PerMailbox = s.ID, r.code.NewEmail, true
		return m
	}
	switch {
	case s.RecentMails >= r.maxPerHour, s.Mailbox.RecentMails >= r.maxPerHour:
		e.Outcome, e.Reason = audit.Refused, "TOO_MANY_MAILS"
	case s.Mailbox.Taken:
		e.Outcome, e.Reason = audit.Refused, "EMAIL_TAKEN"
		c.Mails = append(c.Mails, toNew(r.tried))
	default:
		c.NewCode = &r.code
		c.Mails = append(c.Mails, toNew(r.coded))
	}
	c.Events = []audit.Event{e}
	return c, nil
}

// ConfirmEmailChange uses up a code that was mailed to a new address of a user, makes it the address of the account
// and returns it. session is the one that the user is signed in with, which goes on. Only the account that asked for
// the change can confirm it: else whoever follows a mail that they did not ask for would give their address to
// another's account.
//
// errs.FailedPrecondition (CODE_INVALID); errs.AlreadyExists (EMAIL_TAKEN) when another account has got the address
// meanwhile, and nothing is changed.
func (s *Service) ConfirmEmailChange(ctx context.Context, user, session uuid.UUID, code string) (string, error) {
	var email string
	err := s.Store.ChangeByCode(ctx, ChangeEmail, hashOf(code), Include{Factor: true},
		func(state State, now time.Time) (Changes, error) {
			if state.ID != user {
				return Changes{}, errs.NotFound("code")
			}
			email = state.NewEmail
			return confirmEmailChange(state, now, session), nil
		})
	e := audit.Event{Type: audit.EmailChanged, Actor: user, Subject: user}
	switch {
	case errs.Is(err, errs.KindNotFound):
		return "", s.refused(ctx, e, errCodeInvalid())
	case errs.Is(err, errs.KindAlreadyExists):
		return "", s.refused(ctx, e, errs.As(err))
	case err != nil:
		return "", err
	}
	return email, nil
}

// confirmEmailChange decides what a code for a new address changes. Whoever has it is signed in to the account and
// owns the address, so nothing is removed that was set up before. The other sessions end as after a change of the
// password: who recovers the account is another from now on, and people change their address when they fear for the
// old mailbox. A pending removal of the second factor ends as well: the owner was warned at the old address, and
// whoever reads the new one has seen no warning.
func confirmEmailChange(s State, now time.Time, session uuid.UUID) Changes {
	e := audit.Event{Type: audit.EmailChanged, Actor: s.ID, Subject: s.ID}
	if s.Proven() {
		e.Notice.Also = s.Email
	}
	c := EndRemoval(s, s.ID, "EMAIL_CHANGED")
	c.Email, c.VerifiedAt = s.NewEmail, now
	c.EndCodes = append(c.EndCodes, VerifyEmail, ResetPassword, ChangeEmail)
	c.EndSessions = &SessionEnd{Reason: "EMAIL_CHANGED", Except: session}
	c.Events = append(c.Events, e)
	return c
}

// Proven reports whether somebody has proven to own the account's address: any other may be a stranger's, who is not
// to be mailed to.
func (s State) Proven() bool { return s.Email != "" && !s.VerifiedAt.IsZero() }
