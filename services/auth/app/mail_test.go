package app_test

import (
	"context"
	"fmt"
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

// eventuallyRefused waits until a token is, which is when its replica has heard.
func (s service) eventuallyRefused(t *testing.T, token string) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool {
		_, err := s.accounts.GetMe(grpcclient.WithToken(t.Context(), token), &authv1.GetMeRequest{})
		return errs.Is(err, errs.KindUnauthenticated) || errs.Is(err, errs.KindNotFound)
	})
}

func TestAMailIsErasedOnceItWasSent(t *testing.T) {
	s := startMailed(t)
	s.register(t, "ada@example.com")
	s.wait(t, "ada@example.com", verifySubject, 1)
	testkit.Eventually(t, time.Minute, func() bool {
		return s.count(t, "mails WHERE sent_at IS NOT NULL AND recipient = '' AND subject = '' AND body = '' AND "+
			"attempts = 1") == 1
	})
	if err := s.db.Gorm(context.WithoutCancel(t.Context())).Exec("UPDATE mails SET body = 'again'").Error; err == nil {
		t.Error("a mail that was sent can have a body")
	}
}

func TestAMailThatTheServerDefersIsRetried(t *testing.T) {
	var refusals atomic.Int64
	s := startMailedWith(t, mailserver.Options{Refuse: func(string) int {
		if refusals.Add(1) <= 2 {
			return 451
		}
		return 0
	}})
	s.register(t, "ada@example.com")
	for n := 1; n <= 2; n++ {
		testkit.Eventually(t, time.Minute, func() bool {
			return int(refusals.Load()) >= n && s.count(t, "mails WHERE last_error LIKE '%451%' AND body <> ''") == 1
		})
		if s.count(t, "mails WHERE last_error LIKE '%451%' "+
			"AND due_at > clock_timestamp() + interval '5 seconds'") != 1 {
			t.Error("it is not put off")
		}
		if n == 1 {
			s.exec(t, "UPDATE mails SET due_at = clock_timestamp(), last_error = ''")
			s.register(t, "bob@example.com") // which wakes the post
		}
	}
	s.exec(t, "UPDATE mails SET due_at = clock_timestamp()")
	s.register(t, "cyd@example.com")
	for _, to := range []string{"ada@example.com", "bob@example.com", "cyd@example.com"} {
		s.wait(t, to, verifySubject, 1)
	}
}

func TestAMailIsGivenUpWhenTheServerRejectsItOrAfterTheMaximumOfAttempts(t *testing.T) {
	s := startMailedWith(t, mailserver.Options{Refuse: func(to string) int {
		if strings.HasPrefix(to, "gone") {
			return 550
		}
		return 451
	}}, "PURSER_SMTP_ATTEMPTS=2")
	s.register(t, "gone@example.com")
	testkit.Eventually(t, time.Minute, func() bool {
		return s.count(t,
			"mails WHERE dead_at IS NOT NULL AND body = '' AND attempts = 1") == 1
	})
	s.register(t, "ada@example.com")
	testkit.Eventually(t, time.Minute, func() bool {
		return s.count(t,
			"mails WHERE last_error LIKE '%451%'") == 1
	})
	s.exec(t, "UPDATE mails SET due_at = clock_timestamp() WHERE dead_at IS NULL")
	s.register(t, "gone.too@example.com")
	testkit.Eventually(t, time.Minute, func() bool {
		return s.count(t,
			"mails WHERE dead_at IS NOT NULL AND body = ''") == 3
	})
	if n := s.count(t, "mails WHERE last_error LIKE '%example.com%'"); n != 0 {
		t.Error("an error says who a mail was for")
	}
}

func TestMailsWaitForAServer(t *testing.T) {
	s := start(t) // without one
	s.register(t, "ada@example.com")
	if s.count(t, "mails WHERE recipient = 'ada@example.com' AND attempts = 0") != 1 {
		t.Error("no mail waits")
	}
}

func TestNobodyIsSentMoreMailsThanFiveAnHourOfAKind(t *testing.T) {
	s := startMailed(t)
	s.register(t, "ada@example.com")
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			_, err := s.accounts.RequestPasswordReset(t.Context(),
				&authv1.RequestPasswordResetRequest{Email: "ada@example.com"})
			if err != nil {
				t.Error(err)
			}
		})
		all.Go(func() {
			_, err := s.accounts.ResendVerification(t.Context(),
				&authv1.ResendVerificationRequest{Email: "ADA@example.com"})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for range 7 {
		s.register(t, "ada@example.com")
	}
	for kind, n := range map[string]int{"reset_password": 5, "verify_email": 5, "registration_tried": 5} {
		if got := s.count(t, "mails WHERE kind = '"+kind+"'"); got != n {
			t.Errorf("%d mails of %s", got, kind)
		}
	}
	if n := s.count(t, "audit_events WHERE reason = 'TOO_MANY_MAILS'"); n != 31 {
		t.Errorf("%d were recorded as too many", n)
	}
	// The last code that was sent is good still.
	m := s.wait(t, "ada@example.com", resetSubject, 5)
	good := 0
	for _, m := range append(s.of("ada@example.com", resetSubject), m) {
		if s.complete(t, mailedCode(t, m), newPassword) == nil {
			good++
		}
	}
	if good != 1 {
		t.Errorf("%d codes are good", good)
	}
}

func TestRequestsForMailsAreLimitedAndLockNobodyOut(t *testing.T) {
	s := startMailed(t, "PURSER_ATTEMPTS_PER_ACCOUNT=5")
	s.register(t, "ada@example.com")
	for _, email := range []string{"ada@example.com", "nobody@example.com"} {
		untilRefused(t, 5,
			func(int) error {
				_, err := s.accounts.RequestPasswordReset(t.Context(),
					&authv1.RequestPasswordResetRequest{Email: email})
				return err
			},
			func(err error) {
				if err != nil {
					t.Fatal(err)
				}
			})
	}
	s.login(t, "ada@example.com")
	guesses := startMailed(t, "PURSER_ATTEMPTS_PER_ADDRESS=5")
	untilRefused(t, 5,
		func(int) error { return guesses.complete(t, "no code of ours", newPassword) },
		func(err error) { want(t, err, errs.KindFailedPrecondition, "CODE_INVALID") })
}

// Addresses that could end a command or a header are none.
func TestNothingIsSmuggledIntoAMailByItsAddress(t *testing.T) {
	s := startMailed(t)
	for _, email := range []string{
		"ada@example.com\r\nBcc: eve@example.com", "ada@example.com\nSubject: x", "ada@example.com,eve@example.com",
		"<ada@example.com>", "ada@example.com> ORCPT=x", `"ada\r\n"@example.com`, "ada@example.com\x00",
		"ada@bücher.example", "ädä@example.com", "@example.com",
	} {
		_, err := s.accounts.Register(t.Context(), &authv1.RegisterRequest{Email: email, Password: password})
		want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
		_, err = s.accounts.RequestPasswordReset(t.Context(), &authv1.RequestPasswordResetRequest{Email: email})
		want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
	}
	if _, err := s.accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: "o'ada+tag@xn--bcher-kva.example", Password: password}); err != nil {
		t.Fatal(err)
	}
	s.wait(t, "o'ada+tag@xn--bcher-kva.example", verifySubject, 1)
	// An address that came in another way, as from an identity provider.
	s.exec(t, "INSERT INTO mails (id, kind, recipient, subject, body) VALUES (gen_random_uuid(), 'x', "+
		"E'eve@example.com>\\r\\nRCPT TO:<all@example.com', 'x', 'x')")
	s.register(t, "bob@example.com")
	testkit.Eventually(t, time.Minute, func() bool { return s.count(t, "mails WHERE dead_at IS NOT NULL") == 1 })
}

// An account that is made and deleted again leaves no count of its mails.
func TestRepeatedRegistrationsDoNotFloodAnAddress(t *testing.T) {
	s := startMailed(t, "PURSER_ATTEMPTS_PER_ACCOUNT=5")
	untilRefused(t, 5,
		func(int) error {
			_, err := s.accounts.Register(t.Context(),
				&authv1.RegisterRequest{Email: "Ada@example.com", Password: password})
			if err == nil {
				ada := grpcclient.WithToken(t.Context(), s.login(t, "ada@example.com").GetAccessToken())
				if _, err := s.accounts.DeleteMe(ada, &authv1.DeleteMeRequest{}); err != nil {
					t.Fatal(err)
				}
			}
			return err
		},
		func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		})
	if n := s.count(t, "mails WHERE kind = 'account_deleted'"); n != 0 {
		t.Errorf("%d farewells to an address that nobody verified", n)
	}
	s.register(t, "bob@example.com")
}

// Nor does it leave no count in the hour: a stranger would be mailed to for as long as somebody repeats it.
func TestDeletedAccountsCountAgainstTheMailsToAMailboxThatNobodyProved(t *testing.T) {
	const stranger = "stranger@example.com"
	for name, tc := range map[string]struct {
		kind  string
		cycle func(s mailed, t *testing.T, n int) context.Context
	}{
		"registration": {"verify_email", func(s mailed, t *testing.T, _ int) context.Context {
			s.register(t, stranger)
			return s.as(t, s.login(t, stranger))
		}},
		"change of the address": {"change_email", func(s mailed, t *testing.T, n int) context.Context {
			mallory := fmt.Sprintf("mallory-%d@example.com", n)
			s.register(t, mallory)
			as := s.as(t, s.login(t, mallory))
			if err := s.askChange(as, stranger); err != nil {
				t.Fatal(err)
			}
			return as
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := startMailed(t)
			for n := range 8 {
				as := tc.cycle(s, t, n)
				if _, err := s.accounts.DeleteMe(as, &authv1.DeleteMeRequest{}); err != nil {
					t.Fatal(err)
				}
			}
			codes := s.count(t, "audit_events WHERE outcome = 'OK' AND type = 'email.change_requested'")
			if tc.kind == "verify_email" {
				codes = 8 - s.count(t, "audit_events WHERE reason = 'TOO_MANY_MAILS'")
			}
			n := s.count(t, "mails WHERE kind = '"+tc.kind+"' AND recipient = '' AND user_id IS NULL")
			if codes != 5 || n != 5 {
				t.Errorf("%d codes were mailed, %d are counted", codes, n)
			}
			s.exec(t, "UPDATE mails SET queued_at = queued_at - interval '61 minutes'")
			if err := s.trigger(t, s.asAdmin(t), "prune_mails"); err != nil {
				t.Fatal(err)
			}
			testkit.Eventually(t, time.Minute, func() bool {
				return s.count(t, "mails WHERE user_id IS NULL") == 0
			})
			s.register(t, stranger) // the owner, an hour later
			s.verifyOwn(t, mailedCode(t, s.last(t, stranger)))
		})
	}
}

// last returns the last mail with a code for an address to verify, whose code is good.
func (s mailed) last(t *testing.T, to string) (m mailserver.Mail) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool {
		return s.count(t, "mails WHERE kind = 'verify_email' AND sent_at IS NOT NULL AND user_id = (SELECT id FROM "+
			"users WHERE email = '"+to+"')") > 0
	})
	all := s.of(to, verifySubject)
	return all[len(all)-1]
}
