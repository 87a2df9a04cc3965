package app_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

func (s service) issue(t *testing.T, client, secret string) (string, error) {
	t.Helper()
	resp, err := s.sessions.IssueServiceAccountToken(t.Context(),
		&authv1.IssueServiceAccountTokenRequest{ClientId: client, ClientSecret: secret})
	return resp.GetAccessToken(), err
}

// serve is the context of a service account with these permissions.
func (s service) serve(t *testing.T, admin context.Context, name string, permissions ...string) context.Context {
	t.Helper()
	made, err := s.admin.CreateServiceAccount(admin,
		&authv1.CreateServiceAccountRequest{Name: name, Permissions: permissions})
	if err != nil {
		t.Fatal(err)
	}
	token, err := s.issue(t, name, made.GetClientSecret())
	if err != nil {
		t.Fatal(err)
	}
	return grpcclient.WithToken(t.Context(), token)
}

func TestAServiceAccountSignsInAsItself(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	made, err := s.admin.CreateServiceAccount(admin,
		&authv1.CreateServiceAccountRequest{Name: "portfolio", Permissions: []string{"wallet:read", "wallet:any"}})
	if err != nil || !strings.HasPrefix(made.GetClientSecret(), "purser_svc_") {
		t.Fatal(made, err)
	}
	account := made.GetServiceAccount()
	var stored int
	err = s.db.SQL().QueryRowContext(t.Context(),
		"SELECT count(*) FROM service_secrets x WHERE strpos(x::text, $1) > 0", made.GetClientSecret()).Scan(&stored)
	if err != nil || stored != 0 {
		t.Error("the secret itself is stored", err)
	}
	token, err := s.issue(t, "portfolio", made.GetClientSecret())
	if err != nil {
		t.Fatal(err)
	}
	c := claims(t, token)
	if c.Subject != account.GetServiceAccountId() ||
		fmt.Sprint(c.AMR, c.Permissions, len(c.Roles)) != "[svc] [wallet:any wallet:read] 0" ||
		time.Until(c.ExpiresAt.Time) > 5*time.Minute {
		t.Errorf("%+v", c)
	}
	wrong := made.GetClientSecret()[:20] + "wrong"
	var first error
	for name, tc := range map[string][2]string{
		"a wrong secret":         {"portfolio", wrong},
		"an unknown client":      {"nobody", made.GetClientSecret()},
		"a client of a NUL byte": {"portfolio\x00", made.GetClientSecret()},
	} {
		_, err := s.issue(t, tc[0], tc[1])
		want(t, err, errs.KindUnauthenticated, "SERVICE_SECRET_INVALID")
		if first != nil && err.Error() != first.Error() {
			t.Errorf("%s is told apart: %v and %v", name, err, first)
		}
		first = err
	}
	_, err = s.admin.CreateServiceAccount(admin, &authv1.CreateServiceAccountRequest{Name: "portfolio"})
	want(t, err, errs.KindAlreadyExists, "SERVICE_ACCOUNT_EXISTS")
	for _, name := range []string{"Portfolio", "a b", "1st", "x\x00"} {
		_, err = s.admin.CreateServiceAccount(admin, &authv1.CreateServiceAccountRequest{Name: name})
		want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	}
	_, err = s.admin.CreateServiceAccount(admin,
		&authv1.CreateServiceAccountRequest{Name: "x", Permissions: []string{"root"}})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
}

func TestTheOldSecretStaysValidForTheOverlap(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	made, err := s.admin.CreateServiceAccount(admin, &authv1.CreateServiceAccountRequest{Name: "portfolio"})
	if err != nil {
		t.Fatal(err)
	}
	id := made.GetServiceAccount().GetServiceAccountId()
	token, err := s.issue(t, "portfolio", made.GetClientSecret())
	if err != nil {
		t.Fatal(err)
	}
	active := func() bool {
		t.Helper()
		seen, err := s.tokens.Introspect(admin, &authv1.IntrospectRequest{Token: token})
		if err != nil {
			t.Fatal(err)
		}
		return seen.GetActive()
	}
	second, err := s.admin.RotateServiceAccountSecret(admin,
		&authv1.RotateServiceAccountSecretRequest{ServiceAccountId: id, Overlap: durationpb.New(time.Hour)})
	if err != nil || len(second.GetServiceAccount().GetSecrets()) != 2 ||
		second.GetServiceAccount().GetSecrets()[1].GetExpireTime() == nil {
		t.Fatal(second, err)
	}
	for _, secret := range []string{made.GetClientSecret(), second.GetClientSecret()} {
		if _, err := s.issue(t, "portfolio", secret); err != nil {
			t.Error(err)
		}
	}
	if !active() {
		t.Error("a token of a secret that is still good is not")
	}
	third, err := s.admin.RotateServiceAccountSecret(admin,
		&authv1.RotateServiceAccountSecretRequest{ServiceAccountId: id})
	if err != nil || len(third.GetServiceAccount().GetSecrets()) != 1 {
		t.Fatal(third, err)
	}
	for _, secret := range []string{made.GetClientSecret(), second.GetClientSecret()} {
		_, err := s.issue(t, "portfolio", secret)
		want(t, err, errs.KindUnauthenticated, "SERVICE_SECRET_INVALID")
	}
	// a token of a secret that was ended is not good
	testkit.Eventually(t, 5*time.Second, func() bool { return !active() })
	if n := s.announced(t, "SESSION"); n != 2 {
		t.Errorf("%d ended secrets are announced", n)
	}
	for range 2 {
		if _, err := s.admin.DisableServiceAccount(admin,
			&authv1.DisableServiceAccountRequest{ServiceAccountId: id}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.issue(t, "portfolio", third.GetClientSecret())
	want(t, err, errs.KindUnauthenticated, "SERVICE_SECRET_INVALID")
	if n := s.announced(t, "USER"); n != 1 {
		t.Errorf("the disabled account is announced %d times", n)
	}
	_, err = s.admin.RotateServiceAccountSecret(admin, &authv1.RotateServiceAccountSecretRequest{ServiceAccountId: id})
	want(t, err, errs.KindFailedPrecondition, "SERVICE_ACCOUNT_DISABLED")
	_, err = s.admin.RotateServiceAccountSecret(admin,
		&authv1.RotateServiceAccountSecretRequest{ServiceAccountId: uuid.NewString()})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	list, err := s.admin.ListServiceAccounts(admin, &authv1.ListServiceAccountsRequest{})
	if err != nil || len(list.GetServiceAccounts()) != 1 || list.GetServiceAccounts()[0].GetDisableTime() == nil ||
		len(list.GetServiceAccounts()[0].GetSecrets()) != 0 {
		t.Error(list, err)
	}
}

// announced counts the revocations of a kind.
func (s service) announced(t *testing.T, kind string) (n int) {
	t.Helper()
	if err := s.db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM revocations WHERE kind = $1",
		kind).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAServiceAccountIsNoUserAndGrantsNoMoreThanItHolds(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	robot := s.serve(t, admin, "robot", "admin:system", "wallet:read")
	for name, call := range map[string]func() error{
		"changes its second factor": func() error {
			_,
				err := s.sessions.EnrollTotp(robot, &authv1.EnrollTotpRequest{})
			return err
		},
		"steps up": func() error {
			_, err := s.sessions.Reauthenticate(robot, &authv1.ReauthenticateRequest{Password: "x"})
			return err
		},
		"makes a key": func() error {
			_, err := s.keys.CreateApiKey(robot,
				&authv1.CreateApiKeyRequest{Name: "x", Scopes: []string{"wallet:read"}})
			return err
		},
		"lists sessions": func() error {
			_, err := s.sessions.ListSessions(robot, &authv1.ListSessionsRequest{})
			return err
		},
		"ends sessions": func() error {
			_, err := s.sessions.LogoutAll(robot,
				&authv1.LogoutAllRequest{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) { want(t, call(), errs.KindPermissionDenied, "SERVICE_CALLER") })
	}
	_, err := s.admin.CreateServiceAccount(robot,
		&authv1.CreateServiceAccountRequest{Name: "child", Permissions: []string{"admin:users"}})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_NOT_HELD")
	stronger, err := s.admin.CreateServiceAccount(admin,
		&authv1.CreateServiceAccountRequest{Name: "stronger", Permissions: []string{"admin:users"}})
	if err != nil {
		t.Fatal(err)
	}
	strongerID := stronger.GetServiceAccount().GetServiceAccountId()
	_, err = s.admin.RotateServiceAccountSecret(robot,
		&authv1.RotateServiceAccountSecretRequest{ServiceAccountId: strongerID})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_NOT_HELD")
	_, err = s.admin.ListUsers(robot, &authv1.ListUsersRequest{})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
}

func TestOnlyATrustedServiceAccountStatesTheClientAddress(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	gateway, other := s.serve(t, admin, "gateway", "client:forward"), s.serve(t, admin, "other", "wallet:read")
	guess := func(ctx context.Context, address ...string) string {
		t.Helper()
		for _, a := range address {
			ctx = metadata.AppendToOutgoingContext(ctx, "purser-client-address", a)
		}
		_, err := s.sessions.Login(ctx, &authv1.LoginRequest{Email: uuid.NewString() + "@example.com",
			Password: "not the password"})
		want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
		var at string
		if err := s.db.SQL().QueryRowContext(t.Context(),
			"SELECT ip_address FROM audit_personal ORDER BY event_id DESC LIMIT 1").Scan(&at); err != nil {
			t.Fatal(err)
		}
		return at
	}
	callers := map[string]context.Context{
		"the gateway": gateway, "a service without the permission": other, "an admin, who is no service": admin,
		"nobody": t.Context(), "who has a token that is none": grpcclient.WithToken(t.Context(), "x"),
	}
	for by, ctx := range callers {
		for said, want := range map[string]string{
			"192.0.2.7": "192.0.2.7", "2001:db8::7": "2001:db8::/64", "": "127.0.0.1",
			"192.0.2.7, 192.0.2.8": "127.0.0.1", "192.0.2.7:80": "127.0.0.1",
		} {
			if by != "the gateway" {
				want = "127.0.0.1"
			}
			if got := guess(ctx, said); got != want {
				t.Errorf("%s said %q, and the call came from %s, not %s", by, said, got, want)
			}
		}
	}
	if got := guess(gateway, "192.0.2.7", "192.0.2.8"); got != "127.0.0.1" {
		t.Errorf("of two addresses %s was taken", got)
	}
	if got := guess(gateway); got != "127.0.0.1" {
		t.Errorf("of no address %s was taken", got)
	}
}

func TestEnsuringAServiceAccountAgainChangesNothing(t *testing.T) {
	s := start(t)
	file := filepath.Join(t.TempDir(), "secret")
	ensure := func(permissions string) string {
		t.Helper()
		if out, err := s.command(t, "service-account", "ensure", "portfolio", "--permissions="+permissions,
			"--secret-file="+file); err != nil || !strings.HasPrefix(out, "portfolio is there") {
			t.Fatal(out, err)
		}
		b, err := os.ReadFile(file)
		if info, statErr := os.Stat(file); err != nil || statErr != nil || info.Mode().Perm() != 0o600 {
			t.Fatal(err, statErr, info.Mode())
		}
		return strings.TrimSpace(string(b))
	}
	first := ensure("wallet:read")
	if again := ensure("wallet:read"); again != first {
		t.Error("the secret was replaced")
	}
	if changed := ensure("wallet:read,wallet:any"); changed != first {
		t.Error("the secret was replaced")
	}
	token, err := s.issue(t, "portfolio", first)
	if err != nil || fmt.Sprint(claims(t, token).Permissions) != "[wallet:any wallet:read]" {
		t.Error(err)
	}
	if err := os.WriteFile(file, []byte("lost"), 0o600); err != nil {
		t.Fatal(err)
	}
	second := ensure("wallet:read,wallet:any")
	for _, secret := range []string{first, second} { // the first for an hour, for who uses it
		if _, err := s.issue(t, "portfolio", secret); err != nil {
			t.Error(err)
		}
	}
	out, err := s.command(t, "service-account", "ensure", "other")
	if err != nil || !strings.HasPrefix(out, "purser_svc_") {
		t.Error(out, err)
	}
	for _, args := range [][]string{{"ensure"}, {"make", "x"}, {"ensure", "x", "--what"}, {"ensure", "x", "y"},
		{"ensure", "No Name"}, {"ensure", "x", "--permissions=root"}} {
		if out, err := s.command(t, append([]string{"service-account"}, args...)...); err == nil {
			t.Errorf("%v was taken: %s", args, out)
		}
	}
}

func TestAGivenSecretIsAccepted(t *testing.T) {
	s := start(t)
	file := filepath.Join(t.TempDir(), "secret")
	ensure := func(secret string) (string, error) {
		t.Helper()
		if err := os.WriteFile(file, []byte(secret+"\n"), 0o400); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = os.Remove(file) }()
		return s.command(t, "service-account", "ensure", "portfolio", "--permissions=wallet:read",
			"--given-secret-file="+file)
	}
	made := func(letter string) string { return "purser_svc_" + strings.Repeat(letter, 42) + "A" }
	for _, secret := range []string{"", "guess", made("a")[len("purser_svc_"):], made("a") + "A", made("a")[:30],
		made("a")[:53] + "B", made("!")} {
		if out, err := ensure(secret); err == nil {
			t.Errorf("%q was taken: %s", secret, out)
		}
	}
	for i, step := range []struct{ secret, says string }{
		{made("a"), "became its newest secret"}, {made("a"), "is a secret of it"},
		{made("b"), "became its newest secret"}, {made("a"), "is a secret of it"},
	} {
		if out, err := ensure(step.secret); err != nil || !strings.Contains(out, step.says) ||
			strings.Contains(out, step.secret) {
			t.Errorf("step %d: %q, %v", i, out, err)
		}
		if _, err := s.issue(t, "portfolio", step.secret); err != nil {
			t.Errorf("step %d: %v", i, err)
		}
	}
	if out, err := s.command(t, "service-account", "ensure", "portfolio", "--given-secret-file="+file); err == nil {
		t.Errorf("a file that isn't there was taken: %s", out)
	}
	if out, err := s.command(t, "service-account", "ensure", "portfolio", "--given-secret-file="+file,
		"--secret-file="+file); err == nil {
		t.Errorf("both were taken: %s", out)
	}
}
