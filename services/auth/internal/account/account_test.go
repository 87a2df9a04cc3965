package account_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

const password = "correct horse battery"

// hasher is a hash that a test can read, and counts.
type hasher struct {
	hashed int
	fail   error
}

func (h *hasher) Hash(_ context.Context, password string) (string, error) {
	h.hashed++
	return "hash of " + password, h.fail
}

func (h *hasher) Matches(_ context.Context, password, hash string) (bool, error) {
	return hash == "hash of "+password, h.fail
}

// breaches know one password.
type breaches struct{}

func (breaches) Known(_ context.Context, password string) bool {
	return password == "everybody's password"
}

func now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func newService(t *testing.T) (*account.Service, *hasher, *testkit.DB) {
	t.Helper()
	db, h := testkit.Postgres(t, migrations.FS), &hasher{}
	return on(t, db, h, "redis://127.0.0.1:1/0"), h, db
}

// on is a replica on this Redis.
func on(t *testing.T, db *testkit.DB, h *hasher, redisURL string) *account.Service {
	t.Helper()
	client, err := redisx.New(redisx.Options{URL: redisURL, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	users := cache.New[account.User](client, cache.Namespace{Service: "auth", Entity: "user", Schema: 1},
		cache.Options{TTL: time.Hour, Budget: 5 * time.Second})
	t.Cleanup(users.Close)
	texts, err := mail.NewTexts("https://app.example")
	if err != nil {
		t.Fatal(err)
	}
	return account.NewService(account.Deps{
		Store: store.NewAccounts(db.DB, users, store.NewMails(db.DB)), Passwords: h, Breaches: breaches{},
		Texts: texts,
		Audit: store.NewAudit(db.DB), Now: now,
	}, account.Policy{MinPassword: 15, MailsPerHour: 5})
}

func TestRegisterAnswersAKnownAddressLikeANewOneAndLeavesTheAccountAlone(t *testing.T) {
	s, h, db := newService(t)
	for i, try := range []struct{ email, password, name string }{
		{"Ada@Example.com", password, "Ada"},
		{"ada@example.com", "another password of mine", "Mallory"},
		{" ADA@EXAMPLE.COM ", "a third password of mine", "Mallory"},
	} {
		if err := s.Register(t.Context(), try.email, try.password, try.name); err != nil {
			t.Fatal(err)
		}
		if h.hashed != i+1 {
			t.Errorf("call %d hashed %d times: the time tells whether the address is known", i+1, h.hashed)
		}
	}
	var count int
	var id uuid.UUID
	var hash string
	if err := db.SQL().QueryRowContext(t.Context(),
		"SELECT count(*) OVER (), id, password_hash FROM users").Scan(&count, &id, &hash); err != nil {
		t.Fatal(err)
	}
	if count != 1 || hash != "hash of "+password {
		t.Errorf("%d accounts; the password is %q", count, hash)
	}
	u, err := s.ByID(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if u.Email != "ada@example.com" || u.DisplayName != "Ada" || !u.CreatedAt.Equal(now()) || len(u.Roles) != 1 ||
		u.Roles[0] != "individual_investor" {
		t.Errorf("the account is %+v", u)
	}
}

func TestRegisterNamesTheFieldThatIsWrong(t *testing.T) {
	s, h, _ := newService(t)
	for _, tc := range []struct {
		name, password, display, field string
	}{
		{"15 characters are enough", strings.Repeat("x", 15), "", ""},
		{"14 are not", strings.Repeat("x", 14), "", "password"},
		{"characters count, not bytes", strings.Repeat("ü", 14), "", "password"},
		{"128 are fine", strings.Repeat("ü", 128), "", ""},
		{"129 are too many", strings.Repeat("x", 129), "", "password"},
		{"an empty one is refused", "", "", "password"},
		{"one known from a breach is refused", "everybody's password", "", "password"},
		{"a name with a NUL byte is refused", password, "Ada\x00", "display_name"},
		{"a name of two lines is refused", password, "Ada\nBob", "display_name"},
		{"any other name is fine", password, "Ада 🦊", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := s.Register(t.Context(), uuid.NewString()+"@example.com", tc.password, tc.display)
			e := errs.As(err)
			switch {
			case tc.field == "" && err == nil:
			case tc.field != "" && e != nil && e.Kind == errs.KindInvalid && e.Violations[0].Field == tc.field:
			default:
				t.Errorf("answered %v, want a violation of %q", err, tc.field)
			}
		})
	}
	h.fail = errors.New("busy")
	if err := s.Register(t.Context(), "bob@example.com", password, ""); !errors.Is(err, h.fail) {
		t.Errorf("a hasher that fails: %v", err)
	}
}

func TestAnIDThatNobodyHasIsNotFound(t *testing.T) {
	s, _, _ := newService(t)
	if _, err := s.ByID(t.Context(), uuid.New()); !errs.Is(err, errs.KindNotFound) {
		t.Errorf("answered %v", err)
	}
}

func TestAUserIsReadOnceAndOneWhoIsNotThereIsFoundOnceTheyAre(t *testing.T) {
	db, redis := testkit.Postgres(t, migrations.FS), testkit.Redis(t).URL()
	here, there := on(t, db, &hasher{}, redis), on(t, db, &hasher{}, redis)
	id, other := uuid.New(), uuid.New()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := db.SQL().ExecContext(t.Context(), query, args...); err != nil {
			t.Fatal(err)
		}
	}
	const add = "INSERT INTO users (id, email, password_hash, display_name, created_at) VALUES ($1, $2, 'a hash', " +
		"'Ada', '2026-03-01 12:00:00.000001Z')"
	if _, err := here.ByID(t.Context(), id); !errs.Is(err, errs.KindNotFound) {
		t.Fatal(err)
	}
	exec(add, id, "ada@example.com")
	exec("INSERT INTO user_roles VALUES ($1, 'admin'), ($1, 'trader')", id)
	want, err := here.ByID(t.Context(), id)
	if err != nil || want.Email != "ada@example.com" || len(want.Roles) != 2 {
		t.Fatalf("%+v, %v: that there was none is cached", want, err)
	}
	exec("UPDATE users SET email = 'past@example.com'") // which shows where an answer comes from
	for name, s := range map[string]*account.Service{"the same replica": here, "the other": there} {
		got, err := s.ByID(t.Context(), id)
		if err != nil || !got.CreatedAt.Equal(want.CreatedAt) || got.ID != id || got.Email != want.Email ||
			got.DisplayName != "Ada" || !slices.Equal(got.Roles, want.Roles) {
			t.Errorf("%s answers %+v, %v, not %+v", name, got, err, want)
		}
		if _, err := s.ByID(t.Context(), other); !errs.Is(err, errs.KindNotFound) {
			t.Errorf("%s answers somebody else with %v", name, err)
		}
	}
}
