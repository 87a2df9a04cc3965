package app_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

func TestThePermissionsOfAServiceAccountChange(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	made, err := s.admin.CreateServiceAccount(admin, &authv1.CreateServiceAccountRequest{Name: "worker",
		Permissions: []string{"wallet:read", "wallet:any"}})
	if err != nil {
		t.Fatal(err)
	}
	id := made.GetServiceAccount().GetServiceAccountId()
	token, err := s.issue(t, "worker", made.GetClientSecret())
	if err != nil {
		t.Fatal(err)
	}
	update := func(permissions ...string) []string {
		t.Helper()
		resp, err := s.admin.UpdateServiceAccount(admin,
			&authv1.UpdateServiceAccountRequest{ServiceAccountId: id, Permissions: permissions})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetServiceAccount().GetPermissions()
	}
	more := []string{"portfolio:read", "wallet:any", "wallet:read"}
	if got := update("wallet:any", "portfolio:read", "wallet:read"); !slices.Equal(got, more) {
		t.Error(got)
	}
	if n := s.announced(t, "USER"); n != 0 {
		t.Error("tokens ended though nothing was taken")
	}
	update(more...) // changes nothing
	if got := update("wallet:read"); !slices.Equal(got, []string{"wallet:read"}) {
		t.Error(got)
	}
	s.eventuallyRefused(t, token)
	if n := s.count(t, "audit_events WHERE type = 'service_account.changed' AND actor IS NOT NULL"); n != 2 {
		t.Errorf("%d events", n)
	}
	// The secret is as good as before, for what is left. A token of the very second of the change is refused too.
	testkit.Eventually(t, time.Minute, func() bool {
		token, err := s.issue(t, "worker", made.GetClientSecret())
		if err != nil || !slices.Equal(claims(t, token).Permissions, []string{"wallet:read"}) {
			t.Fatal(err)
		}
		seen, err := s.tokens.Introspect(admin, &authv1.IntrospectRequest{Token: token})
		return err == nil && seen.GetActive()
	})
	_, err = s.admin.UpdateServiceAccount(admin,
		&authv1.UpdateServiceAccountRequest{ServiceAccountId: id, Permissions: []string{"wallet:read", "root"}})
	if e := want(t, err, errs.KindInvalid, "INVALID_ARGUMENT"); e.Violations[0].Field != "permissions[1]" {
		t.Error(e.Violations)
	}
	_, err = s.admin.UpdateServiceAccount(admin,
		&authv1.UpdateServiceAccountRequest{ServiceAccountId: uuid.NewString()})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	// Nobody gives what they don't hold.
	clerk := s.serve(t, admin, "clerk", "admin:system", "wallet:read")
	_, err = s.admin.UpdateServiceAccount(clerk, &authv1.UpdateServiceAccountRequest{ServiceAccountId: id,
		Permissions: []string{"wallet:read", "wallet:any"}})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_NOT_HELD")
	if _, err := s.admin.UpdateServiceAccount(clerk,
		&authv1.UpdateServiceAccountRequest{ServiceAccountId: id}); err != nil {
		t.Error(err)
	}
}

func TestAnEnabledServiceAccountNeedsANewSecret(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	made, err := s.admin.CreateServiceAccount(admin, &authv1.CreateServiceAccountRequest{Name: "worker",
		Permissions: []string{"wallet:read"}})
	if err != nil {
		t.Fatal(err)
	}
	id := made.GetServiceAccount().GetServiceAccountId()
	token, err := s.issue(t, "worker", made.GetClientSecret())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.admin.DisableServiceAccount(admin,
		&authv1.DisableServiceAccountRequest{ServiceAccountId: id}); err != nil {
		t.Fatal(err)
	}
	_, err = s.admin.RotateServiceAccountSecret(admin,
		&authv1.RotateServiceAccountSecretRequest{ServiceAccountId: id})
	want(t, err, errs.KindFailedPrecondition, "SERVICE_ACCOUNT_DISABLED")
	for range 2 {
		if _, err := s.admin.EnableServiceAccount(admin,
			&authv1.EnableServiceAccountRequest{ServiceAccountId: id}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = s.issue(t, "worker", made.GetClientSecret())
	want(t, err, errs.KindUnauthenticated, "SERVICE_SECRET_INVALID")
	s.eventuallyRefused(t, token)
	got, err := s.admin.GetServiceAccount(admin, &authv1.GetServiceAccountRequest{ServiceAccountId: id})
	if err != nil || got.GetServiceAccount().GetDisableTime() != nil ||
		len(got.GetServiceAccount().GetSecrets()) != 0 {
		t.Fatal(got, err)
	}
	fresh, err := s.admin.RotateServiceAccountSecret(admin,
		&authv1.RotateServiceAccountSecretRequest{ServiceAccountId: id})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.issue(t, "worker", fresh.GetClientSecret()); err != nil {
		t.Error(err)
	}
	if n := s.count(t, "audit_events WHERE type = 'service_account.enabled'"); n != 1 {
		t.Errorf("%d events", n)
	}
	for _, id := range []string{uuid.NewString(), "worker"} {
		_, err := s.admin.GetServiceAccount(admin, &authv1.GetServiceAccountRequest{ServiceAccountId: id})
		if !errs.Is(err, errs.KindNotFound) && !errs.Is(err, errs.KindInvalid) {
			t.Error(id, err)
		}
	}
}

func TestServiceAccountsAreListedInPages(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	for _, name := range []string{"b", "a1", "a-z", "c", "a"} {
		if _, err := s.admin.CreateServiceAccount(admin,
			&authv1.CreateServiceAccountRequest{Name: name}); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	request := &authv1.ListServiceAccountsRequest{PageSize: 2}
	for range 5 {
		list, err := s.admin.ListServiceAccounts(admin, request)
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range list.GetServiceAccounts() {
			names = append(names, a.GetName())
		}
		if request.PageToken = list.GetNextPageToken(); request.PageToken == "" {
			break
		}
	}
	if fmt.Sprint(names) != "[a a-z a1 b c]" {
		t.Error(names)
	}
	bob, _ := s.second(t, "bob@example.com")
	list, err := s.admin.ListServiceAccounts(admin, &authv1.ListServiceAccountsRequest{PageSize: 1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.admin.ListServiceAccounts(bob, &authv1.ListServiceAccountsRequest{PageToken: list.GetNextPageToken()})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT") // another's
	_, err = s.admin.ListServiceAccounts(admin, &authv1.ListServiceAccountsRequest{PageSize: 201})
	want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	_, err = s.admin.ListServiceAccounts(grpcclient.WithToken(t.Context(), s.plain(t)),
		&authv1.ListServiceAccountsRequest{})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_MISSING")
}

// plain is the token of somebody without a permission of an operator.
func (s service) plain(t *testing.T) string {
	t.Helper()
	s.register(t, "plain@example.com")
	return s.login(t, "plain@example.com").GetAccessToken()
}
