package identity

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func reasonOf(err error) string {
	if e := errs.As(err); e != nil {
		return e.Reason
	}
	return ""
}

func TestAClaimSignsInToItsAccountOrIsLinkedOrGetsANewOne(t *testing.T) {
	state := func(verified, disabled bool) *account.State {
		s := &account.State{User: account.User{ID: uuid.New()}, PasswordHash: "hash"}
		if verified {
			s.VerifiedAt = noon().Add(-time.Hour)
		}
		if disabled {
			s.DisabledAt = noon()
		}
		return s
	}
	for name, tc := range map[string]struct {
		verified, needsEmail bool
		found                Found
		step                 Step
		reclaims             bool
		reason               string
	}{
		"linked": {false, true, Found{Linked: state(false, false)}, SignIn, false, ""},
		"linked to a disabled account": {true, true, Found{Linked: state(true, true)}, SignIn, false,
			"ACCOUNT_DISABLED"},
		"unknown with an address":       {true, true, Found{}, Create, false, ""},
		"unknown without an address":    {false, false, Found{}, Create, false, ""},
		"unknown, address not verified": {false, true, Found{}, SignIn, false, "PROVIDER_EMAIL_UNVERIFIED"},
		"of a verified account":         {true, true, Found{ByEmail: state(true, false)}, Link, false, ""},
		"of an unverified account":      {true, true, Found{ByEmail: state(false, false)}, Link, true, ""},
		"of a disabled account": {true, true, Found{ByEmail: state(true, true)}, Link, false,
			"ACCOUNT_DISABLED"},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := decide(Claim{Verified: tc.verified}, tc.found, tc.needsEmail, noon())
			if reasonOf(err) != tc.reason || (err == nil) != (tc.reason == "") {
				t.Fatalf("answered %v, want %q", err, tc.reason)
			}
			if err != nil {
				return
			}
			reclaims := d.Changes.VerifiedAt.Equal(noon()) && d.Changes.PasswordHash != nil &&
				d.Changes.RemoveSecondFactor
			if d.Step != tc.step || reclaims != tc.reclaims || !reclaims && d.Changes.Events != nil {
				t.Errorf("decided %+v", d)
			}
		})
	}
}

func TestTheLastWayToSignInIsNotUnlinked(t *testing.T) {
	first, second := account.Credential{ID: uuid.New()}, account.Credential{ID: uuid.New()}
	for name, tc := range map[string]struct {
		email, password string
		linked          []account.Credential
		reason          string
	}{
		"with a password":             {"a@example.com", "hash", []account.Credential{first}, ""},
		"without a password":          {"a@example.com", "", []account.Credential{first}, "LAST_SIGN_IN_METHOD"},
		"a password without address":  {"", "hash", []account.Credential{first}, "LAST_SIGN_IN_METHOD"},
		"one of two":                  {"", "", []account.Credential{first, second}, ""},
		"somebody else's":             {"a@example.com", "hash", []account.Credential{second}, "NOT_FOUND"},
		"an account without any left": {"a@example.com", "hash", nil, "NOT_FOUND"},
	} {
		t.Run(name, func(t *testing.T) {
			s := account.State{User: account.User{ID: uuid.New(), Email: tc.email}, PasswordHash: tc.password,
				Identities: tc.linked}
			c, err := remove(s, first.ID)
			if tc.reason == "NOT_FOUND" {
				if !errs.Is(err, errs.KindNotFound) {
					t.Errorf("answered %v", err)
				}
				return
			}
			if reasonOf(err) != tc.reason || err == nil && (len(c.UnlinkIdentities) != 1 ||
				c.UnlinkIdentities[0] != first.ID || len(c.Events) != 1) {
				t.Errorf("%+v, %v", c, err)
			}
		})
	}
}

func TestAnAccountHasTwentyIdentities(t *testing.T) {
	if err := checkCount(19); err != nil {
		t.Error(err)
	}
	if err := checkCount(20); reasonOf(err) != "TOO_MANY_IDENTITIES" {
		t.Error(err)
	}
}
