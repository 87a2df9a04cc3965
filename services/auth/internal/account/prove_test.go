package account

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// setUp is an account that was set up in every way before its address was proven.
func setUp() State {
	s := verified(time.Time{})
	s.Identities = []Credential{{uuid.New(), noon()}, {uuid.New(), noon()}}
	s.APIKeys = []Credential{{uuid.New(), noon()}}
	s.SecondFactor, s.Sessions = true, 3
	return s
}

func TestAProofOfAnAddressRemovesWhatWasSetUpBeforeUnlessThePasswordIsKnown(t *testing.T) {
	bare := State{User: User{ID: uuid.New(), Email: "ada@example.com"}}
	withKey := bare
	withKey.APIKeys = []Credential{{uuid.New(), noon()}}
	proven := setUp()
	proven.VerifiedAt = noon().Add(-time.Hour)
	reclaimed := []string{"account.reclaimed EMAIL_UNVERIFIED"}
	for name, tc := range map[string]struct {
		state        State
		withPassword bool
		verifies     bool
		removed      Removed
		events       []string
		codes        []Purpose
	}{
		"without the password": {setUp(), false, true, Removed{true, true, 1, 2, 3}, reclaimed,
			[]Purpose{VerifyEmail, ChangeEmail}},
		"with the password": {setUp(), true, true, Removed{}, nil, []Purpose{VerifyEmail}},
		"only a password": {verified(time.Time{}), false, true, Removed{Password: true}, reclaimed,
			[]Purpose{VerifyEmail, ChangeEmail}},
		"no password, and a key": {withKey, false, true, Removed{APIKeys: 1}, reclaimed,
			[]Purpose{VerifyEmail, ChangeEmail}},
		"nobody has set it up":    {bare, false, true, Removed{}, nil, []Purpose{VerifyEmail, ChangeEmail}},
		"it was proven before":    {proven, false, false, Removed{}, nil, nil},
		"proven, with a password": {proven, true, false, Removed{}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			c := Prove(tc.state, noon(), tc.withPassword)
			if c.VerifiedAt.IsZero() == tc.verifies || c.Removed != tc.removed ||
				!slices.Equal(events(c), tc.events) ||
				!slices.Equal(c.EndCodes, tc.codes) {
				t.Fatalf("changes %+v", c)
			}
			if tc.removed == (Removed{}) {
				if c.PasswordHash != nil || c.RemoveSecondFactor || c.EndSessions != nil ||
					c.UnlinkIdentities != nil ||
					c.RevokeAPIKeys != nil {
					t.Errorf("changes %+v", c)
				}
				return
			}
			if *c.PasswordHash != "" || !c.RemoveSecondFactor ||
				*c.EndSessions != (SessionEnd{Reason: "ACCOUNT_RECLAIMED"}) ||
				!slices.Equal(c.UnlinkIdentities, IDs(tc.state.Identities)) ||
				!slices.Equal(c.RevokeAPIKeys, IDs(tc.state.APIKeys)) {
				t.Errorf("changes %+v", c)
			}
		})
	}
	lines := Prove(setUp(), noon(), false).Events[0].Notice.Details
	if got := strings.Join(lines, ", "); got != "the password, the second factor, API keys: 1, "+
		"linked identities (providers and wallets): 2, sessions: 3" {
		t.Errorf("the mail lists %q", got)
	}
}

func TestAResetProvesTheAddressAndSetsThePassword(t *testing.T) {
	for name, tc := range map[string]struct {
		verifiedAt, verifies time.Time
		ended                string
		events               []string
	}{
		"unverified": {time.Time{}, noon(), "ACCOUNT_RECLAIMED",
			[]string{"account.reclaimed EMAIL_UNVERIFIED", "account.password_reset "}},
		"verified": {noon().Add(-time.Hour), time.Time{}, "PASSWORD_CHANGED", []string{"account.password_reset "}},
	} {
		t.Run(name, func(t *testing.T) {
			c := reset(verified(tc.verifiedAt), noon(), "new")
			if !c.VerifiedAt.Equal(tc.verifies) || c.PasswordHash == nil || *c.PasswordHash != "new" ||
				!slices.Contains(c.EndCodes, ResetPassword) || !slices.Contains(c.EndCodes, ChangeEmail) ||
				c.EndSessions.Reason != tc.ended || c.EndSessions.Except != uuid.Nil ||
				!slices.Equal(events(c), tc.events) {
				t.Errorf("changes %+v", c)
			}
		})
	}
}

func TestACodeVerifiesAnAddressOnceAndKeepsTheTime(t *testing.T) {
	for before, set := range map[time.Time]time.Time{{}: noon(), noon().Add(-time.Hour): {}} {
		for checked, removes := range map[string]bool{"old": false, "": before.IsZero()} {
			c, err := verify(verified(before), noon(), checked)
			if err != nil || !c.VerifiedAt.Equal(set) || c.Removed.Password != removes ||
				events(c)[len(c.Events)-1] != "account.email_verified " {
				t.Errorf("verified before at %v, with the password %q: %+v, %v", before, checked, c, err)
			}
		}
	}
	if _, err := verify(verified(time.Time{}), noon(), "older"); reasonOf(err) != "PASSWORD_CHANGED" {
		t.Errorf("a password that was changed meanwhile: %v", err)
	}
}

func TestAPasswordChangeEndsTheOtherSessionsUnlessItWasOvertaken(t *testing.T) {
	s, session := verified(noon()), uuid.New()
	if _, err := changePassword(s, "older", "new", session); reasonOf(err) != "PASSWORD_CHANGED" {
		t.Errorf("a password that was changed meanwhile: %v", err)
	}
	c, err := changePassword(s, "old", "new", session)
	if err != nil || *c.PasswordHash != "new" || *c.EndSessions != (SessionEnd{"PASSWORD_CHANGED", session}) ||
		!slices.Equal(c.EndCodes, []Purpose{ResetPassword, ChangeEmail}) ||
		!slices.Equal(events(c), []string{"account.password_changed "}) {
		t.Errorf("changes %+v, %v", c, err)
	}
}

func TestANewAddressIsMailedACodeOrANoticeAndTheOldOneANotice(t *testing.T) {
	const fresh = "new@example.com"
	wallet := State{User: User{ID: uuid.New()}}
	with := func(s State, recent int, m Mailbox) State { s.RecentMails, s.Mailbox = recent, m; return s }
	for name, tc := range map[string]struct {
		state  State
		mails  []string
		coded  bool
		reason string
	}{
		"a free address":        {verified(noon()), []string{"notice ada@example.com", "coded " + fresh}, true, ""},
		"of a wallet's account": {wallet, []string{"coded " + fresh}, true, ""},
		"the old one is not verified": {verified(time.Time{}), []string{"coded " + fresh}, true,
			""},
		"a taken address": {with(verified(noon()), 0, Mailbox{Taken: true}),
			[]string{"notice ada@example.com", "tried " + fresh}, false, "EMAIL_TAKEN"},
		"one mail below both limits": {with(verified(noon()), 4, Mailbox{RecentMails: 4}),
			[]string{"notice ada@example.com", "coded " + fresh}, true, ""},
		"the account's limit": {with(verified(noon()), 5, Mailbox{}), nil, false, "TOO_MANY_MAILS"},
		"the mailbox's limit": {with(verified(noon()), 0, Mailbox{RecentMails: 5}),
			[]string{"notice ada@example.com"}, false, "TOO_MANY_MAILS"},
		"the limit of a mailbox that is taken": {with(verified(noon()), 0, Mailbox{Taken: true, RecentMails: 5}),
			[]string{"notice ada@example.com"}, false, "TOO_MANY_MAILS"},
	} {
		t.Run(name, func(t *testing.T) {
			r := emailChange{code: Code{Purpose: ChangeEmail, NewEmail: fresh}, maxPerHour: 5,
				coded: mail.Mail{Subject: "coded"}, tried: mail.Mail{Subject: "tried"},
				notice: mail.Mail{Subject: "notice"}}
			c, err := r.decide(tc.state, noon())
			var mails []string
			for _, m := range c.Mails {
				mails = append(mails, m.Subject+" "+m.To)
				if m.User != tc.state.ID || m.PerMailbox != (m.To == fresh) {
					t.Errorf("the mail %+v is counted wrongly", m)
				}
			}
			if err != nil || !slices.Equal(mails, tc.mails) || (c.NewCode != nil) != tc.coded ||
				!slices.Equal(c.EndCodes, []Purpose{ChangeEmail}) || c.Events[0].Reason != tc.reason {
				t.Errorf("mails %v, changes %+v, %v", mails, c, err)
			}
		})
	}
	r := emailChange{code: Code{NewEmail: "ada@example.com"}}
	if _, err := r.decide(verified(noon()), noon()); reasonOf(err) != "INVALID_ARGUMENT" {
		t.Errorf("the present address: %v", err)
	}
}

func TestANewAddressIsVerifiedAndEndsOtherSessionsAndEveryCode(t *testing.T) {
	session := uuid.New()
	for name, tc := range map[string]struct {
		state State
		also  string
	}{
		"of a verified one":    {verified(noon().Add(-time.Hour)), "ada@example.com"},
		"of an unverified one": {verified(time.Time{}), ""}, // perhaps a stranger's
		"of none":              {State{User: User{ID: uuid.New()}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			tc.state.NewEmail = "new@example.com"
			c := confirmEmailChange(tc.state, noon(), session)
			if c.Email != "new@example.com" || !c.VerifiedAt.Equal(noon()) ||
				*c.EndSessions != (SessionEnd{"EMAIL_CHANGED", session}) || len(c.EndCodes) != 3 ||
				c.PasswordHash != nil || c.RevokeAPIKeys != nil || c.Events[0].Type != audit.EmailChanged ||
				c.Events[0].Notice.Also != tc.also {
				t.Errorf("changes %+v", c)
			}
		})
	}
}
