package app_test

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
)

// find returns the one account with this address.
func (s service) find(t *testing.T, admin context.Context, email string) *authv1.UserRecord {
	t.Helper()
	list, err := s.admin.ListUsers(admin, &authv1.ListUsersRequest{EmailPrefix: email})
	if err != nil || len(list.GetUsers()) != 1 {
		t.Fatal(list, err)
	}
	return list.GetUsers()[0]
}

func TestAnAdminFindsAccounts(t *testing.T) {
	s := start(t, "PURSER_ATTEMPTS_PER_ADDRESS=1000")
	admin := s.asAdmin(t)
	for _, name := range []string{"ada", "adb", "a%b", "a_b", "bob"} {
		s.register(t, name+"@example.com")
	}
	yes, no := true, false
	bob := s.find(t, admin, "bob").GetUser().GetId()
	if _, err := s.admin.DisableUser(admin, &authv1.DisableUserRequest{UserId: bob}); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		request *authv1.ListUsersRequest
		want    string
	}{
		"all":            {&authv1.ListUsersRequest{}, "bob a_b a%b adb ada root"},
		"a prefix":       {&authv1.ListUsersRequest{EmailPrefix: "AD"}, "adb ada"},
		"a wildcard":     {&authv1.ListUsersRequest{EmailPrefix: "a%"}, "a%b"},
		"another":        {&authv1.ListUsersRequest{EmailPrefix: "a_"}, "a_b"},
		"an escape":      {&authv1.ListUsersRequest{EmailPrefix: `a\`}, ""},
		"a NUL byte":     {&authv1.ListUsersRequest{EmailPrefix: "a\x00"}, ""},
		"a role":         {&authv1.ListUsersRequest{Role: "admin"}, "root"},
		"no such role":   {&authv1.ListUsersRequest{Role: "root"}, ""},
		"the disabled":   {&authv1.ListUsersRequest{Disabled: &yes}, "bob"},
		"all the others": {&authv1.ListUsersRequest{Disabled: &no}, "a_b a%b adb ada root"},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for pages := 0; pages < 5; pages++ {
				tc.request.PageSize = 2
				list, err := s.admin.ListUsers(admin, tc.request)
				if err != nil {
					t.Fatal(err)
				}
				for _, u := range list.GetUsers() {
					got = append(got, strings.TrimSuffix(u.GetUser().GetEmail(), "@example.com"))
				}
				if tc.request.PageToken = list.GetNextPageToken(); tc.request.PageToken == "" {
					break
				}
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("got %v, want %s", got, tc.want)
			}
		})
	}
	list, err := s.admin.ListUsers(admin, &authv1.ListUsersRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.admin.ListUsers(admin, &authv1.ListUsersRequest{PageToken: list.GetNextPageToken(), Role: "admin"})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	_, err = s.admin.GetUser(admin, &authv1.GetUserRequest{UserId: uuid.NewString()})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
}

func TestRolesAndAttributesAreInTheNextToken(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	s.register(t, "ada@example.com")
	tokens := s.login(t, "ada@example.com")
	id := claims(t, tokens.GetAccessToken()).Subject
	set, err := s.admin.SetRoles(admin, &authv1.SetRolesRequest{UserId: id, Roles: []string{"trader", "fund_manager"},
		EndSessions: proto.Bool(false)})
	if err != nil || fmt.Sprint(set.GetUser().GetUser().GetRoles()) != "[fund_manager trader]" {
		t.Fatal(set, err)
	}
	attributes := map[string]string{"subscription_tier": "gold", "region": "eu"}
	_, err = s.admin.SetAttributes(admin, &authv1.SetAttributesRequest{UserId: id, Attributes: attributes})
	want(t, err, errs.KindFailedPrecondition, "EMAIL_UNVERIFIED") // a stranger may have registered the address
	s.exec(t, "UPDATE users SET email_verified_at = now()")
	if _, err := s.admin.SetAttributes(admin,
		&authv1.SetAttributesRequest{UserId: id, Attributes: attributes}); err != nil {
		t.Fatal(err)
	}
	refreshed, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
	if err != nil {
		t.Fatal(err)
	}
	c := claims(t, refreshed.GetTokens().GetAccessToken())
	if fmt.Sprint(c.Roles) != "[fund_manager trader]" || !maps.Equal(c.Attributes, attributes) {
		t.Errorf("%+v", c)
	}
	me, err := s.accounts.GetMe(grpcclient.WithToken(t.Context(), refreshed.GetTokens().GetAccessToken()),
		&authv1.GetMeRequest{})
	if err != nil || len(me.GetUser().GetRoles()) != 2 {
		t.Error("what GetMe had cached stayed", me, err)
	}
	end := &authv1.SetRolesRequest{UserId: id, EndSessions: proto.Bool(true)}
	if _, err := s.admin.SetRoles(admin, end); err != nil {
		t.Fatal(err)
	}
	_, err = s.sessions.Refresh(t.Context(),
		&authv1.RefreshRequest{RefreshToken: refreshed.GetTokens().GetRefreshToken()})
	want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	_, err = s.admin.SetRoles(admin, &authv1.SetRolesRequest{UserId: id, Roles: []string{"root"}})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	_, err = s.admin.SetRoles(admin, &authv1.SetRolesRequest{UserId: uuid.NewString()})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	many := map[string]string{}
	for i := range 10 {
		many[fmt.Sprintf("a%d", i)] = strings.Repeat("x", 128)
	}
	for name, bad := range map[string]map[string]string{
		"a name in capitals": {"Tier": "x"}, "a name of a NUL byte": {"a\x00": "x"},
		"a value of a NUL byte": {"a": "\x00"},
		"a value of 129 bytes":  {"a": strings.Repeat("x", 129)}, "more than a kilobyte": many,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.admin.SetAttributes(admin, &authv1.SetAttributesRequest{UserId: id, Attributes: bad})
			want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
		})
	}
}

func TestADisabledAccountIsLockedOutAndTheLastAdminCanNotBeDisabled(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	s.register(t, "ada@example.com")
	tokens := s.login(t, "ada@example.com")
	ada := claims(t, tokens.GetAccessToken()).Subject
	root := s.find(t, admin, "root").GetUser().GetId()
	_, err := s.admin.DisableUser(admin, &authv1.DisableUserRequest{UserId: root})
	want(t, err, errs.KindFailedPrecondition, "OWN_ACCOUNT")
	_, err = s.admin.SetRoles(admin, &authv1.SetRolesRequest{UserId: root, Roles: []string{"trader"}})
	want(t, err, errs.KindFailedPrecondition, "LAST_ADMIN")
	_, err = s.accounts.DeleteMe(admin, &authv1.DeleteMeRequest{})
	want(t, err, errs.KindFailedPrecondition, "LAST_ADMIN")
	robot := s.serve(t, admin, "robot", permissionsOf("admin")...)
	_, err = s.admin.DisableUser(robot, &authv1.DisableUserRequest{UserId: root})
	want(t, err, errs.KindFailedPrecondition, "LAST_ADMIN")

	_, err = s.keys.CreateApiKey(grpcclient.WithToken(t.Context(), tokens.GetAccessToken()),
		&authv1.CreateApiKeyRequest{Name: "bot", Scopes: []string{"wallet:read"}})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.admin.DisableUser(admin, &authv1.DisableUserRequest{UserId: ada}); err != nil {
			t.Fatal(err)
		}
	}
	if users, ids := s.announced(t, "USER"), s.announced(t, "SESSION"); users != 1 || ids != 2 {
		t.Errorf("announced %d users, and %d of a session and an API key", users, ids)
	}
	_, err = s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com", Password: password})
	want(t, err, errs.KindUnauthenticated, "ACCOUNT_DISABLED")
	// A disabled admin is none.
	s.exec(t, "UPDATE users SET email_verified_at = now() WHERE id = $1", ada)
	if _, err := s.admin.SetRoles(admin, &authv1.SetRolesRequest{UserId: ada, Roles: []string{"admin"}}); err != nil {
		t.Fatal(err)
	}
	_, err = s.admin.SetRoles(admin, &authv1.SetRolesRequest{UserId: root})
	want(t, err, errs.KindFailedPrecondition, "LAST_ADMIN")
	for range 2 {
		if _, err := s.admin.EnableUser(admin, &authv1.EnableUserRequest{UserId: ada}); err != nil {
			t.Fatal(err)
		}
	}
	s.login(t, "ada@example.com")
	if events, err := s.admin.ListAuditEvents(admin,
		&authv1.ListAuditEventsRequest{SubjectId: ada, ActorId: root}); err != nil || len(events.GetEvents()) != 3 {
		t.Errorf("recorded %v, %v", events, err)
	}
}

func TestAnAdminReadsEventsAndRunsOfJobs(t *testing.T) {
	s := start(t)
	begun := timestamppb.New(time.Now().Add(-time.Minute))
	admin := s.asAdmin(t)
	s.register(t, "ada@example.com")
	_ = s.guess(t, "ada@example.com")
	ada := s.find(t, admin, "ada").GetUser().GetId()
	for name, tc := range map[string]struct {
		request *authv1.ListAuditEventsRequest
		want    string
	}{
		"of a subject": {&authv1.ListAuditEventsRequest{SubjectId: ada}, "session.login account.registered"},
		"of a type":    {&authv1.ListAuditEventsRequest{SubjectId: ada, Type: "session.login"}, "session.login"},
		"refused": {&authv1.ListAuditEventsRequest{Outcome: authv1.AuditOutcome_AUDIT_OUTCOME_REFUSED},
			"session.login"},
		"since a minute": {&authv1.ListAuditEventsRequest{SubjectId: ada, StartTime: begun,
			EndTime: timestamppb.New(time.Now().Add(time.Minute))}, "session.login account.registered"},
		"before that":   {&authv1.ListAuditEventsRequest{EndTime: begun}, ""},
		"of nobody":     {&authv1.ListAuditEventsRequest{ActorId: uuid.NewString()}, ""},
		"of a NUL byte": {&authv1.ListAuditEventsRequest{Type: "\x00"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for range 3 {
				tc.request.PageSize = 1
				list, err := s.admin.ListAuditEvents(admin, tc.request)
				if err != nil {
					t.Fatal(err)
				}
				for _, e := range list.GetEvents() {
					got = append(got, e.GetType())
					if e.GetIpAddress() != "127.0.0.1" || !strings.HasPrefix(e.GetUserAgent(), "grpc-go/") ||
						e.GetEventTime() == nil {
						t.Errorf("%v", e)
					}
				}
				if tc.request.PageToken = list.GetNextPageToken(); tc.request.PageToken == "" {
					break
				}
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("got %v, want %s", got, tc.want)
			}
		})
	}
	_, err := s.admin.ListAuditEvents(admin,
		&authv1.ListAuditEventsRequest{StartTime: &timestamppb.Timestamp{Seconds: 1 << 60}})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	_, err = s.admin.ListAuditEvents(admin, &authv1.ListAuditEventsRequest{StartTime: begun, EndTime: begun})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT") // it was an empty list

	if _, err := s.jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: "prune_sessions"}); err != nil {
		t.Fatal(err)
	}
	_, err = s.jobs.TriggerJob(admin, &jobsv1.TriggerJobRequest{Job: "no such job"})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	testkit.Eventually(t, time.Minute, func() bool {
		runs, err := s.jobs.ListJobRuns(admin, &jobsv1.ListJobRunsRequest{Job: "prune_sessions"})
		if err != nil {
			t.Fatal(err)
		}
		return len(runs.GetRuns()) > 0 && runs.GetRuns()[0].GetManual() &&
			runs.GetRuns()[0].GetState() == jobsv1.JobRunState_JOB_RUN_STATE_DONE
	})
}

func TestAdministrativeChangesNeedAReauthenticatedUserOrAServiceAccount(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	key, err := s.keys.CreateApiKey(admin, &authv1.CreateApiKeyRequest{Name: "x",
		Scopes: []string{"admin:users", "admin:system"}})
	if err != nil {
		t.Fatal(err)
	}
	exchanged, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key.GetKey()})
	if err != nil {
		t.Fatal(err)
	}
	tokens := s.login(t, "root@example.com")
	err = s.db.Gorm(t.Context()).Exec("UPDATE sessions SET auth_time = now() - interval '1 hour' WHERE id = ?",
		claims(t, tokens.GetAccessToken()).SessionID).Error
	if err != nil {
		t.Fatal(err)
	}
	old, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
	if err != nil {
		t.Fatal(err)
	}
	conn := dial(t, s.addr)
	defer func() { _ = conn.Close() }()
	for _, m := range mutations(t) {
		t.Run(string(m.Name()), func(t *testing.T) {
			for reason, token := range map[string]string{"API_KEY_CALLER": exchanged.GetAccessToken(),
				"REAUTHENTICATION_REQUIRED": old.GetTokens().GetAccessToken()} {
				request, response := operation(t, m, uuid.NewString(), uuid.NewString(), "x")
				err := invoke(grpcclient.WithToken(t.Context(), token), conn, m, request, response)
				want(t, err, errs.KindPermissionDenied, reason)
			}
		})
	}
}
