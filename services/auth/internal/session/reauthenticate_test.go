package session_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/session"
)

func (s timed) ChangeOwn(ctx context.Context, user, family uuid.UUID,
	change session.Change) error {
	return s.Sessions.ChangeOwn(ctx, user, family,
		func(f session.Family, is account.AccessState, _ time.Time) (session.Family, audit.Event, error) {
			return change(f, is, s.clock.now())
		})
}

// only is the user's one session.
func (f fixture) only(t *testing.T) session.Family {
	t.Helper()
	list, err := f.List(t.Context(), f.user, uuid.Nil, 10)
	if err != nil || len(list) != 1 {
		t.Fatalf("sessions %+v, %v", list, err)
	}
	return list[0]
}

func TestAStepUpIsOfItsSessionAndStaysWithItsTokens(t *testing.T) {
	f := newFixture(t)
	tokens := f.login(t)
	begun := f.only(t)
	f.clock.pass(time.Hour)
	for _, tc := range []struct{ name, password, code, reason string }{
		{"nothing", "", "", "INVALID_ARGUMENT"},
		{"a wrong password", "not the password", "", "INVALID_CREDENTIALS"},
		{"a wrong password and a code", "not the password", "123456", "INVALID_CREDENTIALS"},
	} {
		_, err := f.Reauthenticate(t.Context(), f.user, begun.ID, tc.password, tc.code)
		if e := errs.As(err); e == nil || e.Reason != tc.reason {
			t.Errorf("%s is answered %v", tc.name, err)
		}
	}
	if !f.only(t).AuthTime.Equal(begun.AuthTime) {
		t.Error("a refused step-up counts")
	}
	got, err := f.Reauthenticate(t.Context(), f.user, begun.ID, password, "")
	if err != nil || got.Access == "" || got.Refresh != "" {
		t.Fatal(got, err)
	}
	if is := f.only(t); is.ID != begun.ID || !is.AuthTime.Equal(f.clock.now()) ||
		strings.Join(is.Methods, " ") != "pwd" {
		t.Errorf("%+v", is)
	}
	at := f.clock.now()
	f.clock.pass(time.Minute)
	tokens = f.refresh(t, tokens.Refresh)
	if is := f.only(t); !is.AuthTime.Equal(at) {
		t.Errorf("refreshed, it was proven at %s, not %s", is.AuthTime, at)
	}
	if err := f.Revoke(t.Context(), f.user, begun.ID); err != nil {
		t.Fatal(err)
	}
	for name, user := range map[string]uuid.UUID{"an ended session": f.user, "another user's": uuid.New()} {
		if _, err := f.Reauthenticate(t.Context(), user, begun.ID, password, ""); err == nil {
			t.Errorf("%s was stepped up", name)
		}
	}
	f.refused(t, tokens.Refresh, "SESSION_REVOKED")
}

func TestWithASecondFactorAStepUpNeedsItsCode(t *testing.T) {
	f := newFixture(t)
	f.SecondFactor = factor{}
	if _, err := f.Login(t.Context(), email, password, "123456"); err != nil {
		t.Fatal(err)
	}
	s := f.only(t)
	for code, reason := range map[string]string{"": "TOTP_REQUIRED", "000000": "TOTP_INVALID"} {
		_, err := f.Reauthenticate(t.Context(), f.user, s.ID, password, code)
		if e := errs.As(err); e == nil || e.Reason != reason {
			t.Errorf("the code %q is answered %v", code, err)
		}
	}
	if _, err := f.Reauthenticate(t.Context(), f.user, s.ID, "", "123456"); err != nil {
		t.Error(err)
	}
	if n := f.count(t, "SELECT count(*) FROM audit_events WHERE type = 'session.reauthenticated' AND outcome = "+
		"'REFUSED'"); n != 2 {
		t.Errorf("%d refusals are recorded", n)
	}
	if n := f.count(t, "SELECT count(*) FROM audit_events WHERE type = 'session.reauthenticated' AND outcome = 'OK' "+
		"AND object = $1", s.ID.String()); n != 1 {
		t.Errorf("%d step-ups are recorded", n)
	}
}

func TestADisabledAccountIsNotSteppedUp(t *testing.T) {
	f := newFixture(t)
	f.login(t)
	s := f.only(t)
	if err := f.db.Gorm(t.Context()).Exec("UPDATE users SET disabled_at = now()").Error; err != nil {
		t.Fatal(err)
	}
	_, err := f.Reauthenticate(t.Context(), f.user, s.ID, password, "")
	if e := errs.As(err); e == nil || e.Reason != "ACCOUNT_DISABLED" {
		t.Error(err)
	}
}
