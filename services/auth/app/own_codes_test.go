package app_test

import (
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

func TestStrangersDoNotUseUpTheResetsOfAnOwner(t *testing.T) {
	s := startMailed(t, "PURSER_ATTEMPTS_PER_ACCOUNT=5", "PURSER_ATTEMPTS_PER_ADDRESS=100000")
	home, stranger := mailed{s.from(t, "127.0.1.2"), s.mails}, mailed{s.from(t, "127.0.1.3"), s.mails}
	home.register(t, "ada@example.com")
	home.askReset(t, "ada@example.com")
	first := mailedCode(t, s.wait(t, "ada@example.com", resetSubject, 1))
	refused := func() error {
		for {
			_, err := stranger.accounts.RequestPasswordReset(t.Context(),
				&authv1.RequestPasswordResetRequest{Email: "ada@example.com"})
			if err != nil {
				return err
			}
		}
	}
	want(t, refused(), errs.KindExhausted, "TOO_MANY_ATTEMPTS")
	home.askReset(t, "ada@example.com") // is not refused, and mails nothing: there are five codes in the mailbox
	if n := s.count(t, "mails WHERE kind = 'reset_password'"); n != 5 {
		t.Errorf("%d mails, want the five of an hour", n)
	}
	// A while later.
	s.exec(t, "UPDATE mails SET queued_at = queued_at - interval '13 minutes'")
	home.askReset(t, "ada@example.com")
	home.askReset(t, "ada@example.com")
	if n := s.count(t, "mails WHERE kind = 'reset_password'"); n != 6 {
		t.Errorf("%d mails, want one more after 13 minutes", n)
	}
	last := mailedCode(t, s.wait(t, "ada@example.com", resetSubject, 6))

	stranger.useUp(t, "ada@example.com")
	_, err := home.sign(t, "ada@example.com", password, "", "")
	want(t, err, errs.KindExhausted, "TOO_MANY_ATTEMPTS") // the control: it has never signed in
	if err := home.complete(t, first, newPassword); err != nil {
		t.Fatalf("the first code: %v", err)
	}
	want(t, home.complete(t, last, password), errs.KindFailedPrecondition, "CODE_INVALID")
	if _, err := home.sign(t, "ada@example.com", newPassword, "", ""); err != nil {
		t.Errorf("after a reset, from the address that made it: %v", err)
	}
}

// enrolled gives an account a second factor and returns its recovery codes and an access token.
func (s service) enrolled(t *testing.T, email string) (recovery []string, access string) {
	t.Helper()
	access = s.login(t, email).GetAccessToken()
	ada := grpcclient.WithToken(t.Context(), access)
	e, err := s.sessions.EnrollTotp(ada, &authv1.EnrollTotpRequest{})
	if err != nil {
		t.Fatal(err)
	}
	confirmed, err := s.sessions.ConfirmTotp(ada, &authv1.ConfirmTotpRequest{TotpCode: code(t, e.GetSecret(),
		time.Now())})
	if err != nil {
		t.Fatal(err)
	}
	return confirmed.GetRecoveryCodes(), access
}

func TestARightRecoveryCodeGetsThroughWhateverOthersHaveUsedUp(t *testing.T) {
	s := start(t)
	home, stranger, elsewhere := s.from(t, "127.0.1.2"), s.from(t, "127.0.1.3"), s.from(t, "127.0.1.4")
	home.register(t, "ada@example.com")
	recovery, access := home.enrolled(t, "ada@example.com")
	stranger.useUp(t, "ada@example.com")

	_, err := elsewhere.sign(t, "ada@example.com", password, "", "123456")
	want(t, err, errs.KindExhausted, "TOO_MANY_ATTEMPTS") // the controls
	_, err = elsewhere.sign(t, "ada@example.com", password, "", strings.Repeat("a", 16))
	want(t, err, errs.KindExhausted, "TOO_MANY_ATTEMPTS")
	if _, err := elsewhere.sign(t, "ada@example.com", password, "", recovery[0]); err != nil {
		t.Errorf("signing in: %v", err)
	}
	if n := s.count(t, "audit_events WHERE type = 'second_factor.recovery_code_used'"); n != 1 {
		t.Errorf("%d uses are recorded", n)
	}

	ada := grpcclient.WithToken(t.Context(), access)
	try := func(code string) error {
		_, err := stranger.sessions.Reauthenticate(ada, &authv1.ReauthenticateRequest{SecondFactorCode: code})
		return err
	}
	untilRefused(t, 5, func(int) error { return try("000000") },
		func(err error) {
			if e := errs.As(err); e == nil || e.Reason != "TOTP_INVALID" {
				t.Fatal(err)
			}
		})
	want(t, try(strings.Repeat("a", 16)), errs.KindExhausted, "TOO_MANY_ATTEMPTS")
	if err := try(recovery[1]); err != nil {
		t.Errorf("reauthenticating: %v", err)
	}
	if _, err := home.sessions.RenewRecoveryCodes(ada,
		&authv1.RenewRecoveryCodesRequest{SecondFactorCode: recovery[2]}); err != nil {
		t.Errorf("renewing: %v", err)
	}
}

// A recovery code that was found is no way to try more passwords.
func TestPasswordsTriedWithARecoveryCodeAreLimited(t *testing.T) {
	s := start(t)
	home, thief := s.from(t, "127.0.1.2"), s.from(t, "127.0.1.3")
	home.register(t, "ada@example.com")
	recovery, access := home.enrolled(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), access)
	for name, try := range map[string]func() error{
		"Login": func() error {
			_, err := thief.sign(t, "ada@example.com", "not the password", "", recovery[0])
			return err
		},
		"Reauthenticate": func() error {
			_, err := thief.sessions.Reauthenticate(ada, &authv1.ReauthenticateRequest{Password: "not the password",
				SecondFactorCode: recovery[0]})
			return err
		},
	} {
		for n := 0; ; n++ {
			err := try()
			if errs.Is(err, errs.KindExhausted) {
				break
			}
			if want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS"); n > 15 {
				t.Fatalf("%s: %d guesses were let through", name, n)
			}
		}
	}
}

// A wrong password is answered alike, and not sooner, from an address that has signed in to the account before and
// from one that has not: or whoever shares the address would learn whose accounts there are.
func TestARefusalDoesNotTellWhereAnAccountHasSignedIn(t *testing.T) {
	const floor = 300 * time.Millisecond
	s := start(t, "PURSER_AUTH_FLOOR="+floor.String())
	home, stranger := s.from(t, "127.0.1.2"), s.from(t, "127.0.1.3")
	home.register(t, "ada@example.com")
	home.login(t, "ada@example.com")
	stranger.useUp(t, "ada@example.com")
	stranger.useUp(t, "nobody@example.com")
	var texts []string
	for _, try := range []struct {
		s     service
		email string
	}{{home, "ada@example.com"}, {stranger, "ada@example.com"}, {home, "nobody@example.com"}} {
		begun := time.Now()
		e := want(t, try.s.guess(t, try.email), errs.KindExhausted, "TOO_MANY_ATTEMPTS")
		if took := time.Since(begun); took < floor {
			t.Errorf("answered after %s", took)
		}
		texts = append(texts, e.Message)
	}
	if texts[0] != texts[1] || texts[0] != texts[2] {
		t.Errorf("answered %q", texts)
	}
}
