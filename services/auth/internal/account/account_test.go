package account_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/account"
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

func now() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

func newService(t *testing.T) (*account.Service, *hasher, *testkit.DB) {
	t.Helper()
	db, h := testkit.Postgres(t, migrations.FS), &hasher{}
	return account.NewService(store.NewAccounts(db.DB), h, 15, now), h, db
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
	if err := db.SQL().QueryRowContext(t.Context(), "SELECT count(*) OVER (), id, password_hash FROM users").Scan(&count, &id, &hash); err != nil {
		t.Fatal(err)
	}
	if count != 1 || hash != "hash of "+password {
		t.Errorf("%d accounts; the password is %q", count, hash)
	}
	u, err := s.ByID(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	if u.Email != "ada@example.com" || u.DisplayName != "Ada" || !u.CreatedAt.Equal(now()) || len(u.Roles) != 1 || u.Roles[0] != "individual_investor" {
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
