package account

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
)

// noon is when everything in these tests is decided.
func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func verified(at time.Time) State {
	return State{User: User{ID: uuid.New(), Email: "ada@example.com", VerifiedAt: at}, PasswordHash: "old"}
}

// events lists the types and reasons of events.
func events(c Changes) []string {
	var list []string
	for _, e := range c.Events {
		list = append(list, string(e.Type)+" "+e.Reason)
	}
	return list
}

func reasonOf(err error) string {
	if e := errs.As(err); e != nil {
		return e.Reason
	}
	return ""
}

func TestACodeIsMailedToWhomItsPurposeAppliesWithinTheLimit(t *testing.T) {
	for name, tc := range map[string]struct {
		purpose Purpose
		state   State
		refused string
	}{
		"no account":                       {VerifyEmail, State{}, "NO_SUCH_ACCOUNT"},
		"no account for a reset":           {ResetPassword, State{}, "NO_SUCH_ACCOUNT"},
		"an unverified address":            {VerifyEmail, verified(time.Time{}), ""},
		"a verified address":               {VerifyEmail, verified(noon()), "NOT_APPLICABLE"},
		"a reset of a verified account":    {ResetPassword, verified(noon()), ""},
		"a reset of an unverified account": {ResetPassword, verified(time.Time{}), ""},
		"a reset of a disabled account": {ResetPassword, State{User: User{ID: uuid.New()}, DisabledAt: noon()},
			"NOT_APPLICABLE"},
		"a disabled account may be verified": {VerifyEmail, State{User: User{ID: uuid.New()}, DisabledAt: noon()}, ""},
		"one mail below the limit":           {VerifyEmail, State{User: User{ID: uuid.New()}, RecentMails: 4}, ""},
		"the limit is reached": {VerifyEmail, State{User: User{ID: uuid.New()}, RecentMails: 5},
			"TOO_MANY_MAILS"},
	} {
		t.Run(name, func(t *testing.T) {
			r := codeRequest{Code: Code{Purpose: tc.purpose, Lifetime: time.Hour}, mail: mail.Mail{Subject: "x"},
				event: audit.VerificationRequested, maxPerHour: 5}
			c, err := r.decide(tc.state, noon())
			if err != nil || len(c.Events) != 1 || c.Events[0].Reason != tc.refused ||
				c.Events[0].Subject != tc.state.ID || (c.Events[0].Outcome == audit.Refused) != (tc.refused != "") {
				t.Fatalf("recorded %+v, %v", c.Events, err)
			}
			if tc.refused != "" {
				if c.NewCode != nil || c.Mails != nil {
					t.Error("a code is mailed")
				}
				return
			}
			if c.NewCode == nil || *c.NewCode != r.Code || len(c.Mails) != 1 || c.Mails[0].User != tc.state.ID ||
				c.Mails[0].To != tc.state.Email || c.Mails[0].Subject != "x" {
				t.Errorf("changes %+v", c)
			}
		})
	}
}

func TestTheOwnerIsToldOfARegistrationOfTheirAddressWithinTheLimit(t *testing.T) {
	for _, tc := range []struct{ recent, mails int }{{0, 1}, {4, 1}, {5, 0}, {6, 0}} {
		s := verified(noon())
		s.RecentMails = tc.recent
		c := registrationTried(s, mail.Mail{}, 5)
		if len(c.Mails) != tc.mails || tc.mails == 1 && c.Mails[0].To != s.Email ||
			!slices.Equal(events(c), []string{"account.registration_tried EMAIL_TAKEN"}) ||
			c.PasswordHash != nil || c.NewCode != nil {
			t.Errorf("after %d mails: %+v", tc.recent, c)
		}
	}
}

func TestADeletionSaysFarewellToAVerifiedAddressAndLeavesAnAdmin(t *testing.T) {
	for name, tc := range map[string]struct {
		verifiedAt time.Time
		admins     Admins
		mails      int
		reason     string
	}{
		"verified":                   {noon(), Admins{}, 1, ""},
		"never verified":             {time.Time{}, Admins{}, 0, ""},
		"one of two admins":          {noon(), Admins{This: true, Others: true}, 1, ""},
		"the last admin":             {noon(), Admins{This: true}, 0, "LAST_ADMIN"},
		"nobody is an admin":         {noon(), Admins{}, 1, ""},
		"somebody else is the admin": {noon(), Admins{Others: true}, 1, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := verified(tc.verifiedAt)
			s.Admins = tc.admins
			c, err := Deleted(s, s.ID, mail.Mail{})
			if reasonOf(err) != tc.reason || (err == nil) != c.Delete || len(c.Mails) != tc.mails {
				t.Fatalf("changes %+v, %v", c, err)
			}
			if len(c.Mails) == 1 && (c.Mails[0].To != s.Email || c.Mails[0].User != uuid.Nil) {
				t.Errorf("the mail %+v would be deleted with the user", c.Mails[0])
			}
			if err == nil && (!c.RevokeTokens || c.EndSessions.Reason != "ACCOUNT_DELETED") {
				t.Errorf("changes %+v", c)
			}
		})
	}
}
