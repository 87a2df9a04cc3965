package signing_test

import (
	"log/slog"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/auth/internal/signing"
)

// killRedis kills Redis between a rotation's commit and its look at Redis.
func (s *suite) killRedis() {
	next := s.standbyKID()
	struck := make(chan struct{})
	strike := func() { s.redis.Kill(); close(struck) }
	s.strike.Store(&strike)
	select {
	case <-struck:
	case <-time.After(time.Minute):
		s.t.Fatal("nothing rotated")
	}
	testkit.Eventually(s.t, time.Minute, func() bool { return s.used(next) })
}

// killPostgres kills Postgres in the transaction of a rotation, and returns
// which key it would have made active.
func (s *suite) killPostgres() (next string) {
	s.awaitStandby()
	tx, err := s.db.SQL().BeginTx(s.t.Context(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }() // of a server that is gone
	if err := tx.QueryRow("SELECT kid FROM signing_keys WHERE state = 'STANDBY' FOR UPDATE").Scan(
		&next); err != nil {
		s.t.Fatal(err)
	}
	testkit.Eventually(s.t, time.Minute, func() bool {
		var waiting int
		err := s.db.SQL().QueryRow(`SELECT count(*) FROM pg_stat_activity
			WHERE wait_event_type = 'Lock'
				AND query LIKE 'UPDATE signing_keys SET state = ''ACTIVE''%'`).Scan(&waiting)
		return err == nil && waiting > 0
	})
	s.down.Store(true)
	s.postgres.Kill()
	return next
}

func TestRedisThenPostgresKilledWithinARotationFailNoVerification(t *testing.T) {
	t.Parallel() // it mostly waits for its servers
	s := newSuite(t)
	rounds := testkit.Size(1, 10)
	for range rounds {
		s.killRedis()
		next := s.killPostgres()
		before := make([]int, len(s.signers))
		for i, l := range s.signers {
			before[i] = l.denials()
		}
		testkit.Eventually(t, time.Minute, func() bool {
			for i, l := range s.signers {
				if l.denials() < before[i]+10 {
					return false
				}
			}
			return true
		})
		if s.used(next) {
			t.Error("a key signed whose promotion was never committed")
		}
		if err := s.postgres.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := s.redis.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, time.Minute, func() bool { return s.used(next) })
		s.down.Store(false)
	}
	var signatures, denied int
	for _, l := range s.signers {
		l.mu.Lock()
		signatures, denied = signatures+l.signed, denied+l.denied
		l.mu.Unlock()
	}
	if s.failed.Load() > 0 || s.whileDown.Load() == 0 {
		t.Errorf("%d of %d verifications failed, %d while Postgres and Redis were down", s.failed.Load(),
			s.verified.Load(), s.whileDown.Load())
	}
	testkit.Figure(t, "Redis, then Postgres killed within a rotation %d times: %d of %d verifications by 6 "+
		"verifiers failed (%d made while both were down); 3 signers signed %d and refused %d, all past their lease; "+
		"each rotation was completed",
		rounds, s.failed.Load(), s.verified.Load(), s.whileDown.Load(), signatures, denied)
}

// The control: why a signer stops at the end of its lease.
func TestASignerWithoutALeaseSignsWithAKeyThatIsGone(t *testing.T) {
	w := newWorld(t, compressed())
	lasting := compressed()
	lasting.Lease = time.Hour
	for _, tc := range []struct {
		name   string
		policy signing.Policy
		good   bool // what it signs, where it signs
	}{{"with a lease", w.policy, true}, {"without", lasting, false}} {
		r := signing.NewRing(issuer, tc.policy, w.store, sealer(t, "kek"), slog.New(slog.DiscardHandler))
		r.SetNow(func() time.Time { return w.now })
		if err := r.Refresh(t.Context()); err != nil { // the last time
			t.Fatal(err)
		}
		verifier := authn.NewVerifier(w.replicas[0].ring,
			authn.Options{Issuer: issuer, Leeway: w.policy.Skew, Now: func() time.Time { return w.now }})
		good := true
		for range 120 {
			w.now = w.now.Add(time.Second)
			if err := w.rotator.Rotate(t.Context(), false); err != nil {
				t.Fatal(err)
			}
			if err := w.replicas[0].ring.Refresh(t.Context()); err != nil {
				t.Fatal(err)
			}
			if token, _, err := r.Sign(claims(), w.policy.TokenTTL); err == nil {
				_, err = verifier.Verify(t.Context(), token)
				good = good && err == nil
			}
		}
		if good != tc.good {
			t.Errorf("%s: all that it signs is good: %v", tc.name, good)
		}
	}
}
