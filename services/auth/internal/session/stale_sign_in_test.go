package session_test

import (
	"context"
	"testing"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/session"
	"github.com/purserhq/purser/services/auth/internal/store"
)

// overtaken is a store in which something happens to a user who was just found
// to be in good standing.
type overtaken struct {
	*store.Sessions
	by func()
}

func (s overtaken) AccessState(ctx context.Context, user uuid.UUID) (account.AccessState, error) {
	is, err := s.Sessions.AccessState(ctx, user)
	s.by()
	return is, err
}

func TestASessionIsNotBegunOnAStaleProof(t *testing.T) {
	for name, tc := range map[string]struct{ happens, reason string }{
		"the account is disabled":      {"UPDATE users SET disabled_at = now()", "ACCOUNT_DISABLED"},
		"the account is deleted":       {"DELETE FROM users", "INVALID_CREDENTIALS"},
		"the identity is unlinked":     {"DELETE FROM identities", "IDENTITY_UNLINKED"},
		"the identity becomes another": {"UPDATE identities SET id = gen_random_uuid()", "IDENTITY_UNLINKED"},
		"nothing happens":              {"SELECT 1", ""}, // the control
	} {
		t.Run(name, func(t *testing.T) {
			f, id := newFixture(t), uuid.New()
			exec := func(statement string, args ...any) {
				if _, err := f.db.SQL().ExecContext(t.Context(), statement, args...); err != nil {
					t.Fatal(err)
				}
			}
			exec("INSERT INTO identities VALUES ($1, $2, 'corp', 'ada', '', now(), NULL)", id, f.user)
			s := f.over(overtaken{f.store, func() { exec(tc.happens) }})
			_, err := s.Begin(t.Context(), session.SignIn{User: f.user, Methods: []string{"oauth"},
				Proof: session.Proof{Identity: id}})
			if e := errs.As(err); tc.reason == "" && err != nil ||
				tc.reason != "" && (e == nil || e.Reason != tc.reason) {
				t.Fatalf("answered %v, want %q", err, tc.reason)
			}
			if n := f.count(t, "SELECT count(*) FROM sessions"); (n == 0) != (err != nil) {
				t.Errorf("%d sessions are stored", n)
			}
		})
	}
}
