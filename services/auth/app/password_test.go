package app_test

import (
	"strings"
	"testing"

	"github.com/alexedwards/argon2id"

	"github.com/purserhq/purser/pkg/errs"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// A Mac writes an accent as a character of its own where other systems compose it.
func TestAPasswordIsTheSameHoweverItIsTyped(t *testing.T) {
	const composed, decomposed = "caf\u00e9 au lait noir", "cafe\u0301 au lait noir"
	s := startMailed(t)
	if _, err := s.accounts.Register(t.Context(),
		&authv1.RegisterRequest{Email: ada, Password: decomposed}); err != nil {
		t.Fatal(err)
	}
	for _, typed := range []string{composed, decomposed} {
		if _, err := s.tryLogin(t, ada, typed); err != nil {
			t.Errorf("%+q: %v", typed, err)
		}
	}
	_, err := s.tryLogin(t, ada, "cafe au lait noir")
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")

	// A hash of before is of what was typed. It is replaced when that is typed again.
	before, err := argon2id.CreateHash(decomposed, argon2id.DefaultParams)
	if err != nil {
		t.Fatal(err)
	}
	s.exec(t, "UPDATE users SET password_hash = $1", before)
	_, err = s.tryLogin(t, ada, composed)
	want(t, err, errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	for _, typed := range []string{decomposed, composed} {
		if _, err := s.tryLogin(t, ada, typed); err != nil {
			t.Errorf("%+q: %v", typed, err)
		}
	}
	if n := s.count(t, "users WHERE password_hash = '"+before+"'"); n != 0 {
		t.Error("the old hash is not replaced")
	}
}

// A password of before that has no normal form keeps working.
func TestAPasswordThatIsNotAllowedAnyMoreStillSignsIn(t *testing.T) {
	const typed = "I ❤\ufe0f my first computer"
	s := startMailed(t)
	s.register(t, ada)
	hash, err := argon2id.CreateHash(typed, argon2id.DefaultParams) // outdated: of other parameters
	if err != nil {
		t.Fatal(err)
	}
	s.exec(t, "UPDATE users SET password_hash = $1", hash)
	for range 2 {
		if _, err := s.tryLogin(t, ada, typed); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAPasswordThatIsRefusedNamesTheRuleOfTheDeployment(t *testing.T) {
	s := startMailed(t)
	stricter := startMailed(t, "PURSER_MIN_PASSWORD=20")
	for name, tc := range map[string]struct {
		s              mailed
		password, says string
	}{
		"one of three characters":     {s, "abc", "must be at least 15 characters, has 3"},
		"none":                        {s, "", "must be at least 15 characters, has 0"},
		"one of 9 characters":         {s, "abcdefghi", "must be at least 15 characters, has 9"},
		"of 19 where 20 are needed":   {stricter, "abcdefghijklmnopqrs", "must be at least 20 characters, has 19"},
		"14 letters and their accent": {s, "abcdefghijklme\u0301", "must be at least 15 characters, has 14"},
		"too long":                    {s, strings.Repeat("a", 129), "must be at most 128 characters, has 129"},
		"a control character":         {s, "correct horse\tbattery", "character 14 is U+0009"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := tc.s.accounts.Register(t.Context(), &authv1.RegisterRequest{Email: "bob@example.com",
				Password: tc.password})
			e := want(t, err, errs.KindInvalid, "INVALID_ARGUMENT")
			if len(e.Violations) != 1 || e.Violations[0].Field != "password" ||
				!strings.Contains(e.Violations[0].Rule, tc.says) {
				t.Errorf("registering: %v", e.Violations)
			}
			e = want(t, tc.s.complete(t, "x", tc.password), errs.KindInvalid, "INVALID_ARGUMENT")
			if len(e.Violations) != 1 || e.Violations[0].Field != "new_password" ||
				!strings.Contains(e.Violations[0].Rule, tc.says) {
				t.Errorf("resetting: %v", e.Violations)
			}
		})
	}
	long := strings.Repeat("e\u0301", 128) // 256 characters as typed
	if _, err := s.accounts.Register(t.Context(), &authv1.RegisterRequest{Email: ada, Password: long}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.tryLogin(t, ada, long); err != nil {
		t.Error(err)
	}
}
