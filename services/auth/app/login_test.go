package app_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/alexedwards/argon2id"
	"golang.org/x/crypto/bcrypt"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/testkit/versus"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

func (s service) passwordHash(t *testing.T) (hash string) {
	t.Helper()
	if err := s.db.SQL().QueryRowContext(t.Context(), "SELECT password_hash FROM users").Scan(&hash); err != nil {
		t.Fatal(err)
	}
	return hash
}

func TestAnOldHashIsReplacedWhenItsPasswordIsUsed(t *testing.T) {
	s := startMailed(t, "PURSER_PASSWORD_HASHES_AT_ONCE=2")
	s.register(t, "ada@example.com")
	old, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	s.exec(t, "UPDATE users SET password_hash = $1", string(old))
	want(t, s.guess(t, "ada@example.com"), errs.KindUnauthenticated, "INVALID_CREDENTIALS")
	if s.passwordHash(t) != string(old) {
		t.Fatal("a wrong password replaced the hash")
	}
	s.login(t, "ada@example.com")
	fresh := s.passwordHash(t)
	if !strings.HasPrefix(fresh, "$argon2id$v=19$m=19456,t=2,p=1$") {
		t.Fatalf("the hash is %s", fresh)
	}
	s.login(t, "ada@example.com")
	if s.passwordHash(t) != fresh {
		t.Error("a hash that is not old was replaced")
	}
}

// Sign-ins with the old password, whose hash would be replaced, beside a change
// of it: the change stays, and no session is left that began with the old one.
func TestASignInDuringAChangeOfThePasswordUndoesNothing(t *testing.T) {
	s := startMailed(t, "PURSER_PASSWORD_HASHES_AT_ONCE=16")
	s.register(t, "ada@example.com")
	mine := s.login(t, "ada@example.com")
	ada := grpcclient.WithToken(t.Context(), mine.GetAccessToken())
	old, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for range 5 {
		s.exec(t, "UPDATE users SET password_hash = $1", string(old))
		var all sync.WaitGroup
		for range 3 {
			all.Go(func() {
				if _, err := s.tryLogin(t, "ada@example.com", password); err != nil {
					if e := errs.As(err); e == nil || e.Reason != "INVALID_CREDENTIALS" {
						t.Error(err)
					}
				}
			})
		}
		changed := s.change(ada, password, newPassword)
		all.Wait()
		if changed != nil { // the hash was replaced first
			want(t, changed, errs.KindConflict, "PASSWORD_CHANGED")
			continue
		}
		if _, err := s.tryLogin(t, "ada@example.com", newPassword); err != nil {
			t.Fatal("the change was undone", err)
		}
		if n := s.count(t, "sessions WHERE revoked_at IS NULL"); n != 2 {
			t.Errorf("%d sessions run", n)
		}
		s.exec(t, "UPDATE sessions SET revoked_at = now() WHERE id <> (SELECT id FROM sessions ORDER BY id LIMIT 1)")
	}
}

// BenchmarkLogin is a sign-in through gRPC and Postgres beside the hash that it
// can't do without.
func BenchmarkLogin(b *testing.B) {
	const workers = 4
	s := start(b, "PURSER_PASSWORD_HASHES_AT_ONCE=4", "PURSER_AUTH_FLOOR=500ms")
	s.register(b, "ada@example.com")
	params := &argon2id.Params{Memory: 19 * 1024, Iterations: 2, Parallelism: 1, SaltLength: 16, KeyLength: 32}
	hash, err := argon2id.CreateHash(password, params)
	if err != nil {
		b.Fatal(err)
	}
	versus.Run(b, versus.Comparison{
		Goal: 1 / 0.9, Workers: workers, Batch: 4 * workers,
		Raw: func() {
			if ok, err := argon2id.ComparePasswordAndHash(password, hash); err != nil || !ok {
				b.Error(ok, err)
			}
		},
		Ours: func() {
			if _, err := s.sessions.Login(b.Context(),
				&authv1.LoginRequest{Email: "ada@example.com", Password: password}); err != nil {
				b.Error(err)
			}
		},
	})
}
