package app_test

import (
	"context"
	"fmt"
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

// deletions is a client of the service of deletions.
func (s service) deletions(t *testing.T) authv1.DeletionServiceClient {
	t.Helper()
	conn := dial(t, s.addr)
	t.Cleanup(func() { _ = conn.Close() })
	return authv1.NewDeletionServiceClient(conn)
}

// deleteMe registers somebody and deletes them.
func (s service) deleteMe(t *testing.T, email string) (user string) {
	t.Helper()
	s.register(t, email)
	token := s.login(t, email).GetAccessToken()
	if _, err := s.accounts.DeleteMe(grpcclient.WithToken(t.Context(), token), &authv1.DeleteMeRequest{}); err != nil {
		t.Fatal(err)
	}
	return claims(t, token).Subject
}

func TestAServiceFollowsTheDeletionsFromItsCursorOn(t *testing.T) {
	s := start(t)
	d, root := s.deletions(t), s.asAdmin(t)
	worker := s.serve(t, root, "worker", "users:erase")
	s.serve(t, root, "idler", "users:erase")
	s.serve(t, root, "reader", "wallet:read")
	var gone []string
	for i := range 5 {
		gone = append(gone, s.deleteMe(t, fmt.Sprintf("gone-%d@example.com", i)))
	}
	var seen []string
	for cursor := int64(0); ; {
		resp, err := d.ListDeletions(worker, &authv1.ListDeletionsRequest{AfterCursor: cursor, PageSize: 2})
		if err != nil || resp.GetIssuer() != issuer {
			t.Fatal(resp, err)
		}
		if len(resp.GetDeletions()) == 0 {
			if resp.GetNextCursor() != cursor {
				t.Errorf("the cursor %d became %d", cursor, resp.GetNextCursor())
			}
			break
		}
		for _, u := range resp.GetDeletions() {
			seen = append(seen, u.GetUserId())
		}
		cursor = resp.GetNextCursor()
	}
	if !slices.Equal(seen, gone) {
		t.Fatalf("listed %v, want %v", seen, gone)
	}
	found, err := d.FindDeletedUsers(worker,
		&authv1.FindDeletedUsersRequest{UserIds: []string{gone[3], uuid.NewString(), gone[1]}})
	if err != nil || len(found.GetDeletions()) != 2 || found.GetDeletions()[0].GetUserId() != gone[1] ||
		found.GetIssuer() != issuer {
		t.Fatal(found, err)
	}

	// Two of the three have to erase, and one reports.
	if _, err := d.ReportErasure(worker, &authv1.ReportErasureRequest{Cursor: 3}); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"worker erased, idler waits", "idler waits, worker waits"} {
		got, err := d.GetDeletion(root, &authv1.GetDeletionRequest{UserId: gone[2+i]})
		if err != nil || got.GetDeletion().GetErased() || got.GetDeletion().GetDeleteTime() == nil {
			t.Fatal(got, err)
		}
		var states []string
		for _, e := range got.GetDeletion().GetServices() {
			state := e.GetService() + " waits"
			if e.GetEraseTime() != nil {
				state = e.GetService() + " erased"
			}
			states = append(states, state)
		}
		slices.Sort(states)
		wants := strings.Split(want, ", ")
		slices.Sort(wants)
		if !slices.Equal(states, wants) {
			t.Errorf("%d: %v, want %v", i, states, wants)
		}
	}
	listed, err := d.ListUserDeletions(root, &authv1.ListUserDeletionsRequest{PageSize: 2, Unerased: true})
	if err != nil || len(listed.GetDeletions()) != 2 || listed.GetDeletions()[0].GetUserId() != gone[4] {
		t.Fatal(listed, err)
	}
	rest, err := d.ListUserDeletions(root, &authv1.ListUserDeletionsRequest{PageSize: 3, Unerased: true,
		PageToken: listed.GetNextPageToken()})
	if err != nil || len(rest.GetDeletions()) != 3 || rest.GetNextPageToken() != "" {
		t.Fatal(rest, err)
	}
	_, err = d.ListUserDeletions(root, &authv1.ListUserDeletionsRequest{PageToken: listed.GetNextPageToken()})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
}

func TestWhatServicesAreRefusedAboutDeletions(t *testing.T) {
	s := start(t)
	d, root := s.deletions(t), s.asAdmin(t)
	worker, reader := s.serve(t, root, "worker", "users:erase"), s.serve(t, root, "reader", "wallet:read")
	_, err := d.ListDeletions(reader, &authv1.ListDeletionsRequest{})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	_, err = d.ReportErasure(reader, &authv1.ReportErasureRequest{})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	_, err = d.ReportErasure(root, &authv1.ReportErasureRequest{})
	want(t, err, errs.KindPermissionDenied, "SERVICE_ACCOUNT_REQUIRED")
	// A cursor of before auth was restored from a backup.
	_, err = d.ListDeletions(worker, &authv1.ListDeletionsRequest{AfterCursor: 1})
	want(t, err, errs.KindFailedPrecondition, "CURSOR_AHEAD")
	_, err = d.ReportErasure(worker, &authv1.ReportErasureRequest{Cursor: 1})
	want(t, err, errs.KindFailedPrecondition, "CURSOR_AHEAD")
	for _, ids := range [][]string{nil, {"nobody"}, slices.Repeat([]string{uuid.NewString()}, 2),
		slices.Repeat([]string{""}, 1001)} {
		_, err := d.FindDeletedUsers(worker, &authv1.FindDeletedUsersRequest{UserIds: ids})
		want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	}
	_, err = d.GetDeletion(root, &authv1.GetDeletionRequest{UserId: uuid.NewString()})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
}

func TestAnOperatorDeletesAUserAndNobodyAboveThem(t *testing.T) {
	s := start(t)
	d, root := s.deletions(t), s.asAdmin(t)
	s.register(t, "ada@example.com")
	token := s.login(t, "ada@example.com").GetAccessToken()
	ada := claims(t, token).Subject
	bob, bobID := s.second(t, "bob@example.com")
	me, err := s.accounts.GetMe(root, &authv1.GetMeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	clerk := s.serve(t, root, "clerk", "admin:users")
	_, err = d.DeleteUser(clerk, &authv1.DeleteUserRequest{UserId: bobID})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_NOT_HELD")
	_, err = d.DeleteUser(root, &authv1.DeleteUserRequest{UserId: me.GetUser().GetId()})
	want(t, err, errs.KindFailedPrecondition, "OWN_ACCOUNT")
	_, err = d.DeleteUser(root, &authv1.DeleteUserRequest{UserId: uuid.NewString()})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	_, err = d.DeleteUser(grpcclient.WithToken(t.Context(), token), &authv1.DeleteUserRequest{UserId: bobID})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
	s.exec(t, "UPDATE sessions SET auth_time = auth_time - interval '11 minutes' WHERE user_id = $1", bobID)

	got, err := d.DeleteUser(root, &authv1.DeleteUserRequest{UserId: ada})
	if err != nil || got.GetDeletion().GetDeleteTime() == nil || got.GetDeletion().GetErased() {
		t.Fatal(got, err)
	}
	_, err = s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com", Password: password})
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	s.eventuallyRefused(t, token)
	// Two admins delete each other at once: one of them stays.
	answers := make(chan error, 2)
	go func() {
		_, err := d.DeleteUser(root, &authv1.DeleteUserRequest{UserId: bobID})
		answers <- err
	}()
	go func() {
		_, err := d.DeleteUser(bob, &authv1.DeleteUserRequest{UserId: me.GetUser().GetId()})
		answers <- err
	}()
	if one, other := <-answers, <-answers; (one == nil) == (other == nil) {
		t.Errorf("answered %v and %v", one, other)
	}
}

// graceful starts a service with a grace period, and somebody with a verified address.
func graceful(t *testing.T) (s service, user, access string) {
	t.Helper()
	s = start(t, "PURSER_DELETION_GRACE=240h")
	s.register(t, "ada@example.com")
	s.exec(t, "UPDATE users SET email_verified_at = now() WHERE email = 'ada@example.com'")
	access = s.login(t, "ada@example.com").GetAccessToken()
	return s, claims(t, access).Subject, access
}

// cancelCode returns the code of the mail about a planned deletion.
func (s service) cancelCode(t *testing.T) string {
	t.Helper()
	var body string
	err := s.db.SQL().QueryRowContext(t.Context(), "SELECT body FROM mails WHERE kind = 'cancel_deletion'").Scan(&body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(body) {
		if line = strings.TrimSpace(line); len(line) == 43 && !strings.Contains(line, " ") {
			return line
		}
	}
	t.Fatalf("no code in %q", body)
	return ""
}

func TestADeletionWithAGracePeriodIsCancelledByTheMailedCodeOrDone(t *testing.T) {
	s, ada, access := graceful(t)
	token := grpcclient.WithToken(t.Context(), access)
	d, root := s.deletions(t), s.asAdmin(t)
	key := s.apiKey(t, access)
	planned, err := s.accounts.DeleteMe(token, &authv1.DeleteMeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(planned.GetPlanTime().AsTime()); left < 239*time.Hour || left > 241*time.Hour {
		t.Errorf("planned in %s", left)
	}
	login := func() error {
		_, err := s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com", Password: password})
		return err
	}
	want(t, login(), errs.KindUnauthenticated, "ACCOUNT_DISABLED")
	_, err = s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key})
	want(t, err, errs.KindUnauthenticated, "API_KEY_INVALID")
	if err := s.trigger(t, root, "delete_accounts"); err != nil {
		t.Fatal(err)
	}
	got, err := d.GetDeletion(root, &authv1.GetDeletionRequest{UserId: ada})
	if err != nil || got.GetDeletion().GetPlanTime() == nil || got.GetDeletion().GetDeleteTime() != nil {
		t.Fatal(got, err)
	}
	for name, call := range map[string]func() error{
		"enable": func() error {
			_, err := s.admin.EnableUser(root, &authv1.EnableUserRequest{UserId: ada})
			return err
		},
		"disable": func() error {
			_, err := s.admin.DisableUser(root, &authv1.DisableUserRequest{UserId: ada})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { want(t, call(), errs.KindFailedPrecondition, "DELETION_PLANNED") })
	}
	code := s.cancelCode(t)
	_, err = d.CancelDeletion(t.Context(), &authv1.CancelDeletionRequest{Code: code[1:]})
	want(t, err, errs.KindFailedPrecondition, "CODE_INVALID")
	if _, err := d.CancelDeletion(t.Context(), &authv1.CancelDeletionRequest{Code: code}); err != nil {
		t.Fatal(err)
	}
	_, err = d.CancelDeletion(t.Context(), &authv1.CancelDeletionRequest{Code: code})
	want(t, err, errs.KindFailedPrecondition, "CODE_INVALID")
	_, err = d.GetDeletion(root, &authv1.GetDeletionRequest{UserId: ada})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	_, err = d.CancelUserDeletion(root, &authv1.CancelUserDeletionRequest{UserId: ada})
	want(t, err, errs.KindFailedPrecondition, "NO_DELETION_PLANNED")

	// Once more, cancelled by an operator, and once more until the time has come.
	for range 2 {
		s.exec(t, "DELETE FROM mails")
		s.planDeletion(t, "ada@example.com")
		code = s.cancelCode(t)
		if _, err := d.CancelUserDeletion(root, &authv1.CancelUserDeletionRequest{UserId: ada}); err != nil {
			t.Fatal(err)
		}
		_, err = d.CancelDeletion(t.Context(), &authv1.CancelDeletionRequest{Code: code})
		want(t, err, errs.KindFailedPrecondition, "CODE_INVALID")
	}
	s.planDeletion(t, "ada@example.com")
	s.register(t, "ada@example.com") // the address stays taken: nothing is made
	want(t, login(), errs.KindUnauthenticated, "ACCOUNT_DISABLED")
	s.exec(t, "UPDATE users SET delete_at = now() WHERE email = 'ada@example.com'")
	if err := s.trigger(t, root, "delete_accounts"); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		got, err = d.GetDeletion(root, &authv1.GetDeletionRequest{UserId: ada})
		return err == nil && got.GetDeletion().GetDeleteTime() != nil
	})
	want(t, login(), errs.KindUnauthenticated, "INVALID_CREDENTIALS")
}

// planDeletion signs somebody in and asks for their deletion. A token of the second in which the earlier ones were
// revoked is refused too.
func (s service) planDeletion(t *testing.T, email string) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool {
		token := grpcclient.WithToken(t.Context(), s.login(t, email).GetAccessToken())
		_, err := s.accounts.DeleteMe(token, &authv1.DeleteMeRequest{})
		return err == nil
	})
}

// trigger triggers a job.
func (s service) trigger(t *testing.T, root context.Context, job string) error {
	t.Helper()
	_, err := s.jobs.TriggerJob(root, &jobsv1.TriggerJobRequest{Job: job})
	return err
}

// Whoever registers a stranger's address and deletes the account would keep the stranger from it for the grace period.
func TestADeletedAccountKeepsNoAddressThatNobodyProved(t *testing.T) {
	s := startMailed(t, "PURSER_DELETION_GRACE=240h")
	s.register(t, ada)
	mallory := s.as(t, s.login(t, ada))
	resp, err := s.accounts.DeleteMe(mallory, &authv1.DeleteMeRequest{})
	if err != nil || resp.GetPlanTime() != nil {
		t.Errorf("deleted %v, %v", resp, err)
	}
	if _, err := s.accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: ada, Password: newPassword}); err != nil {
		t.Fatal(err)
	}
	s.verifyAs(t, mailedCode(t, s.wait(t, ada, verifySubject, 2)), newPassword)
	if _, err := s.tryLogin(t, ada, newPassword); err != nil {
		t.Errorf("the owner of the address signs in: %v", err)
	}
}
