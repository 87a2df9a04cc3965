package app_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// guess signs in with a wrong password.
func (s service) guess(t *testing.T, email string) error {
	t.Helper()
	_, err := s.sessions.Login(t.Context(), &authv1.LoginRequest{Email: email, Password: "correct horse bakery"})
	return err
}

// untilRefused tries until it is refused as one too many, and fails the test
// unless that is the one after perMinute. What is refilled meanwhile, on a
// machine that is slow, may be tried as well.
func untilRefused(t *testing.T, perMinute int, try func(n int) error, right func(err error)) {
	t.Helper()
	begun := time.Now()
	for n := 0; ; n++ {
		err := try(n)
		if !errs.Is(err, errs.KindExhausted) {
			right(err)
			if refilled := int(time.Since(begun) * time.Duration(perMinute) / time.Minute); n >= perMinute+refilled {
				t.Fatalf("try %d of %d a minute was let through", n+1, perMinute)
			}
			continue
		}
		e := want(t, err, errs.KindExhausted, "TOO_MANY_ATTEMPTS")
		if n < perMinute || e.RetryAfter <= 0 || e.RetryAfter > time.Minute/time.Duration(perMinute) {
			t.Fatalf("try %d of %d a minute is refused for %s", n+1, perMinute, e.RetryAfter)
		}
		return
	}
}

func TestASixthWrongPasswordWithinAMinuteIsRefused(t *testing.T) {
	s := start(t)
	s.register(t, "ada@example.com")
	s.register(t, "bob@example.com")
	for range 12 {
		s.login(t, "ada@example.com") // a right password costs nothing
	}
	spellings := []string{"ada@example.com", "ADA@example.com", " ada@Example.com"}
	untilRefused(t, 5,
		func(n int) error { return s.guess(t, spellings[n%len(spellings)]) },
		func(err error) { want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS") })
	s.login(t, "bob@example.com")
	want(t, s.guess(t, "bob@example.com"), errs.KindUnauthenticated, "INVALID_CREDENTIALS")
}

// Or a refusal would tell which accounts there are.
func TestAttemptsOnAnUnknownAccountAreLimitedAlike(t *testing.T) {
	s := start(t)
	untilRefused(t, 5,
		func(int) error { return s.guess(t, "nobody@example.com") },
		func(err error) { want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS") })
}

func TestRegistrationsAreCountedByAddress(t *testing.T) {
	s := start(t, "PURSER_ATTEMPTS_PER_ADDRESS=3")
	// a taken one counts as a new one
	emails := []string{"ada@example.com", "ada@example.com", "bob@example.com", "cyd@example.com"}
	untilRefused(t, 3,
		func(n int) error {
			_, err := s.accounts.Register(t.Context(),
				&authv1.RegisterRequest{Email: emails[n%len(emails)], Password: password})
			return err
		},
		func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		})
}
