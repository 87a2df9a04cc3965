package app_test

import (
	"context"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/internal/mailserver"
)

// mailed is a service whose mails arrive.
type mailed struct {
	service
	mails *mailserver.Server
}

func startMailed(t *testing.T, more ...string) mailed {
	t.Helper()
	return startMailedWith(t, mailserver.Options{}, more...)
}

func startMailedWith(t *testing.T, o mailserver.Options, more ...string) mailed {
	t.Helper()
	mails, err := mailserver.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := mails.Close(); err != nil {
			t.Error(err)
		}
	})
	s := start(t, append([]string{
		"PURSER_SMTP_ADDR=" + mails.Addr(), "PURSER_SMTP_TLS=none",
		"PURSER_SMTP_FROM=Purser <no-reply@purser.example>",
		"PURSER_ATTEMPTS_PER_ADDRESS=100000", "PURSER_ATTEMPTS_PER_ACCOUNT=100000",
	}, more...)...)
	return mailed{s, mails}
}

const (
	verifySubject  = "Confirm your e-mail address"
	resetSubject   = "Set a new password"
	triedSubject   = "You have an account already"
	changedSubject = "Your password was changed"
	deletedSubject = "Your account was deleted"
	newPassword    = "a horse of another stable"
)

// wait returns the n-th mail of a subject, from 1.
func (s mailed) wait(t *testing.T, to, subject string, n int) mailserver.Mail {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	m, err := s.mails.Wait(ctx, to, func(mailserver.Mail) bool { return len(s.of(to, subject)) >= n })
	if err != nil {
		t.Fatalf("%v; there are %v", err, s.of(to, subject))
	}
	_ = m
	return s.of(to, subject)[n-1]
}

func (s mailed) of(to, subject string) (found []mailserver.Mail) {
	for _, m := range s.mails.Mails(to) {
		if m.Subject == subject {
			found = append(found, m)
		}
	}
	return found
}

var codes = regexp.MustCompile(`(?m)^([A-Za-z0-9_-]{43})$`)

// mailedCode is the one-time code of a mail.
func mailedCode(t *testing.T, m mailserver.Mail) string {
	t.Helper()
	found := codes.FindStringSubmatch(m.Body)
	if found == nil {
		t.Fatalf("no code in %q", m.Body)
	}
	return found[1]
}

func (s mailed) verify(t *testing.T, token string) error {
	t.Helper()
	_, err := s.accounts.VerifyEmail(t.Context(), &authv1.VerifyEmailRequest{Code: token})
	return err
}

// verifyOwn verifies an address with the password, as whoever registered it.
func (s mailed) verifyOwn(t *testing.T, token string) {
	t.Helper()
	resp, err := s.accounts.VerifyEmail(t.Context(), &authv1.VerifyEmailRequest{Code: token, Password: password})
	if err != nil || resp.GetRemoved() != nil {
		t.Fatal(resp, err)
	}
}

// registerVerified makes an account whose address is verified.
func (s mailed) registerVerified(t *testing.T, email string) {
	t.Helper()
	s.register(t, email)
	s.verifyOwn(t, mailedCode(t, s.wait(t, email, verifySubject, 1)))
}

func (s mailed) complete(t *testing.T, token, password string) error {
	t.Helper()
	_, err := s.accounts.CompletePasswordReset(t.Context(),
		&authv1.CompletePasswordResetRequest{Code: token, NewPassword: password})
	return err
}

func (s mailed) askReset(t *testing.T, email string) {
	t.Helper()
	if _, err := s.accounts.RequestPasswordReset(t.Context(),
		&authv1.RequestPasswordResetRequest{Email: email}); err != nil {
		t.Fatal(err)
	}
}

func (s mailed) me(t *testing.T, token string) *authv1.User {
	t.Helper()
	resp, err := s.accounts.GetMe(grpcclient.WithToken(t.Context(), token), &authv1.GetMeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetUser()
}

func (s mailed) tryLogin(t *testing.T, email, password string) (*authv1.Tokens, error) {
	t.Helper()
	resp, err := s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: email, Password: password})
	return resp.GetTokens(), err
}

func TestAnAddressIsVerifiedByTheCodeThatWasMailedOnce(t *testing.T) {
	s := startMailed(t, "PURSER_MAIL_LINKS_URL=https://app.example/")
	begun := time.Now()
	s.register(t, "Ada@Example.com")
	m := s.wait(t, "ada@example.com", verifySubject, 1)
	testkit.Figure(t, "a mail arrived %s after the call began", time.Since(begun).Round(time.Millisecond))
	token := mailedCode(t, m)
	if !strings.Contains(m.Body, "https://app.example/verify-email#token="+token) || strings.Contains(m.Body, "Ada") {
		t.Errorf("the mail says %q", m.Body)
	}
	if m.From != "no-reply@purser.example" || m.Header.Get("Auto-Submitted") != "auto-generated" ||
		m.Header.Get("Message-Id") == "" {
		t.Errorf("from %s, %v", m.From, m.Header)
	}
	access := s.login(t, "ada@example.com").GetAccessToken() // before it is verified
	if s.me(t, access).GetEmailVerified() {
		t.Fatal("verified before it was")
	}
	for _, other := range []string{token[:42], token + "x", strings.ToUpper(token), "\x00", strings.Repeat("x", 128)} {
		want(t, s.verify(t, other), errs.KindFailedPrecondition, "CODE_INVALID")
	}
	want(t, s.complete(t, token, newPassword), errs.KindFailedPrecondition, "CODE_INVALID") // another purpose
	var stored int
	if err := s.db.SQL().QueryRowContext(t.Context(),
		"SELECT count(*) FROM mailed_codes k WHERE strpos(k::text, $1) > 0", token).Scan(&stored); err != nil ||
		stored != 0 {
		t.Error("the code itself is stored", err)
	}
	s.verifyOwn(t, token)
	if !s.me(t, access).GetEmailVerified() {
		t.Error("not shown as verified")
	}
	want(t, s.verify(t, token), errs.KindFailedPrecondition, "CODE_INVALID")
}

// Or anybody could end the owner's code by requesting another.
func TestANewerCodeLeavesTheOneBeforeUntilOneIsUsed(t *testing.T) {
	s := startMailed(t)
	s.register(t, "ada@example.com")
	first := mailedCode(t, s.wait(t, "ada@example.com", verifySubject, 1))
	resend := func(email string) {
		t.Helper()
		if _, err := s.accounts.ResendVerification(t.Context(),
			&authv1.ResendVerificationRequest{Email: email}); err != nil {
			t.Fatal(err)
		}
	}
	resend("ADA@example.com")
	second := mailedCode(t, s.wait(t, "ada@example.com", verifySubject, 2))
	if err := s.verify(t, first); err != nil {
		t.Fatal(err)
	}
	want(t, s.verify(t, second), errs.KindFailedPrecondition, "CODE_INVALID")
	resend("ada@example.com") // verified already
	resend("nobody@example.com")
	s.register(t, "bob@example.com")
	s.wait(t, "bob@example.com", verifySubject, 1) // mails are sent in order
	if n := len(s.of("ada@example.com", verifySubject)) + len(s.mails.Mails("nobody@example.com")); n != 2 {
		t.Errorf("%d mails", n)
	}
}

func TestACodeThatIsTooOldIsRefused(t *testing.T) {
	s := startMailed(t)
	s.register(t, "ada@example.com")
	s.askReset(t, "ada@example.com")
	verify, reset := mailedCode(t, s.wait(t, "ada@example.com", verifySubject, 1)),
		mailedCode(t, s.wait(t, "ada@example.com", resetSubject, 1))
	check, err := s.accounts.CheckPasswordReset(t.Context(), &authv1.CheckPasswordResetRequest{Code: reset})
	if left := time.Until(check.GetExpireTime().AsTime()); err != nil || left > 30*time.Minute ||
		left < 29*time.Minute {
		t.Fatal(check, err)
	}
	var days float64
	err = s.db.SQL().QueryRowContext(t.Context(),
		"SELECT extract(epoch FROM expires_at - now()) / 3600 FROM mailed_codes WHERE purpose = 'VERIFY_EMAIL'").Scan(
		&days)
	if err != nil || days > 24 || days < 23.9 {
		t.Error(days, err)
	}
	if _, err := s.db.SQL().ExecContext(t.Context(),
		"UPDATE mailed_codes SET expires_at = clock_timestamp()"); err != nil {
		t.Fatal(err)
	}
	want(t, s.verify(t, verify), errs.KindFailedPrecondition, "CODE_INVALID")
	want(t, s.complete(t, reset, newPassword), errs.KindFailedPrecondition, "CODE_INVALID")
	_, err = s.accounts.CheckPasswordReset(t.Context(), &authv1.CheckPasswordResetRequest{Code: reset})
	want(t, err, errs.KindFailedPrecondition, "CODE_INVALID")
	s.login(t, "ada@example.com") // with the old password
}

func TestAResetEndsEverySessionAndWorksForOneOfTwoAtOnce(t *testing.T) {
	s := startMailed(t, "PURSER_PASSWORD_HASHES_AT_ONCE=16")
	s.registerVerified(t, "ada@example.com")
	tokens := s.login(t, "ada@example.com")
	key := s.apiKey(t, tokens.GetAccessToken())
	s.askReset(t, "ada@example.com")
	token := mailedCode(t, s.wait(t, "ada@example.com", resetSubject, 1))
	want(t, s.verify(t, token), errs.KindFailedPrecondition, "CODE_INVALID") // another purpose
	short := want(t, s.complete(t, token, "too short"), errs.KindInvalid, "INVALID_ARGUMENT")
	if short.Violations[0].Field != "new_password" {
		t.Error(short.Violations)
	}
	var done, refused atomic.Int64
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			switch err := s.complete(t, token, newPassword); {
			case err == nil:
				done.Add(1)
			case errs.As(err) != nil && errs.As(err).Reason == "CODE_INVALID":
				refused.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	all.Wait()
	if done.Load() != 1 || refused.Load() != 7 {
		t.Fatalf("%d done, %d refused", done.Load(), refused.Load())
	}
	s.wait(t, "ada@example.com", changedSubject, 1)
	_, err := s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: tokens.GetRefreshToken()})
	want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	_, err = s.tryLogin(t, "ada@example.com", password)
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	if _, err := s.tryLogin(t, "ada@example.com", newPassword); err != nil {
		t.Fatal(err)
	}
	if n := s.count(t, "revocations WHERE kind = 'SESSION'"); n != 1 {
		t.Errorf("%d sessions were announced", n)
	}
	if _, err := s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key}); err != nil {
		t.Errorf("the owner's own key: %v", err)
	}
}

func (s service) count(t *testing.T, of string) (n int) {
	t.Helper()
	if err := s.db.SQL().QueryRowContext(t.Context(), "SELECT count(*) FROM "+of).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func (s service) apiKey(t *testing.T, access string) string {
	t.Helper()
	made, err := s.keys.CreateApiKey(grpcclient.WithToken(t.Context(), access),
		&authv1.CreateApiKeyRequest{Name: "bot", Scopes: []string{"portfolio:read"}})
	if err != nil {
		t.Fatal(err)
	}
	return made.GetKey()
}

// Mallory registers Ada's address before she does.
func TestAResetOfAnUnverifiedAccountLocksOutWhoeverRegisteredIt(t *testing.T) {
	s := startMailed(t)
	s.register(t, "ada@example.com")
	mallory := s.login(t, "ada@example.com")
	key := s.apiKey(t, mallory.GetAccessToken())
	s.askReset(t, "ada@example.com")
	if err := s.complete(t, mailedCode(t, s.wait(t, "ada@example.com", resetSubject, 1)), newPassword); err != nil {
		t.Fatal(err)
	}
	ada, err := s.tryLogin(t, "ada@example.com", newPassword)
	if err != nil || !s.me(t, ada.GetAccessToken()).GetEmailVerified() {
		t.Fatal("a reset proves the address", err)
	}
	_, err = s.sessions.Refresh(t.Context(), &authv1.RefreshRequest{RefreshToken: mallory.GetRefreshToken()})
	want(t, err, errs.KindUnauthenticated, "SESSION_REVOKED")
	_, err = s.keys.ExchangeApiKey(t.Context(), &authv1.ExchangeApiKeyRequest{Key: key})
	want(t, err, errs.KindUnauthenticated, "API_KEY_INVALID")
	_, err = s.tryLogin(t, "ada@example.com", password)
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	if n := s.count(t, "audit_events WHERE type = 'account.reclaimed'"); n != 1 {
		t.Errorf("recorded %d times", n)
	}
}

func TestTheOwnerOfAnAddressIsMailedWhenSomebodyTriesToRegisterIt(t *testing.T) {
	s := startMailed(t)
	s.register(t, "ada@example.com")
	if _, err := s.accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: "ada@example.com", Password: newPassword,
			DisplayName: "Buy at evil.example"}); err != nil {
		t.Fatal(err)
	}
	m := s.wait(t, "ada@example.com", triedSubject, 1)
	if strings.Contains(m.Body, "evil") || codes.MatchString(m.Body) {
		t.Errorf("the mail says %q", m.Body)
	}
}

// verifyAs is verifyOwn with another password.
func (s mailed) verifyAs(t *testing.T, code, password string) {
	t.Helper()
	if _, err := s.accounts.VerifyEmail(t.Context(),
		&authv1.VerifyEmailRequest{Code: code, Password: password}); err != nil {
		t.Fatal(err)
	}
}
