package lock

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

// write is a fenced write of a guard.
func write(t *testing.T, db *testkit.DB, g *Guard) error {
	t.Helper()
	return postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error { return Fenced(tx, g) })
}

// Redis may lose a live lock. Then two hold it, for a third of the lease at most, and
// only the newer one can write.
func TestALockThatRedisLosesIsToldToItsHolderAndFenced(t *testing.T) {
	for how, lose := range map[string]func(*testing.T, *redisserver.Server, redis.UniversalClient, string){
		"restarted empty": func(t *testing.T, s *redisserver.Server, _ redis.UniversalClient, _ string) {
			s.Kill()
			if err := s.Restart(t.Context()); err != nil {
				t.Fatal(err)
			}
		},
		"evicted": evict,
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s, db := testkit.Redis(t), fences(t)
			l := locker(t, s, Options{Floor: Floor(db.Gorm)})
			first := tryFor(t, l, "x", ttl)
			lost := loss(t, first)
			lose(t, s, l.client, l.key("x"))
			var second *Guard
			testkit.Eventually(t, time.Minute, func() bool {
				var err error
				second, err = l.Try(t.Context(), "x", time.Hour)
				return err == nil
			})
			if second.Fence() <= first.Fence() {
				t.Errorf("fence %d after %d", second.Fence(), first.Fence())
			}
			if err := write(t, db, second); err != nil {
				t.Error(err)
			}
			if err := write(t, db, first); !errors.Is(err, ErrFenced) {
				t.Errorf("the older holder's write: %v", err)
			}
			lost()
			if cause := context.Cause(first.Context()); !errors.Is(cause, ErrLost) {
				t.Error(cause)
			}
		})
	}
}

// evict makes a server that may evict keys do so.
func evict(t *testing.T, _ *redisserver.Server, c redis.UniversalClient, key string) {
	t.Helper()
	configure(t, c, "maxmemory-policy", "allkeys-lru", "maxmemory", "1")
	_ = c.Set(t.Context(), "another", 1, 0).Err() // for which there is no room even so
	if left, err := c.Exists(t.Context(), key).Result(); err != nil || left != 0 {
		t.Fatalf("%d keys are left, %v", left, err)
	}
	configure(t, c, "maxmemory", "0")
}

// configure sets names and values.
func configure(t *testing.T, c redis.UniversalClient, settings ...string) {
	t.Helper()
	for i := 0; i < len(settings); i += 2 {
		if err := c.ConfigSet(t.Context(), settings[i], settings[i+1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// A Redis without memory for a write, or that must not write, is unavailable for locks.
func TestAServerThatRefusesWritesGivesNoLock(t *testing.T) {
	for how, settings := range map[string][2]string{
		"it is full": {"maxmemory", "1"}, "it has no replicas": {"min-replicas-to-write", "1"},
	} {
		t.Run(how, func(t *testing.T) {
			s := testkit.Redis(t)
			for kind, l := range map[string]*Locker{"fenced": locker(t, s, Options{}),
				"unfenced": locker(t, s, Options{Unfenced: true})} {
				configure(t, l.client, settings[0], settings[1])
				if _, err := l.Try(t.Context(), kind, time.Hour); !errors.Is(err, ErrUnavailable) {
					t.Errorf("%s: %v", kind, err)
				}
				configure(t, l.client, settings[0], "0")
				try(t, l, kind)
			}
		})
	}
}

// A primary that is behind the fences of the one before counts on from the last that it
// has, as the one before did, whose last lease it never got.
func TestOfTwoHoldersWithOneFenceOnlyTheFirstToWriteDoes(t *testing.T) {
	s, db := testkit.Redis(t), fences(t)
	l := locker(t, s, Options{Floor: Floor(db.Gorm)})
	fence, ahead := l.key("x")+":fence", "8000000000000123"
	take := func() *Guard { // from a primary that has this last fence and no lease
		if err := l.client.Del(t.Context(), l.key("x")).Err(); err != nil {
			t.Fatal(err)
		}
		if err := l.client.Set(t.Context(), fence, ahead, 0).Err(); err != nil {
			t.Fatal(err)
		}
		return try(t, l, "x")
	}
	first, second := take(), take()
	if first.Fence() != second.Fence() {
		t.Fatalf("fences %d and %d: they are to be equal here", first.Fence(), second.Fence())
	}
	for range 2 { // the same holder may write again
		if err := write(t, db, second); err != nil {
			t.Error(err)
		}
	}
	if err := write(t, db, first); !errors.Is(err, ErrFenced) {
		t.Errorf("the other's write: %v", err)
	}
}

// silent is a client of one server of a group, for what a test does to it.
func silent(t *testing.T, s *redisserver.Server) redis.UniversalClient {
	t.Helper()
	return client(t, redisx.Options{URL: s.URL(), Timeout: patience})
}
