package app_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
)

// keptChallenges copies what Redis has, and returns what puts it back: a failover to a replica that the last writes
// have not reached does the same.
func keptChallenges(t *testing.T, url string) (bringBack func()) {
	t.Helper()
	c := direct(t, url)
	keys, err := c.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) == 0 {
		t.Fatal(keys, err)
	}
	kept := map[string]string{}
	for _, key := range keys {
		if kept[key], err = c.Dump(t.Context(), key).Result(); err != nil {
			t.Fatal(err)
		}
	}
	return func() {
		t.Helper()
		for key, value := range kept {
			if err := c.RestoreReplace(t.Context(), key, time.Minute, value).Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// unlessBusy repeats a call while a busy machine makes Redis look unavailable.
func unlessBusy(t *testing.T, call func() error) (err error) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool {
		err = call()
		return !errs.Is(err, errs.KindUnavailable)
	})
	return err
}

func TestAChallengeThatAFailoverOfRedisBringsBackSignsNobodyInAgain(t *testing.T) {
	t.Run("of a wallet", func(t *testing.T) {
		url := redisOf(t)
		s, w := withWallets(t, "PURSER_REDIS_URL="+url), newWallet(t)
		message := s.message(t, w.address)
		bringBack := keptChallenges(t, url)
		finish := func() error {
			_, err := s.finish(t, message, w.sign(message))
			return err
		}
		if err := unlessBusy(t, finish); err != nil {
			t.Fatal(err)
		}
		used := unlessBusy(t, finish)
		bringBack()
		again := unlessBusy(t, finish)
		if e := errs.As(again); e == nil || e.Reason != errs.As(used).Reason || e.Kind != errs.KindUnauthenticated {
			t.Errorf("%v, and without a failover %v", again, used)
		}
	})
	t.Run("of a provider", func(t *testing.T) {
		url := redisOf(t)
		s, p := withProvider(t, "PURSER_REDIS_URL="+url)
		begun := s.begin(t, p)
		bringBack := keptChallenges(t, url)
		finish := func() error {
			_, err := s.sessions.FinishOAuth(t.Context(), begun)
			return err
		}
		if err := unlessBusy(t, finish); err != nil {
			t.Fatal(err)
		}
		used := unlessBusy(t, finish)
		bringBack()
		again := unlessBusy(t, finish)
		if e := errs.As(again); e == nil || e.Reason != errs.As(used).Reason {
			t.Errorf("%v, and without a failover %v", again, used)
		}
	})
}

// A challenge that Redis has lost, as it restarted empty or evicted it, is one that never was: the user starts again.
func TestALostChallengeSignsNobodyInAndTheNextOneDoes(t *testing.T) {
	for how, lose := range map[string]func(*testing.T, *redisserver.Server){
		"restarted empty": func(t *testing.T, r *redisserver.Server) {
			r.Kill()
			if err := r.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"evicted": func(t *testing.T, r *redisserver.Server) {
			c := direct(t, r.URL())
			configure(t, c, "maxmemory-policy", "allkeys-lru", "maxmemory", "1")
			_ = c.Set(t.Context(), "another", 1, 0).Err() // for which there is no room even so
			if n, err := c.DBSize(t.Context()).Result(); err != nil || n != 0 {
				t.Fatalf("%d keys are left, %v", n, err)
			}
			configure(t, c, "maxmemory", "0")
		},
	} {
		t.Run(how, func(t *testing.T) {
			r := testkit.Redis(t)
			s, w := withWallets(t, "PURSER_REDIS_URL="+r.URL()), newWallet(t)
			message := s.message(t, w.address)
			lose(t, r)
			err := unlessBusy(t, func() error { // and until Redis is used again
				_, err := s.finish(t, message, w.sign(message))
				return err
			})
			if !errs.Is(err, errs.KindUnauthenticated) {
				t.Error(err)
			}
			s.signInWith(t, w)
		})
	}
}

func TestWhileRedisIsFullNoSignInBegins(t *testing.T) {
	r := testkit.Redis(t)
	s, w := withWallets(t, "PURSER_REDIS_URL="+r.URL()), newWallet(t)
	s.signInWith(t, w)
	c := direct(t, r.URL())
	configure(t, c, "maxmemory", "1")
	_, err := s.sessions.StartWalletLogin(t.Context(), &authv1.StartWalletLoginRequest{Address: w.address, ChainId: 1})
	if e := errs.As(err); e == nil || e.Kind != errs.KindUnavailable || e.Reason != "SIGN_IN_UNAVAILABLE" {
		t.Error(err)
	}
	configure(t, c, "maxmemory", "0")
	s.signInWith(t, w)
}

func direct(t *testing.T, url string) *redis.Client {
	t.Helper()
	o, err := redis.ParseURL(url)
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// configure sets names and values.
func configure(t *testing.T, c *redis.Client, settings ...string) {
	t.Helper()
	for i := 0; i < len(settings); i += 2 {
		if err := c.ConfigSet(t.Context(), settings[i], settings[i+1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestUsedChallengesAreRemovedAfterTheyExpired(t *testing.T) {
	s := withWallets(t)
	if _, err := s.db.SQL().ExecContext(t.Context(), `INSERT INTO used_challenges (key, expires_at)
		VALUES ('long ago', now() - interval '2 hours')`); err != nil {
		t.Fatal(err)
	}
	s.signInWith(t, newWallet(t))
	var keys, old int
	if err := s.db.SQL().QueryRowContext(t.Context(), `SELECT count(*), count(*) FILTER (WHERE key = 'long ago')
		FROM used_challenges`).Scan(&keys, &old); err != nil || keys != 1 || old != 0 {
		t.Errorf("%d keys, %d of long ago, %v", keys, old, err)
	}
}

// A service is told its Sentinels by PURSER_REDIS_URL, and needs no restart when the primary is another one.
func TestSignInGoesOnAfterAFailoverOfRedis(t *testing.T) {
	group := testkit.RedisSentinel(t)
	s := withWallets(t, "PURSER_REDIS_URL="+group.URL())
	s.signInWith(t, newWallet(t))
	before, err := group.Primary(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before.Kill()
	begin := time.Now()
	w := newWallet(t)
	testkit.Eventually(t, time.Minute, func() bool {
		started, err := s.sessions.StartWalletLogin(t.Context(),
			&authv1.StartWalletLoginRequest{Address: w.address, ChainId: 1})
		if err != nil {
			if e := errs.As(err); e == nil || e.Reason != "SIGN_IN_UNAVAILABLE" {
				t.Fatal(err)
			}
			return false
		}
		_, err = s.finish(t, started.GetMessage(), w.sign(started.GetMessage()))
		return err == nil
	})
	testkit.Figure(t, "primary of a Sentinel group killed: a wallet signed in %.1f s later",
		time.Since(begin).Seconds())
	testkit.Eventually(t, time.Minute, func() bool { // until all Sentinels have heard of it
		after, err := group.Primary(t.Context())
		return err == nil && after != before
	})
}
