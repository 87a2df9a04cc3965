package app_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

const invitedSubject = "You are invited"

func (s mailed) invite(t *testing.T, as context.Context, email string, roles ...string) *authv1.UserRecord {
	t.Helper()
	resp, err := s.admin.InviteUser(as, &authv1.InviteUserRequest{Email: email, Roles: roles,
		Attributes: map[string]string{"region": "eu"}})
	if err != nil {
		t.Fatal(err)
	}
	if until := time.Until(resp.GetExpireTime().AsTime()); until < 6*24*time.Hour || until > 8*24*time.Hour {
		t.Error(until)
	}
	return resp.GetUser()
}

func (s mailed) accept(t *testing.T, code, password string) error {
	t.Helper()
	_, err := s.accounts.AcceptInvitation(t.Context(),
		&authv1.AcceptInvitationRequest{Code: code, Password: password, DisplayName: " Ada "})
	return err
}

func TestAnInvitedUserSetsThePasswordAndHasTheRoles(t *testing.T) {
	s := startMailed(t)
	admin := s.asAdmin(t)
	u := s.invite(t, admin, "Ada@Example.com", "trader")
	if u.GetInviteTime() == nil || u.GetUser().GetEmailVerified() || u.GetUser().GetEmail() != "ada@example.com" {
		t.Fatal(u)
	}
	for _, guess := range []string{"", password} {
		_, err := s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com", Password: guess})
		if err == nil {
			t.Fatal("signed in without an acceptance")
		}
	}
	code := mailedCode(t, s.wait(t, "ada@example.com", invitedSubject, 1))
	want(t, s.verify(t, code), errs.KindFailedPrecondition, "CODE_INVALID") // another purpose
	want(t, s.complete(t, code, newPassword), errs.KindFailedPrecondition, "CODE_INVALID")
	for name, tc := range map[string][2]string{"a short password": {password[:14], "password"},
		"a known password": {"123456789123456789", "password"}} {
		if e := want(t, s.accept(t, code, tc[0]), errs.KindInvalid,
			"INVALID_ARGUMENT"); e.Violations[0].Field != tc[1] {
			t.Error(name, e.Violations)
		}
	}
	_, err := s.accounts.AcceptInvitation(t.Context(),
		&authv1.AcceptInvitationRequest{Code: code, Password: "short pw", DisplayName: "a\x00"})
	if e := want(t, err, errs.KindInvalid, "INVALID_ARGUMENT"); len(e.Violations) != 2 {
		t.Error(e.Violations)
	}
	if err := s.accept(t, code, password); err != nil { // the mistakes did not use it up
		t.Fatal(err)
	}
	want(t, s.accept(t, code, newPassword), errs.KindFailedPrecondition, "CODE_INVALID")
	token := s.login(t, "ada@example.com").GetAccessToken()
	c, me := claims(t, token), s.me(t, token)
	if !slices.Equal(c.Roles, []string{"trader"}) || c.Attributes["region"] != "eu" || !me.GetEmailVerified() ||
		me.GetDisplayName() != "Ada" {
		t.Errorf("%+v %v", c, me)
	}
	if s.find(t, admin, "ada").GetInviteTime() != nil {
		t.Error("the invitation is still open")
	}
	_, err = s.admin.InviteUser(admin, &authv1.InviteUserRequest{Email: "ada@example.com"})
	want(t, err, errs.KindAlreadyExists, "USER_EXISTS")
	events := s.events(t)
	for _, e := range []string{"account.invited OK ", "account.invitation_accepted REFUSED CODE_INVALID",
		"account.invitation_accepted OK "} {
		if !slices.Contains(events, e) {
			t.Error(e, events)
		}
	}
}

func TestAnInvitationIsRenewedWithdrawnAndBounded(t *testing.T) {
	s := startMailed(t)
	admin := s.asAdmin(t)
	s.invite(t, admin, "ada@example.com", "admin")
	first := mailedCode(t, s.wait(t, "ada@example.com", invitedSubject, 1))
	again := s.invite(t, admin, "ada@example.com", "trader")
	if !slices.Equal(again.GetUser().GetRoles(), []string{"trader"}) {
		t.Error(again)
	}
	second := mailedCode(t, s.wait(t, "ada@example.com", invitedSubject, 2))
	want(t, s.accept(t, first, password), errs.KindFailedPrecondition, "CODE_INVALID")

	// An invited admin is none who could keep the others: nobody may ever accept.
	s.invite(t, admin, "eve@example.com", "admin")
	root := s.find(t, admin, "root").GetUser().GetId()
	_, err := s.admin.SetRoles(admin, &authv1.SetRolesRequest{UserId: root})
	want(t, err, errs.KindFailedPrecondition, "LAST_ADMIN")
	// Nor can a clerk rewrite the invitation of one.
	clerk := s.serve(t, admin, "clerk", "admin:users")
	_, err = s.admin.InviteUser(clerk, &authv1.InviteUserRequest{Email: "eve@example.com"})
	want(t, err, errs.KindPermissionDenied, "PERMISSION_NOT_HELD")

	id := again.GetUser().GetId()
	if _, err := s.admin.DisableUser(admin, &authv1.DisableUserRequest{UserId: id}); err != nil {
		t.Fatal(err)
	}
	want(t, s.accept(t, second, password), errs.KindFailedPrecondition, "CODE_INVALID")
	_, err = s.admin.InviteUser(admin, &authv1.InviteUserRequest{Email: "ada@example.com"})
	want(t, err, errs.KindFailedPrecondition, "ACCOUNT_DISABLED")
	if _, err := s.admin.EnableUser(admin, &authv1.EnableUserRequest{UserId: id}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		s.invite(t, admin, "ada@example.com")
	}
	_, err = s.admin.InviteUser(admin, &authv1.InviteUserRequest{Email: "ada@example.com"})
	want(t, err, errs.KindExhausted, "TOO_MANY_MAILS")
	s.exec(t, "UPDATE mailed_codes SET expires_at = now()")
	want(t, s.accept(t, mailedCode(t, s.wait(t, "ada@example.com", invitedSubject, 5)), password),
		errs.KindFailedPrecondition, "CODE_INVALID")

	for field, bad := range map[string]*authv1.InviteUserRequest{
		"email":      {Email: "ada@"},
		"roles[1]":   {Email: "bob@example.com", Roles: []string{"trader", "root"}},
		"attributes": {Email: "bob@example.com", Attributes: map[string]string{"Tier": "x"}},
	} {
		_, err := s.admin.InviteUser(admin, bad)
		if e := want(t, err, errs.KindInvalid, "INVALID_ARGUMENT"); e.Violations[0].Field != field {
			t.Error(field, e.Violations)
		}
	}
}

// The invited may prove the address in another way; nobody else gets the roles.
func TestAnInvitationIsAcceptedByWhoeverProvesTheAddress(t *testing.T) {
	p := newProvider(t)
	s := startMailed(t, append(p.settings(), "PURSER_REDIS_URL="+redisOf(t))...)
	admin := s.asAdmin(t)
	for name, tc := range map[string]struct {
		prove func(t *testing.T, email string) string // returns a token
	}{
		"with a provider": {func(t *testing.T, email string) string {
			p.signedIn(email, email, false)
			_, err := s.sessions.FinishOAuth(t.Context(), s.begin(t, p))
			want(t, err, errs.KindFailedPrecondition, "PROVIDER_EMAIL_UNVERIFIED")
			p.signedIn(email, email, true)
			return s.signIn(t, p).GetAccessToken()
		}},
		"with a password reset": {func(t *testing.T, email string) string {
			s.askReset(t, email)
			code := mailedCode(t, s.wait(t, email, resetSubject, 1))
			if err := s.complete(t, code, password); err != nil {
				t.Fatal(err)
			}
			return s.login(t, email).GetAccessToken()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			email := strings.ReplaceAll(name, " ", ".") + "@example.com"
			s.invite(t, admin, email, "trader")
			invitation := mailedCode(t, s.wait(t, email, invitedSubject, 1))
			// Who registers the address gets nothing of the account.
			s.register(t, email)
			_, err := s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: email, Password: password})
			want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
			token := tc.prove(t, email)
			if roles := s.me(t, token).GetRoles(); !slices.Equal(roles, []string{"trader"}) {
				t.Error(roles)
			}
			if s.find(t, admin, email).GetInviteTime() != nil {
				t.Error("the invitation is still open")
			}
			want(t, s.accept(t, invitation, newPassword), errs.KindFailedPrecondition, "CODE_INVALID")
		})
	}
}

func TestOneOfConcurrentAcceptancesWins(t *testing.T) {
	s := startMailed(t)
	admin := s.asAdmin(t)
	s.invite(t, admin, "ada@example.com", "trader")
	code := mailedCode(t, s.wait(t, "ada@example.com", invitedSubject, 1))
	passwords := []string{"the first of four words", "the second of four words", "the third of four words"}
	won := make([]bool, len(passwords))
	var all sync.WaitGroup
	for i, pw := range passwords {
		all.Go(func() {
			_, err := s.accounts.AcceptInvitation(t.Context(),
				&authv1.AcceptInvitationRequest{Code: code, Password: pw})
			won[i] = err == nil
		})
	}
	all.Wait()
	for i, pw := range passwords {
		_, err := s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: "ada@example.com", Password: pw})
		if won[i] != (err == nil) {
			t.Errorf("%q accepted: %v, signs in: %v", pw, won[i], err)
		}
	}
	if n := slices.Index(won, true); n < 0 || slices.Contains(won[n+1:], true) {
		t.Error(won)
	}
}

func TestConcurrentInvitationsMakeOneAccount(t *testing.T) {
	s := startMailed(t)
	admin := s.asAdmin(t)
	var all sync.WaitGroup
	for range 6 {
		all.Go(func() {
			_, err := s.admin.InviteUser(admin, &authv1.InviteUserRequest{Email: "ada@example.com"})
			if e := errs.As(err); err != nil && e.Reason != "TRY_AGAIN" && e.Reason != "TOO_MANY_MAILS" {
				t.Error(err)
			}
		})
	}
	all.Wait()
	s.find(t, admin, "ada")
	if n := s.count(t, "mailed_codes WHERE purpose = 'INVITATION'"); n != 1 {
		t.Errorf("%d codes", n)
	}
	_, err := s.admin.InviteUser(grpcclient.WithToken(t.Context(), "x"),
		&authv1.InviteUserRequest{Email: "bob@example.com"})
	if !errs.Is(err, errs.KindUnauthenticated) {
		t.Error(err)
	}
}

// DisableUser withdraws an invitation. Codes that prove the address in another way would accept it all the same, and
// EnableUser, which comes before the next invitation, would let the withdrawn roles in.
func TestAWithdrawnInvitationIsNotAcceptedInAnotherWay(t *testing.T) {
	s := startMailed(t)
	root := s.asAdmin(t)
	id := s.invite(t, root, ada, "admin").GetUser().GetId()
	s.askReset(t, ada)
	reset := mailedCode(t, s.wait(t, ada, resetSubject, 1))
	if _, err := s.accounts.ResendVerification(t.Context(),
		&authv1.ResendVerificationRequest{Email: ada}); err != nil {
		t.Fatal(err)
	}
	verification := mailedCode(t, s.wait(t, ada, verifySubject, 1))
	if _, err := s.admin.DisableUser(root, &authv1.DisableUserRequest{UserId: id}); err != nil {
		t.Fatal(err)
	}
	want(t, s.complete(t, reset, newPassword), errs.KindFailedPrecondition, "CODE_INVALID")
	want(t, s.verify(t, verification), errs.KindFailedPrecondition, "CODE_INVALID")
	if _, err := s.admin.EnableUser(root, &authv1.EnableUserRequest{UserId: id}); err != nil {
		t.Fatal(err)
	}
	again := s.invite(t, root, ada, "trader")
	if !slices.Equal(again.GetUser().GetRoles(), []string{"trader"}) || again.GetInviteTime() == nil {
		t.Error(again)
	}
	_, err := s.tryLogin(t, ada, newPassword)
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
}

// Mallory registers the address of a colleague whom an admin is about to invite. What the admin is told to do instead
// must not give Mallory the roles.
func TestTheAdminIsNotToldToGiveRolesToAnAccountThatNobodyProved(t *testing.T) {
	s := startMailed(t)
	root := s.asAdmin(t)
	s.register(t, ada)
	mallory := s.login(t, ada).GetAccessToken()
	_, err := s.admin.InviteUser(root, &authv1.InviteUserRequest{Email: ada, Roles: []string{"admin"}})
	e := want(t, err, errs.KindAlreadyExists, "USER_EXISTS")
	if strings.Contains(e.Message, "SetRoles") || !strings.Contains(e.Message, "DeleteUser") {
		t.Error(e)
	}
	_, err = s.admin.SetRoles(root, &authv1.SetRolesRequest{UserId: claims(t, mallory).Subject,
		Roles: []string{"admin"}})
	want(t, err, errs.KindFailedPrecondition, "EMAIL_UNVERIFIED")
	if _, err = s.admin.SetRoles(root, &authv1.SetRolesRequest{UserId: claims(t, mallory).Subject,
		Roles: []string{"trader"}}); err != nil { // which permits what every new account is permitted
		t.Error(err)
	}
	// As it says.
	if _, err := s.deletions(t).DeleteUser(root,
		&authv1.DeleteUserRequest{UserId: claims(t, mallory).Subject}); err != nil {
		t.Fatal(err)
	}
	s.invite(t, root, ada, "admin")
	if err := s.accept(t, mailedCode(t, s.wait(t, ada, invitedSubject, 1)), newPassword); err != nil {
		t.Fatal(err)
	}
	_, err = s.tryLogin(t, ada, password)
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")

	s.registerVerified(t, fresh) // the control
	_, err = s.admin.InviteUser(root, &authv1.InviteUserRequest{Email: fresh})
	if e := want(t, err, errs.KindAlreadyExists, "USER_EXISTS"); !strings.Contains(e.Message, "SetRoles") {
		t.Error(e)
	}
	if _, err := s.admin.SetRoles(root, &authv1.SetRolesRequest{Roles: []string{"admin"},
		UserId: s.find(t, root, fresh).GetUser().GetId()}); err != nil {
		t.Error(err)
	}
}
