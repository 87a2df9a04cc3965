package app_test

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// leftBehind counts what an account can be signed in with, or is.
const leftBehind = `
	SELECT (SELECT count(*) FROM users WHERE id = $1 AND password_hash IS NOT NULL)
		+ (SELECT count(*) FROM sessions WHERE user_id = $1 AND revoked_at IS NULL)
		+ (SELECT count(*) FROM api_keys WHERE user_id = $1 AND revoked_at IS NULL)
		+ (SELECT count(*) FROM second_factors WHERE user_id = $1)
		+ (SELECT count(*) FROM identities WHERE user_id = $1)
		+ (SELECT count(*) FROM mailed_codes WHERE user_id = $1 AND purpose = 'CHANGE_EMAIL')`

// waysBack are calls of whoever registered the address, each of which sets something up.
func (s mailed) waysBack(t *testing.T, email string, as context.Context) map[string]func() error {
	t.Helper()
	return map[string]func() error{
		"Login": func() error { _, err := s.tryLogin(t, email, password); return err },
		"CreateApiKey": func() error {
			_, err := s.keys.CreateApiKey(as,
				&authv1.CreateApiKeyRequest{Name: "x", Scopes: []string{"portfolio:read"}})
			return err
		},
		"EnrollTotp": func() error { _, err := s.sessions.EnrollTotp(as, &authv1.EnrollTotpRequest{}); return err },
		"LinkWallet": func() error {
			w := newWallet(t)
			started, err := s.identities.StartWalletLink(as,
				&authv1.StartWalletLinkRequest{Address: w.address, ChainId: 1})
			if err != nil {
				return err
			}
			_, err = s.identities.LinkWallet(as, &authv1.LinkWalletRequest{Message: started.GetMessage(),
				Signature: hexed(w.sign(started.GetMessage()))})
			return err
		},
		"RequestEmailChange": func() error { return s.askChange(as, "new-"+email) },
	}
}

// The owner of an address proves it while whoever registered it sets up ways back. Each of these comes before, and is
// removed, or after, and is refused, because both hold the lock on the account. The control removes the same of what
// it has read, without the lock.
func TestNothingOfBeforeOutlivesTheProofOfAnAddress(t *testing.T) {
	rounds := 50
	if os.Getenv("PURSER_PROVE") != "" {
		rounds = 1000
	}
	for name, tc := range map[string]struct {
		rounds int
		prove  func(s mailed, id, code string, others *sync.WaitGroup) error
		leaves bool
	}{
		"with the lock": {rounds, func(s mailed, _, code string, _ *sync.WaitGroup) error {
			_, err := s.accounts.VerifyEmail(t.Context(), &authv1.VerifyEmailRequest{Code: code})
			return err
		}, false},
		"without": {10, func(s mailed, id, _ string, others *sync.WaitGroup) error {
			return s.removeUnlocked(t, id, others)
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := startMailed(t, "PURSER_REDIS_URL="+redisOf(t), "PURSER_SIWE_DOMAIN=app.example")
			left, before := 0, 0
			for round := range tc.rounds {
				email := fmt.Sprintf("ada-%d@example.com", round)
				s.register(t, email)
				token := s.login(t, email).GetAccessToken()
				id := s.me(t, token).GetId()
				code := mailedCode(t, s.wait(t, email, verifySubject, 1))
				var others sync.WaitGroup
				proven := make(chan struct{})
				for way, try := range s.waysBack(t, email, grpcclient.WithToken(t.Context(), token)) {
					others.Go(func() {
						if !tc.leaves {
							s.retry(t, way, try, proven)
						} else if err := try(); err != nil {
							t.Errorf("%s: %v", way, err)
						}
					})
				}
				if err := tc.prove(s, id, code, &others); err != nil {
					t.Fatal(err)
				}
				close(proven)
				others.Wait()
				var n int
				if err := s.db.SQL().QueryRowContext(t.Context(), leftBehind, id).Scan(&n); err != nil {
					t.Fatal(err)
				}
				if n > 0 {
					left++
				}
				before += s.count(t, "audit_events WHERE subject = '"+id+"' AND outcome = 'OK' AND type IN "+
					"('session.login', 'api_key.created', 'second_factor.enrolled', 'identity.linked', "+
					"'email.change_requested')") - 1 // the sign-in of the round
			}
			if (left > 0) != tc.leaves {
				t.Errorf("something was left in %d rounds of %d", left, tc.rounds)
			}
			if before == 0 {
				t.Error("nothing was set up before: the calls did not race")
			}
			t.Logf("figure: %d rounds, %d times something was set up before the proof, and left in %d rounds",
				tc.rounds, before, left)
		})
	}
}

// retry calls try until the address is proven, and once more, which has to be refused.
func (s mailed) retry(t *testing.T, way string, try func() error, proven <-chan struct{}) {
	for last := false; !last; {
		select {
		case <-proven:
			last = true
		default:
		}
		if err := try(); last && !errs.Is(err, errs.KindUnauthenticated) {
			t.Errorf("%s after the proof was answered %v", way, err)
		}
	}
}

// removeUnlocked reads what an account has, waits for the others, and removes what it has read.
func (s mailed) removeUnlocked(t *testing.T, id string, others *sync.WaitGroup) error {
	t.Helper()
	tx, err := s.db.SQL().BeginTx(t.Context(), &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	read := map[string]string{}
	for _, table := range []string{"sessions", "api_keys", "identities"} {
		var ids string // with commas
		err := tx.QueryRowContext(t.Context(),
			"SELECT coalesce(string_agg(id::text, ','), '') FROM "+table+" WHERE user_id = $1", id).Scan(&ids)
		if err != nil {
			return err
		}
		read[table] = ids
	}
	others.Wait()
	for table, ids := range read {
		if _, err := tx.ExecContext(t.Context(),
			"DELETE FROM "+table+" WHERE id::text = ANY(string_to_array($1, ','))", ids); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(t.Context(),
		"UPDATE users SET password_hash = NULL, email_verified_at = now() WHERE id = $1", id)
	if err != nil {
		return err
	}
	return tx.Commit()
}
