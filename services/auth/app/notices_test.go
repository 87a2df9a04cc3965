package app_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

const keySubject = "An API key was made"

// walk does with an account what its owner is told of, and returns the subjects of those mails in order.
func (s mailed) walk(t *testing.T, email string) []string {
	t.Helper()
	token := s.login(t, email).GetAccessToken()
	me := grpcclient.WithToken(t.Context(), token)
	s.apiKey(t, token)
	w := newWallet(t)
	s.link(t, token, w)
	list, err := s.identities.ListIdentities(me, &authv1.ListIdentitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.identities.UnlinkIdentity(me,
		&authv1.UnlinkIdentityRequest{IdentityId: list.GetIdentities()[0].GetIdentityId()}); err != nil {
		t.Fatal(err)
	}
	enrolled, err := s.sessions.EnrollTotp(me, &authv1.EnrollTotpRequest{})
	if err != nil {
		t.Fatal(err)
	}
	confirmed, err := s.sessions.ConfirmTotp(me, &authv1.ConfirmTotpRequest{
		TotpCode: code(t, enrolled.GetSecret(), time.Now().Add(-30*time.Second))})
	if err != nil {
		t.Fatal(err)
	}
	in, err := s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: email, Password: password,
		SecondFactorCode: confirmed.GetRecoveryCodes()[0]})
	if err != nil {
		t.Fatal(err)
	}
	me = s.as(t, in.GetTokens())
	renewed, err := s.sessions.RenewRecoveryCodes(me,
		&authv1.RenewRecoveryCodesRequest{SecondFactorCode: confirmed.GetRecoveryCodes()[1]})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.sessions.DisableTotp(me,
		&authv1.DisableTotpRequest{SecondFactorCode: renewed.GetRecoveryCodes()[0]}); err != nil {
		t.Fatal(err)
	}
	if err := s.change(me, password, newPassword); err != nil {
		t.Fatal(err)
	}
	return []string{keySubject, "A way to sign in was added", "A way to sign in was removed",
		"A second factor was set up", "A recovery code was used", "Your recovery codes were replaced",
		"Your second factor was removed", changedSubject}
}

func TestAnOwnerIsMailedWhatIsDoneToTheirAccount(t *testing.T) {
	s := startMailed(t, "PURSER_REDIS_URL="+redisOf(t), "PURSER_SIWE_DOMAIN=app.example")
	s.registerVerified(t, ada)
	for _, subject := range s.walk(t, ada) {
		m := s.wait(t, ada, subject, 1)
		if !strings.Contains(m.Body, "from the address 127.0.0.1.") ||
			!strings.Contains(m.Body, time.Now().UTC().Format("2 January 2006")) || strings.Contains(m.Body, "bot") {
			t.Errorf("%s: %q", subject, m.Body)
		}
	}
	if n := s.count(t, "mails WHERE queued_at < clock_timestamp()"); n != 9 { // and the code of the registration
		t.Errorf("%d mails", n)
	}
}

// The address may be a stranger's.
func TestAnAddressThatIsNotVerifiedGetsNoNotice(t *testing.T) {
	s := startMailed(t, "PURSER_REDIS_URL="+redisOf(t), "PURSER_SIWE_DOMAIN=app.example")
	s.register(t, ada)
	s.walk(t, ada)
	if n := s.count(t, "mails WHERE kind <> 'verify_email'"); n != 0 {
		t.Errorf("%d mails", n)
	}
}

func TestANoticeThatIsTurnedOffIsNotMailed(t *testing.T) {
	s := startMailed(t, "PURSER_REDIS_URL="+redisOf(t), "PURSER_SIWE_DOMAIN=app.example",
		"PURSER_NOTICE_MAILS_OFF=api_key_created,password_changed")
	s.registerVerified(t, ada)
	s.walk(t, ada)
	if n := s.count(t, "mails WHERE kind IN ('api_key_created', 'password_changed')"); n != 0 {
		t.Errorf("%d mails", n)
	}
	if n := s.count(t, "mails WHERE kind = 'identity_linked'"); n != 1 { // the control
		t.Errorf("%d of another kind", n)
	}
}

// Somebody who got in makes many keys, so that the mail about what comes next is overlooked or isn't sent.
func TestAFloodOfOneKindOfNoticeEndsAndSilencesNoOther(t *testing.T) {
	s := startMailed(t)
	s.registerVerified(t, ada)
	token := s.login(t, ada).GetAccessToken()
	for i := range 20 {
		if _, err := s.keys.CreateApiKey(grpcclient.WithToken(t.Context(), token), &authv1.CreateApiKeyRequest{
			Name: fmt.Sprintf("Buy at evil.example %d", i), Scopes: []string{"portfolio:read"}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.change(grpcclient.WithToken(t.Context(), token), password, newPassword); err != nil {
		t.Fatal(err)
	}
	s.wait(t, ada, changedSubject, 1)
	s.wait(t, ada, keySubject, 5)
	mails := s.of(ada, keySubject)
	if len(mails) != 5 || s.count(t, "mails WHERE kind = 'api_key_created'") != 5 {
		t.Fatalf("%d mails of 20 keys", len(mails))
	}
	last := 0
	for i, m := range mails { // in any order: they are sent at the same time
		if strings.Contains(m.Body, "for an hour no other mail") {
			last++
		}
		if strings.Contains(m.Body, "evil") {
			t.Errorf("mail %d says %q", i+1, m.Body)
		}
	}
	if last != 1 {
		t.Errorf("%d of the mails say that they are the last", last)
	}
}

// A notice is sent right after the commit, not by the job of the next minute.
func TestANoticeIsSentAtOnce(t *testing.T) {
	s := startMailed(t)
	s.registerVerified(t, ada)
	token := s.login(t, ada).GetAccessToken()
	begun := time.Now()
	s.apiKey(t, token)
	s.wait(t, ada, keySubject, 1)
	testkit.Figure(t, "a notice arrived %s after the call began", time.Since(begun).Round(time.Millisecond))
	// What the caller is refused is not announced.
	if _, err := s.keys.CreateApiKey(grpcclient.WithToken(t.Context(), token),
		&authv1.CreateApiKeyRequest{Name: "x", Scopes: []string{"admin:users"}}); err == nil {
		t.Error("a key has more than its owner")
	}
	if n := s.count(t, "mails WHERE kind = 'api_key_created'"); n != 1 {
		t.Errorf("%d mails", n)
	}
}
