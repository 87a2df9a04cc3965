package app_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

const (
	provenSubject = "Your address was confirmed"
	ada           = "ada@example.com"
)

// mallory has registered Ada's address in advance, and set up every way back to the account that there is.
type mallory struct {
	token, refresh, key, keyToken, id string
	wallet                            wallet
	change                            string // a code for another address
}

func (s mailed) squat(t *testing.T) (m mallory) {
	t.Helper()
	s.register(t, ada)
	tokens := s.login(t, ada)
	m.token, m.refresh = tokens.GetAccessToken(), tokens.GetRefreshToken()
	as := grpcclient.WithToken(t.Context(), m.token)
	m.id, m.key, m.wallet = s.me(t, m.token).GetId(), s.apiKey(t, m.token), newWallet(t)
	s.link(t, m.token, m.wallet)
	if _, err := s.sessions.EnrollTotp(as, &authv1.EnrollTotpRequest{}); err != nil {
		t.Fatal(err)
	}
	exchanged, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: m.key})
	if err != nil {
		t.Fatal(err)
	}
	m.keyToken = exchanged.GetAccessToken()
	if _, err := s.accounts.RequestEmailChange(as,
		&authv1.RequestEmailChangeRequest{NewEmail: "mallory@example.com"}); err != nil {
		t.Fatal(err)
	}
	m.change = mailedCode(t, s.wait(t, "mallory@example.com", changeSubject, 1))
	return m
}

// gone fails the test if any way back is left.
func (s mailed) gone(t *testing.T, m mallory) {
	t.Helper()
	_, err := s.tryLogin(t, ada, password)
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	_, err = s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: m.refresh})
	want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	_, err = s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: m.key})
	want(t, err, errs.KindUnauthenticated, "API_KEY_INVALID")
	if s.service.me(t, s.signInWith(t, m.wallet).GetAccessToken()).GetId() == m.id {
		t.Error("the wallet signs in")
	}
	if n := s.count(t, "second_factors WHERE user_id = '"+m.id+"'"); n != 0 {
		t.Error("the second factor is left")
	}
	for _, token := range []string{m.token, m.keyToken} {
		s.eventuallyRefused(t, token)
	}
	_, err = s.accounts.ConfirmEmailChange(grpcclient.WithToken(t.Context(), m.token),
		&authv1.ConfirmEmailChangeRequest{Code: m.change})
	if !errs.Is(err, errs.KindUnauthenticated) {
		t.Errorf("another address: %v", err)
	}
}

func startSquatted(t *testing.T, more ...string) (mailed, *provider) {
	t.Helper()
	p := newProvider(t)
	return startMailed(t, slices.Concat(p.settings(), more,
		[]string{"PURSER_REDIS_URL=" + redisOf(t), "PURSER_SIWE_DOMAIN=app.example"})...), p
}

// Ada takes the mail for her own and follows it. Or she signs in with a provider, or sets a password, without.
func TestAProofOfAnAddressLeavesNothingToWhoeverRegisteredItInAdvance(t *testing.T) {
	for name, tc := range map[string]struct {
		prove func(s mailed, p *provider) *authv1.RemovedSetup
	}{
		"by the mailed code": {prove: func(s mailed, _ *provider) *authv1.RemovedSetup {
			resp, err := s.accounts.VerifyEmail(t.Context(), &authv1.VerifyEmailRequest{
				Code: mailedCode(t, s.wait(t, ada, verifySubject, 1))})
			if err != nil {
				t.Fatal(err)
			}
			return resp.GetRemoved()
		}},
		"by a password reset": {prove: func(s mailed, _ *provider) *authv1.RemovedSetup {
			s.askReset(t, ada)
			resp, err := s.accounts.CompletePasswordReset(t.Context(), &authv1.CompletePasswordResetRequest{
				Code: mailedCode(t, s.wait(t, ada, resetSubject, 1)), NewPassword: newPassword})
			if err != nil {
				t.Fatal(err)
			}
			return resp.GetRemoved()
		}},
		"by a provider": {prove: func(s mailed, p *provider) *authv1.RemovedSetup {
			p.signedIn("ada", ada, true)
			s.signIn(t, p)
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s, p := startSquatted(t)
			m := s.squat(t)
			removed := tc.prove(s, p)
			if removed != nil && (!removed.GetPassword() || !removed.GetSecondFactor() || removed.GetApiKeys() != 1 ||
				removed.GetIdentities() != 1 || removed.GetSessions() != 1) {
				t.Errorf("it says %v", removed)
			}
			s.gone(t, m)
			told := s.wait(t, ada, provenSubject, 1)
			for _, line := range []string{"- the password\n", "- the second factor\n", "- API keys: 1\n",
				"(providers and wallets): 1\n", "- sessions: 1\n", "ask for a new password"} {
				if !strings.Contains(strings.ReplaceAll(told.Body, "\r\n", "\n"), line) {
					t.Errorf("the mail lacks %q: %s", line, told.Body)
				}
			}
			if events := s.events(t); !slices.Contains(events, "account.reclaimed OK EMAIL_UNVERIFIED") {
				t.Error(events)
			}
			p.signedIn("ada", ada, true) // it is Ada's now
			if me := s.me(t, s.signIn(t, p).GetAccessToken()); me.GetId() != m.id || !me.GetEmailVerified() {
				t.Error(me)
			}
		})
	}
}

func TestWhoeverHasTheMailboxAndThePasswordKeepsEverything(t *testing.T) {
	s, _ := startSquatted(t)
	own := s.squat(t)
	s.verifyOwn(t, mailedCode(t, s.wait(t, ada, verifySubject, 1)))
	if !s.me(t, own.token).GetEmailVerified() {
		t.Error("it is not verified")
	}
	s.login(t, ada)
	if _, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: own.key}); err != nil {
		t.Error(err)
	}
	if s.service.me(t, s.signInWith(t, own.wallet).GetAccessToken()).GetId() != own.id {
		t.Error("the wallet is another's")
	}
	// And a reset keeps what was set up by who had both.
	s.askReset(t, ada)
	if err := s.complete(t, mailedCode(t, s.wait(t, ada, resetSubject, 1)), newPassword); err != nil {
		t.Fatal(err)
	}
	if _, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: own.key}); err != nil {
		t.Error(err)
	}
	if n := len(s.of(ada, provenSubject)); n != 0 {
		t.Errorf("%d mails say that something was removed", n)
	}
}

func TestAWrongPasswordDoesNotUseUpTheCode(t *testing.T) {
	s := startMailed(t, "PURSER_ATTEMPTS_PER_ACCOUNT=5")
	s.register(t, ada)
	code := mailedCode(t, s.wait(t, ada, verifySubject, 1))
	try := func(code, password string) error {
		_, err := s.accounts.VerifyEmail(t.Context(), &authv1.VerifyEmailRequest{Code: code, Password: password})
		return err
	}
	want(t, try("no code of ours", password), errs.KindFailedPrecondition, "CODE_INVALID")
	untilRefused(t, 5, func(int) error { return try(code, "not my password") },
		func(err error) { want(t, err, errs.KindPermissionDenied, "PASSWORD_WRONG") })
	// They are guesses at the password of the account, as by Login.
	_, err := s.tryLogin(t, ada, password)
	want(t, err, errs.KindExhausted, "TOO_MANY_ATTEMPTS")
	if events := s.events(t); !slices.Contains(events, "account.email_verified REFUSED PASSWORD_WRONG") {
		t.Error(events)
	}
	if err := try(code, ""); err != nil { // it is still good
		t.Fatal(err)
	}
	want(t, try(code, ""), errs.KindFailedPrecondition, "CODE_INVALID")

	s = startMailed(t)
	s.register(t, ada)
	code = mailedCode(t, s.wait(t, ada, verifySubject, 1))
	s.exec(t, "UPDATE users SET password_hash = NULL")
	want(t, try(code, password), errs.KindPermissionDenied, "PASSWORD_WRONG")
	if err := try(code, ""); err != nil {
		t.Fatal(err)
	}
}

func TestAnAccountThatTheProviderMadeLosesNothing(t *testing.T) {
	s, p := startSquatted(t)
	p.signedIn("ada", ada, true)
	first := s.signIn(t, p)
	s.apiKey(t, first.GetAccessToken())
	s.signIn(t, p)
	s.askReset(t, ada)
	if err := s.complete(t, mailedCode(t, s.wait(t, ada, resetSubject, 1)), newPassword); err != nil {
		t.Fatal(err)
	}
	if n := s.count(t, "audit_events WHERE type = 'account.reclaimed'"); n != 0 {
		t.Errorf("reclaimed %d times", n)
	}
	if n := s.count(t, "api_keys WHERE revoked_at IS NULL") + s.count(t, "identities"); n != 2 {
		t.Errorf("%d credentials are left", n)
	}
}
