package app_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
)

func TestNobodyGrantsARoleThatPermitsMoreThanTheirOwn(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	s.register(t, "ada@example.com")
	ada := s.find(t, admin, "ada").GetUser().GetId()
	weak := s.serve(t, admin, "weak", "admin:users")
	clerk := s.serve(t, admin, "clerk", append(permissionsOf("individual_investor"), "admin:users")...)
	for _, roles := range [][]string{{"admin"}, {"trader"}, {"trader", "admin"}} {
		_, err := s.admin.SetRoles(weak, &authv1.SetRolesRequest{UserId: ada, Roles: roles})
		want(t, err, errs.KindPermissionDenied, "PERMISSION_NOT_HELD")
	}
	_, err := s.admin.SetRoles(clerk, &authv1.SetRolesRequest{UserId: ada, Roles: []string{"admin", "trader"}})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_NOT_HELD")
	if got := fmt.Sprint(s.find(t, admin, "ada").GetUser().GetRoles()); got != "[individual_investor]" {
		t.Error("she has", got)
	}
	// What it holds itself it gives and takes.
	for _, roles := range [][]string{{"trader"}, nil} {
		if _, err := s.admin.SetRoles(clerk, &authv1.SetRolesRequest{UserId: ada, Roles: roles}); err != nil {
			t.Error(roles, err)
		}
	}
}

// Whatever attributes an account is given, its tokens are ones that verifiers
// take: a "<" is six bytes in JSON, and eight in a token.
func TestATokenWithTheMaximumOfAttributesIsAccepted(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	s.register(t, "ada@example.com")
	ada := s.find(t, admin, "ada").GetUser().GetId()
	s.exec(t, "UPDATE users SET email_verified_at = now()")
	accepted := 0
	for _, filling := range []string{"x", "<", "&", "\"", "\u2028", "é", "🜁"} {
		attributes := map[string]string{}
		for i := range 16 { // as much as is accepted of it
			attributes[fmt.Sprintf("a%d", i)] = strings.Repeat(filling, 128/len(filling))
			_, err := s.admin.SetAttributes(admin, &authv1.SetAttributesRequest{UserId: ada, Attributes: attributes})
			if err != nil {
				want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
				break
			}
			accepted++
			s.me(t, s.login(t, "ada@example.com").GetAccessToken())
		}
	}
	if accepted < 7 {
		t.Errorf("%d were accepted", accepted)
	}
}

func TestAnAdminSeesWhoseAddressIsVerified(t *testing.T) {
	s := startMailed(t)
	admin := s.asAdmin(t)
	s.register(t, "ada@example.com")
	if s.find(t, admin, "ada").GetUser().GetEmailVerified() {
		t.Error("it is not verified")
	}
	if err := s.verify(t, mailedCode(t, s.wait(t, "ada@example.com", verifySubject, 1))); err != nil {
		t.Fatal(err)
	}
	if !s.find(t, admin, "ada").GetUser().GetEmailVerified() {
		t.Error("it is verified")
	}
}

// What no text in Postgres can hold is of nothing.
func TestANULByteNamesNoKeyAndNoJob(t *testing.T) {
	s := start(t)
	admin := s.asAdmin(t)
	_, err := s.admin.RevokeSigningKey(admin, &authv1.RevokeSigningKeyRequest{Kid: "x\x00"})
	want(t, err, errs.KindNotFound, "NOT_FOUND")
	if runs, err := s.jobs.ListJobRuns(admin, &jobsv1.ListJobRunsRequest{Job: "x\x00"}); err != nil ||
		len(runs.GetRuns()) > 0 {
		t.Error(runs, err)
	}
}
