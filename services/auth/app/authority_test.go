package app_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	"github.com/purserhq/purser/services/auth/app"
)

func permissionsOf(name string) []string {
	for _, r := range app.Roles() {
		if r.Name == name {
			return r.Permissions
		}
	}
	return nil
}

// second makes another admin and returns a context with their token, and their id.
func (s service) second(t *testing.T, email string) (context.Context, string) {
	t.Helper()
	s.register(t, email)
	if _, err := s.command(t, "admin", "grant", email, "--unverified"); err != nil {
		t.Fatal(err)
	}
	token := s.login(t, email).GetAccessToken()
	return grpcclient.WithToken(t.Context(), token), claims(t, token).Subject
}

// Nothing here waits for verifiers to hear of a revocation: the call comes right after the change.
func TestNoOperatorOutlivesTheirAuthority(t *testing.T) {
	s := start(t)
	conn := dial(t, s.addr)
	defer func() { _ = conn.Close() }()
	root := s.asAdmin(t)
	set := func(roles ...string) func(t *testing.T, bob context.Context, id string) error {
		return func(_ *testing.T, _ context.Context, id string) error {
			_, err := s.admin.SetRoles(root, &authv1.SetRolesRequest{UserId: id, Roles: roles,
				EndSessions: proto.Bool(false)})
			return err
		}
	}
	ends := map[string]func(t *testing.T, bob context.Context, id string) error{
		"lost the role, and the session goes on": set("trader"),
		"lost every role":                        set(),
		"was disabled": func(_ *testing.T, _ context.Context, id string) error {
			_, err := s.admin.DisableUser(root, &authv1.DisableUserRequest{UserId: id})
			return err
		},
		"signed out": func(_ *testing.T, bob context.Context, _ string) error {
			_, err := s.sessions.Logout(bob, &authv1.LogoutRequest{})
			return err
		},
		"was deleted": func(_ *testing.T, bob context.Context, _ string) error {
			_, err := s.accounts.DeleteMe(bob, &authv1.DeleteMeRequest{})
			return err
		},
	}
	s.register(t, "victim@example.com")
	victim := s.find(t, root, "victim").GetUser().GetId()
	account, err := s.admin.CreateServiceAccount(root, &authv1.CreateServiceAccountRequest{Name: "worker",
		Permissions: []string{"wallet:read"}})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := s.admin.ListSigningKeys(root, &authv1.ListSigningKeysRequest{})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for name, end := range ends {
		t.Run(name, func(t *testing.T) {
			n++
			bob, id := s.second(t, fmt.Sprintf("bob-%d@example.com", n))
			if err := end(t, bob, id); err != nil {
				t.Fatal(err)
			}
			before := s.events(t)
			for _, m := range mutations(t) {
				for _, target := range []string{victim, id} {
					request, response := operation(t, m, target, account.GetServiceAccount().GetServiceAccountId(),
						keys.GetKeys()[0].GetKid())
					err := invoke(bob, conn, m, request, response)
					e := errs.As(err)
					if e == nil || !slices.Contains(
						[]string{"PERMISSION_MISSING", "SESSION_REVOKED", "ACCOUNT_DISABLED",
							"TOKEN_REVOKED"}, e.Reason) {
						t.Errorf("%s was answered %v", m.Name(), err)
					}
				}
			}
			if after := s.events(t); len(after) != len(before) {
				t.Errorf("recorded %v", after[len(before):])
			}
		})
	}
}

func TestAServiceAccountDoesNotOutliveItsSecret(t *testing.T) {
	s := start(t)
	root := s.asAdmin(t)
	for name, end := range map[string]func(id string) error{
		"the secret was replaced": func(id string) error {
			_, err := s.admin.RotateServiceAccountSecret(root,
				&authv1.RotateServiceAccountSecretRequest{ServiceAccountId: id})
			return err
		},
		"the account was disabled": func(id string) error {
			_, err := s.admin.DisableServiceAccount(root, &authv1.DisableServiceAccountRequest{ServiceAccountId: id})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			robot := "robot-" + uuid.NewString()
			caller := s.serve(t, root, robot, "admin:system", "users:erase")
			if _, err := s.jobs.TriggerJob(caller, &jobsv1.TriggerJobRequest{Job: "seal_audit"}); err != nil {
				t.Fatal(err)
			}
			list, err := s.admin.ListServiceAccounts(root, &authv1.ListServiceAccountsRequest{})
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range list.GetServiceAccounts() {
				if a.GetName() == robot {
					err = end(a.GetServiceAccountId())
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			_, err = s.jobs.TriggerJob(caller, &jobsv1.TriggerJobRequest{Job: "seal_audit"})
			if e := errs.As(err); e == nil || e.Kind != errs.KindUnauthenticated {
				t.Errorf("answered %v", err)
			}
			_, err = s.deletions(t).ReportErasure(caller, &authv1.ReportErasureRequest{})
			if e := errs.As(err); e == nil || e.Kind != errs.KindUnauthenticated {
				t.Errorf("a report was answered %v", err)
			}
		})
	}
}

func TestNobodyActsOnWhoMayMoreThanThey(t *testing.T) {
	s := start(t)
	root := s.asAdmin(t)
	_, bob := s.second(t, "bob@example.com")
	clerk := s.serve(t, root, "clerk", "admin:users", "admin:system")
	strong, err := s.admin.CreateServiceAccount(root, &authv1.CreateServiceAccountRequest{Name: "strong",
		Permissions: permissionsOf("admin")})
	if err != nil {
		t.Fatal(err)
	}
	id := strong.GetServiceAccount().GetServiceAccountId()
	strongID := &authv1.UpdateServiceAccountRequest{ServiceAccountId: id}
	for name, call := range map[string]func() error{
		"ends a session of": func() error {
			_, err := s.admin.RevokeUserSession(clerk,
				&authv1.RevokeUserSessionRequest{UserId: bob, SessionId: uuid.NewString()})
			return err
		},
		"ends the sessions of": func() error {
			_, err := s.admin.RevokeUserSessions(clerk, &authv1.RevokeUserSessionsRequest{UserId: bob})
			return err
		},
		"revokes a key of": func() error {
			_, err := s.admin.RevokeUserApiKey(clerk,
				&authv1.RevokeUserApiKeyRequest{UserId: bob, ApiKeyId: uuid.NewString()})
			return err
		},
		"removes the second factor of": func() error {
			_, err := s.admin.RemoveSecondFactor(clerk, &authv1.RemoveSecondFactorRequest{UserId: bob})
			return err
		},
		"keeps the second factor of": func() error {
			_, err := s.admin.CancelSecondFactorRemoval(clerk,
				&authv1.CancelSecondFactorRemovalRequest{UserId: bob})
			return err
		},
		"invites an admin": func() error {
			_, err := s.admin.InviteUser(clerk,
				&authv1.InviteUserRequest{Email: "eve@example.com", Roles: []string{"admin"}})
			return err
		},
		"takes permissions of the service account": func() error {
			_, err := s.admin.UpdateServiceAccount(clerk, strongID)
			return err
		},
		"enables the service account": func() error {
			_, err := s.admin.EnableServiceAccount(clerk, &authv1.EnableServiceAccountRequest{ServiceAccountId: id})
			return err
		},
		"takes the roles of": func() error {
			_, err := s.admin.SetRoles(clerk, &authv1.SetRolesRequest{UserId: bob})
			return err
		},
		"rewrites": func() error {
			_, err := s.admin.SetAttributes(clerk, &authv1.SetAttributesRequest{UserId: bob})
			return err
		},
		"disables": func() error {
			_, err := s.admin.DisableUser(clerk, &authv1.DisableUserRequest{UserId: bob})
			return err
		},
		"enables": func() error {
			_, err := s.admin.EnableUser(clerk, &authv1.EnableUserRequest{UserId: bob})
			return err
		},
		"takes over the service account": func() error {
			_, err := s.admin.RotateServiceAccountSecret(clerk,
				&authv1.RotateServiceAccountSecretRequest{ServiceAccountId: id})
			return err
		},
		"disables the service account": func() error {
			_, err := s.admin.DisableServiceAccount(clerk, &authv1.DisableServiceAccountRequest{ServiceAccountId: id})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { want(t, call(), errs.KindPermissionDenied, "PERMISSION_NOT_HELD") })
	}
}

// Taking a role ends what has it: sessions, and the tokens of API keys.
func TestTakingARoleEndsSessionsAndTokensOfAPIKeys(t *testing.T) {
	s := start(t)
	root := s.asAdmin(t)
	s.register(t, "ada@example.com")
	tokens := s.login(t, "ada@example.com")
	key := s.apiKey(t, tokens.GetAccessToken())
	exchanged, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	ada := claims(t, tokens.GetAccessToken()).Subject
	if _, err := s.admin.SetRoles(root, &authv1.SetRolesRequest{UserId: ada}); err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{"session": tokens.GetAccessToken(),
		"API key": exchanged.GetAccessToken()} {
		resp, err := s.tokens.Introspect(root, &authv1.IntrospectRequest{Token: token, Current: true})
		if err != nil || name == "session" && resp.GetActive() || len(resp.GetPermissions()) != 0 {
			t.Errorf("the token of the %s: %v, %v", name, resp, err)
		}
		s.eventuallyRefused(t, token)
	}
	_, err = s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
	want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
}

// One admin takes the role of another, who does what they can at that moment. Whatever the other did is
// recorded before
// the role was taken, because both held the lock on the other's account.
func TestNothingIsDoneByAnAdminAfterTheRoleWasTaken(t *testing.T) {
	rounds := testkit.Size(50, 1000)
	s := start(t)
	conn := dial(t, s.addr)
	defer func() { _ = conn.Close() }()
	root := s.asAdmin(t)
	bob, id := s.second(t, "bob@example.com")
	s.register(t, "ada@example.com")
	ada := s.find(t, root, "ada").GetUser().GetId()
	account, err := s.admin.CreateServiceAccount(root, &authv1.CreateServiceAccountRequest{Name: "worker",
		Permissions: []string{"wallet:read"}})
	if err != nil {
		t.Fatal(err)
	}
	var racing []protoreflect.MethodDescriptor
	for _, m := range mutations(t) { // revoking keys and secrets would end the tokens of the test
		if m.Name() != "RevokeSigningKey" && m.Name() != "DisableServiceAccount" {
			racing = append(racing, m)
		}
	}
	done := 0
	for round := range rounds {
		s.exec(t, "INSERT INTO user_roles (user_id, role) VALUES ($1, 'admin') ON CONFLICT DO NOTHING", id)
		var wg sync.WaitGroup
		m := racing[round%len(racing)]
		taken := make(chan struct{})
		target := ada
		if m.Name() == "SetRoles" {
			target = id // gives the role back
		}
		for range 2 {
			wg.Go(func() {
				for last := false; !last; {
					select {
					case <-taken:
						last = true
					default:
					}
					request, response := operation(t, m, target, account.GetServiceAccount().GetServiceAccountId(), "")
					if err := invoke(bob, conn, m, request, response); last && err == nil {
						t.Errorf("%s succeeded after the role was taken", m.Name())
					}
				}
			})
		}
		if _, err := s.admin.SetRoles(root, &authv1.SetRolesRequest{UserId: id,
			EndSessions: proto.Bool(false)}); err != nil {
			t.Fatal(err)
		}
		close(taken)
		wg.Wait()
		var before, after int
		err := s.db.SQL().QueryRowContext(t.Context(), `
			SELECT count(*) FILTER (WHERE e.id < taken.id), count(*) FILTER (WHERE e.id > taken.id)
			FROM audit_events e, (SELECT id FROM audit_events
				WHERE type = 'account.roles_set' AND subject = $1 AND actor <> $1 ORDER BY id DESC LIMIT 1) taken
			WHERE e.actor = $1 AND e.outcome = 'OK' AND e.type NOT LIKE 'session.%'`, id).Scan(&before, &after)
		if err != nil {
			t.Fatal(err)
		}
		if after != 0 {
			t.Fatalf("round %d: %d changes by %s after the role was taken", round, after, m.Name())
		}
		done = before
	}
	if done == 0 {
		t.Error("nothing was done before: the calls did not race")
	}
	testkit.Figure(t, "%d rounds, %d changes before the role was taken, 0 after", rounds, done)
}
