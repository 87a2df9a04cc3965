package store

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/authority"
	"github.com/purserhq/purser/services/auth/internal/role"
	"github.com/purserhq/purser/services/auth/migrations"
)

// signedIn stores a user with a role and a session, and returns a context of theirs.
func signedIn(t *testing.T, db *testkit.DB, name string) (context.Context, uuid.UUID) {
	t.Helper()
	user, session := uuid.New(), uuid.New()
	for _, statement := range []struct {
		sql  string
		args []any
	}{
		{"INSERT INTO users (id, created_at) VALUES (?, now())", []any{user}},
		{"INSERT INTO user_roles (user_id, role) VALUES (?, ?)", []any{user, name}},
		{`INSERT INTO sessions (id, user_id, created_at, expires_at, current_hash, current_expires_at, last_used_at,
			methods, auth_time) VALUES (?, ?, now(), now() + interval '1 hour', '', now(), now(), '[]', now())`,
			[]any{session, user}},
	} {
		if err := db.Gorm(t.Context()).Exec(statement.sql, statement.args...).Error; err != nil {
			t.Fatal(err)
		}
	}
	caller := authn.Caller{UserID: user, SessionID: session, Permissions: role.Permissions([]string{name})}
	return authn.WithRequiredPermission(authn.WithCaller(t.Context(), caller), "admin:users"), user
}

// Two admins take the role of each other a hundred times. Without an order of the locks they would deadlock, which
// Postgres finds after a second; without a lock both would succeed.
func TestOfTwoAdminsWhoTakeTheRoleOfEachOtherOneSucceeds(t *testing.T) {
	take := func(check func(*gorm.DB, targets) error, db *testkit.DB, ctx context.Context, from uuid.UUID) error {
		return postgres.InTx(ctx, db.DB, func(tx *gorm.DB) error {
			if err := check(tx, targets{user: from}); err != nil {
				return err
			}
			return tx.Where("user_id = ?", from).Delete(&roleRow{}).Error
		})
	}
	var read sync.WaitGroup
	locked := func(tx *gorm.DB, t targets) error {
		defer read.Done()
		_, err := lockCaller(tx, t)
		return err
	}
	// The control reads the same without a lock, so that both can read before either writes.
	unlocked := func(tx *gorm.DB, _ targets) error {
		defer func() { read.Done(); read.Wait() }()
		is, err := accessState(tx, authn.CallerFrom(tx.Statement.Context).UserID)
		if err == nil && len(is.Roles) == 0 {
			err = errs.PermissionDenied("PERMISSION_MISSING", "no role")
		}
		return err
	}
	for name, tc := range map[string]struct {
		check func(*gorm.DB, targets) error
		both  bool
	}{"with the lock": {locked, false}, "without": {unlocked, true}} {
		t.Run(name, func(t *testing.T) {
			db := testkit.Postgres(t, migrations.FS)
			both := 0
			for range 100 {
				ada, adaID := signedIn(t, db, role.Admin)
				bob, bobID := signedIn(t, db, role.Admin)
				var results [2]error
				var wg sync.WaitGroup
				read.Add(2)
				wg.Go(func() { results[0] = take(tc.check, db, ada, bobID) })
				wg.Go(func() { results[1] = take(tc.check, db, bob, adaID) })
				wg.Wait()
				succeeded := 0
				for _, err := range results {
					if err == nil {
						succeeded++
					} else if e := errs.As(err); e == nil || e.Reason != "PERMISSION_MISSING" {
						t.Fatal(err)
					}
				}
				if succeeded == 2 {
					both++
				}
				if succeeded == 0 {
					t.Fatal("nobody succeeded")
				}
			}
			if (both > 0) != tc.both {
				t.Errorf("both succeeded %d times of 100", both)
			}
		})
	}
}

func TestACallerIsWhoTheyAreNow(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	reader := NewAuthority(db.DB)
	for name, tc := range map[string]struct{ statement, reason string }{
		"as before":           {"SELECT 1 WHERE ?::uuid IS NOT NULL", ""},
		"disabled":            {"UPDATE users SET disabled_at = now() WHERE id = ?", "ACCOUNT_DISABLED"},
		"deleted":             {"DELETE FROM users WHERE id = ?", "SESSION_REVOKED"},
		"signed out":          {"UPDATE sessions SET revoked_at = now() WHERE user_id = ?", "SESSION_REVOKED"},
		"the session expired": {"UPDATE sessions SET expires_at = now() WHERE user_id = ?", "SESSION_REVOKED"},
		"without the role":    {"DELETE FROM user_roles WHERE user_id = ?", "PERMISSION_MISSING"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, id := signedIn(t, db, role.Admin)
			if err := db.Gorm(t.Context()).Exec(tc.statement, id).Error; err != nil {
				t.Fatal(err)
			}
			err := reader.Check(ctx)
			if e := errs.As(err); (e == nil) != (tc.reason == "") || e != nil && e.Reason != tc.reason {
				t.Errorf("answered %v", err)
			}
		})
	}
	if err := reader.Check(t.Context()); err != nil {
		t.Error("the command line was refused", err)
	}
}

// A public method has no caller, and may not do what the command line may.
func TestACallOfAPublicMethodHoldsNothing(t *testing.T) {
	db := testkit.Postgres(t, migrations.FS)
	_, id := signedIn(t, db, role.Trader)
	accounts := NewAccounts(db.DB, nil, NewMails(db.DB))
	for name, tc := range map[string]struct {
		come func(context.Context) context.Context
		held bool
	}{
		"a public method":  {authority.Served, false},
		"the command line": {func(ctx context.Context) context.Context { return ctx }, true},
	} {
		t.Run(name, func(t *testing.T) {
			try := func(s account.State, _ time.Time) (account.Changes, error) {
				return account.Changes{Attributes: map[string]string{"region": "eu"}}, s.Caller.Require("admin:users")
			}
			err := accounts.Change(tc.come(t.Context()), id, account.Include{}, try)
			e := errs.As(err)
			if (err == nil) != tc.held || !tc.held && (e == nil || e.Reason != "PERMISSION_NOT_HELD") {
				t.Errorf("answered %v", err)
			}
		})
	}
}
