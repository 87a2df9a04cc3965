package session_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/session"
	"github.com/purserhq/purser/services/auth/internal/store"
)

// interrupted is a signer beside which something else is changed.
type interrupted struct {
	signer
	change func()
}

func (o *interrupted) Sign(c authn.Claims, ttl time.Duration) (string, time.Time, error) {
	o.change()
	return o.signer.Sign(c, ttl)
}

// What is changed between the look at an account and the beginning of its
// session would have ended that session a moment later.
func TestASignInThatRacesAChangeOfTheAccountBeginsNoSession(t *testing.T) {
	for name, tc := range map[string]struct {
		statement, reason string
	}{
		"it is disabled":        {"UPDATE users SET disabled_at = now()", "ACCOUNT_DISABLED"},
		"it loses its role":     {"DELETE FROM user_roles", "TRY_AGAIN"},
		"it gets other rules":   {`UPDATE users SET attributes = '{"tier": "none"}'`, "TRY_AGAIN"},
		"it is deleted":         {"DELETE FROM users", "INVALID_CREDENTIALS"},
		"nothing of it changes": {"SELECT 1", ""}, // the control
		"somebody else is there": {"INSERT INTO users (id, created_at, disabled_at) VALUES (gen_random_uuid(), " +
			"now(), now())", ""},
	} {
		for way, signIn := range map[string]func(*session.Service, fixture) error{
			"a password": func(s *session.Service, f fixture) error {
				_, err := s.Login(t.Context(), email, password, "")
				return err
			},
			"another way": func(s *session.Service, f fixture) error {
				_, err := s.Begin(t.Context(), session.SignIn{User: f.user, Methods: []string{"wallet"}})
				return err
			},
		} {
			t.Run(name+" beside "+way, func(t *testing.T) {
				f := newFixture(t)
				s := session.NewService(session.Deps{
					Store: f.store, Passwords: plain{}, Devices: deviceKeys(),
					Audit: store.NewAudit(f.db.DB), Now: time.Now,
					Signer: &interrupted{change: func() {
						if _, err := f.db.SQL().ExecContext(t.Context(), tc.statement); err != nil {
							t.Error(err)
						}
					}},
				}, policy())
				err := signIn(s, f)
				begun := f.count(t, "SELECT count(*) FROM sessions")
				if e := errs.As(err); tc.reason == "" && (err != nil || begun != 1) ||
					tc.reason != "" && (e == nil || e.Reason != tc.reason || begun != 0) {
					t.Errorf("answered %v, %d sessions", err, begun)
				}
			})
		}
	}
}
