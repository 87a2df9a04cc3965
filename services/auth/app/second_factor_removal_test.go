package app_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
)

const removalSubject = "Your second factor is about to be removed"

// lost is a service with an admin, and a user whose second factor is about to be removed.
type lost struct {
	mailed
	as       func(token string) context.Context
	root     string // the admin's token
	id       string
	tokens   *authv1.Tokens // of the user
	secret   string
	recovery []string
	due      time.Time
}

func (s lost) removals(t *testing.T) int {
	t.Helper()
	return s.count(t, "second_factor_removals")
}

// withLostFactor makes the user's second factor be about to be removed.
func withLostFactor(t *testing.T) lost {
	t.Helper()
	s := lost{mailed: startMailed(t)}
	s.as = func(token string) context.Context { return grpcclient.WithToken(t.Context(), token) }
	s.asAdmin(t)
	s.root = s.login(t, "root@example.com").GetAccessToken()
	s.register(t, "ada@example.com")
	s.tokens = s.login(t, "ada@example.com")
	user := s.as(s.tokens.GetAccessToken())
	s.id = claims(t, s.tokens.GetAccessToken()).Subject
	e, err := s.sessions.EnrollTotp(user, &authv1.EnrollTotpRequest{})
	if err != nil {
		t.Fatal(err)
	}
	s.secret = e.GetSecret()
	confirmed, err := s.sessions.ConfirmTotp(user,
		&authv1.ConfirmTotpRequest{TotpCode: code(t, s.secret, time.Now().Add(-30*time.Second))})
	if err != nil {
		t.Fatal(err)
	}
	s.recovery = confirmed.GetRecoveryCodes()
	_, err = s.admin.RemoveSecondFactor(s.as(s.root), &authv1.RemoveSecondFactorRequest{UserId: s.id})
	want(t, err, errs.KindFailedPrecondition, "EMAIL_NOT_VERIFIED")
	s.verifyOwn(t, mailedCode(t, s.wait(t, "ada@example.com", verifySubject, 1)))
	for range 2 { // the second changes nothing
		resp, err := s.admin.RemoveSecondFactor(s.as(s.root), &authv1.RemoveSecondFactorRequest{UserId: s.id})
		if err != nil || !s.due.IsZero() && !resp.GetRemoveTime().AsTime().Equal(s.due) {
			t.Fatal(resp, err)
		}
		s.due = resp.GetRemoveTime().AsTime()
	}
	if until := time.Until(s.due); until < 23*time.Hour || until > 25*time.Hour {
		t.Fatal(until)
	}
	return s
}

// pass moves the clock past the delay, as far as the database is concerned, and runs the job.
func (s lost) pass(t *testing.T) {
	t.Helper()
	s.exec(t, "UPDATE second_factor_removals SET due_at = now() - interval '1 second'")
	s.run(t, "remove_second_factors")
}

// run triggers a job and waits for its end.
func (s lost) run(t *testing.T, job string) {
	t.Helper()
	triggered, err := s.jobs.TriggerJob(s.as(s.root), &jobsv1.TriggerJobRequest{Job: job})
	if err != nil {
		t.Fatal(err)
	}
	_ = triggered
	testkit.Eventually(t, time.Minute, func() bool {
		return s.count(t, "job_runs WHERE job = '"+job+"' AND manual AND state <> 'done'") == 0
	})
}

// signIn signs in with the password alone.
func (s lost) signIn(t *testing.T) error {
	t.Helper()
	_, err := s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com", Password: password})
	return err
}

func TestALostSecondFactorIsRemovedAfterTheDelay(t *testing.T) {
	s := withLostFactor(t)
	if got := s.find(t, s.as(s.root), "ada"); !got.GetSecondFactorRemoveTime().AsTime().Equal(s.due) {
		t.Error(got)
	}
	s.run(t, "remove_second_factors") // not due yet
	want(t, s.signIn(t), errs.KindUnauthenticated, "TOTP_REQUIRED")
	s.me(t, s.tokens.GetAccessToken()) // nothing has ended
	if n := len(s.of("ada@example.com", removalSubject)); n > 1 {
		t.Errorf("%d mails", n)
	}
	s.pass(t)
	if err := s.signIn(t); err != nil {
		t.Fatal(err)
	}
	_, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: s.tokens.GetRefreshToken()})
	want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	_, err = s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com", Password: newPassword})
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	if got := s.find(t, s.as(s.root), "ada"); got.GetHasSecondFactor() || got.GetSecondFactorRemoveTime() != nil {
		t.Error(got)
	}
	events := s.events(t)
	if !slices.Contains(events, "second_factor.removal_requested OK ") ||
		!slices.Contains(events, "second_factor.disabled OK REMOVED_BY_ADMIN") {
		t.Error(events)
	}
	_, err = s.identities.KeepSecondFactorByCode(t.Context(), &authv1.KeepSecondFactorByCodeRequest{
		Code: mailedCode(t, s.wait(t, "ada@example.com", removalSubject, 1))})
	want(t, err, errs.KindFailedPrecondition, "CODE_INVALID")
	_, err = s.admin.RemoveSecondFactor(s.as(s.root), &authv1.RemoveSecondFactorRequest{UserId: s.id})
	want(t, err, errs.KindFailedPrecondition, "TOTP_NOT_ENROLLED")
}

// One admin alone takes nothing from an owner who is there.
func TestASecondFactorStaysWhenItsOwnerIsThere(t *testing.T) {
	for name, keep := range map[string]func(t *testing.T, s lost){
		"the owner keeps it": func(t *testing.T, s lost) {
			for range 2 {
				if _, err := s.identities.KeepSecondFactor(s.as(s.tokens.GetAccessToken()),
					&authv1.KeepSecondFactorRequest{}); err != nil {
					t.Fatal(err)
				}
			}
		},
		"the owner keeps it with the mailed code": func(t *testing.T, s lost) {
			keep := &authv1.KeepSecondFactorByCodeRequest{
				Code: mailedCode(t, s.wait(t, "ada@example.com", removalSubject, 1))}
			want(t, s.verify(t, keep.GetCode()), errs.KindFailedPrecondition, "CODE_INVALID") // another purpose
			if _, err := s.identities.KeepSecondFactorByCode(t.Context(), keep); err != nil {
				t.Fatal(err)
			}
			_, err := s.identities.KeepSecondFactorByCode(t.Context(), keep)
			want(t, err, errs.KindFailedPrecondition, "CODE_INVALID")
		},
		"the owner ends everything": func(t *testing.T, s lost) {
			if _, err := s.identities.EndEverything(s.as(s.tokens.GetAccessToken()),
				&authv1.EndEverythingRequest{}); err != nil {
				t.Fatal(err)
			}
		},
		"another admin thinks better of it": func(t *testing.T, s lost) {
			bob, _ := s.second(t, "bob@example.com")
			if _, err := s.admin.CancelSecondFactorRemoval(bob,
				&authv1.CancelSecondFactorRemovalRequest{UserId: s.id}); err != nil {
				t.Fatal(err)
			}
		},
		"a code of it is used": func(t *testing.T, s lost) {
			if _, err := s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com",
				Password: password, SecondFactorCode: code(t, s.secret, time.Now())}); err != nil {
				t.Fatal(err)
			}
		},
		"a recovery code is used": func(t *testing.T, s lost) {
			if _, err := s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com",
				Password: password, SecondFactorCode: s.recovery[0]}); err != nil {
				t.Fatal(err)
			}
		},
		"the admin lost the role": func(t *testing.T, s lost) {
			bob, _ := s.second(t, "bob@example.com")
			root := s.find(t, bob, "root").GetUser().GetId()
			if _, err := s.admin.SetRoles(bob, &authv1.SetRolesRequest{UserId: root}); err != nil {
				t.Fatal(err)
			}
			s.exec(t, "UPDATE second_factor_removals SET due_at = now() - interval '1 second'")
			if _, err := s.jobs.TriggerJob(bob, &jobsv1.TriggerJobRequest{Job: "remove_second_factors"}); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, time.Minute, func() bool { return s.removals(t) == 0 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := withLostFactor(t)
			keep(t, s)
			if s.removals(t) > 0 {
				s.pass(t)
			}
			want(t, s.signIn(t), errs.KindUnauthenticated, "TOTP_REQUIRED")
			if s.removals(t) != 0 || !slices.ContainsFunc(s.events(t), func(e string) bool {
				return strings.HasPrefix(e, "second_factor.removal_canceled OK ")
			}) {
				t.Error(s.removals(t), s.events(t))
			}
		})
	}
}

func TestNobodyRemovesTheirOwnSecondFactorThroughAnAdminsMethod(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	root := s.find(t, admin, "root").GetUser().GetId()
	_, err := s.admin.RemoveSecondFactor(admin, &authv1.RemoveSecondFactorRequest{UserId: root})
	want(t, err, errs.KindFailedPrecondition, "OWN_ACCOUNT")
	_, err = s.admin.RemoveSecondFactor(admin, &authv1.RemoveSecondFactorRequest{UserId: uuid.NewString()})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	_, err = s.admin.RemoveSecondFactor(admin, &authv1.RemoveSecondFactorRequest{UserId: "root"})
	if e := want(t, err, errs.KindInvalid, "INVALID_ARGUMENT"); e.Violations[0].Field != "user_id" {
		t.Error(e.Violations)
	}
	_, err = s.identities.KeepSecondFactorByCode(t.Context(),
		&authv1.KeepSecondFactorByCodeRequest{Code: strings.Repeat("a", 43)})
	want(t, err, errs.KindFailedPrecondition, "CODE_INVALID")
}

// The warning went to the address of before. Whoever has a session and moves the account to their own mailbox would
// only have to wait for the second factor to go.
func TestAChangeOfTheAddressEndsThePendingRemovalOfASecondFactor(t *testing.T) {
	s := withLostFactor(t)
	thief := s.as(s.tokens.GetAccessToken())
	if err := s.askChange(thief, fresh); err != nil {
		t.Fatal(err)
	}
	if err := s.confirm(thief, mailedCode(t, s.wait(t, fresh, changeSubject, 1))); err != nil {
		t.Fatal(err)
	}
	if n := s.removals(t); n != 0 {
		t.Error("the removal is pending still")
	}
	s.pass(t)
	_, err := s.tryLogin(t, fresh, password)
	want(t, err, errs.KindUnauthenticated, "TOTP_REQUIRED")
	if !slices.Contains(s.events(t), "second_factor.removal_canceled OK EMAIL_CHANGED") {
		t.Error(s.events(t))
	}
}
