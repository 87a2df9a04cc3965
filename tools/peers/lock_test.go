package peers

import (
	"testing"
	"time"

	"github.com/bsm/redislock"
	"github.com/go-redsync/redsync/v4"
	redsyncpool "github.com/go-redsync/redsync/v4/redis/goredis/v9"
	"github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"
	"github.com/redis/rueidis/rueidislock"

	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
	"github.com/purserhq/purser/pkg/testkit/versus"
)

const ttl = time.Minute

func must(b *testing.B, err error) {
	if err != nil {
		b.Fatal(err)
	}
}

// ours takes and gives back a lock of package lock.
func ours(b *testing.B, s *redisserver.Server, o lock.Options) func() {
	b.Helper()
	o.Prefix, o.Budget = "purser:peers", 10*time.Second
	client, err := redisx.New(redisx.Options{URL: s.URL(), Timeout: o.Budget})
	must(b, err)
	l := lock.New(client, o)
	b.Cleanup(func() { l.Close(); _ = client.Close() })
	ctx := b.Context()
	return func() {
		g, err := l.Try(ctx, "ours", ttl)
		must(b, err)
		must(b, g.Release())
	}
}

func plain(b *testing.B, s *redisserver.Server) *redis.Client {
	b.Helper()
	o, err := redis.ParseURL(s.URL())
	must(b, err)
	c := redis.NewClient(o)
	b.Cleanup(func() { _ = c.Close() })
	return c
}

func byRedislock(b *testing.B, s *redisserver.Server) func() {
	locker, ctx := redislock.New(plain(b, s)), b.Context()
	return func() {
		l, err := locker.Obtain(ctx, "redislock", ttl, nil)
		must(b, err)
		must(b, l.Release(ctx))
	}
}

func byRedsync(b *testing.B, s *redisserver.Server) func() {
	locker, ctx := redsync.New(redsyncpool.NewPool(plain(b, s))), b.Context()
	return func() {
		m := locker.NewMutex("redsync", redsync.WithExpiry(ttl), redsync.WithTries(1))
		must(b, m.TryLockContext(ctx))
		_, err := m.UnlockContext(ctx)
		must(b, err)
	}
}

func byRueidislock(b *testing.B, s *redisserver.Server) func() {
	o, err := rueidis.ParseURL(s.URL())
	must(b, err)
	locker, err := rueidislock.NewLocker(rueidislock.LockerOption{ClientOption: o, KeyMajority: 1,
		KeyValidity: ttl, NoLoopTracking: true})
	must(b, err)
	b.Cleanup(locker.Close)
	ctx := b.Context()
	return func() {
		_, release, err := locker.TryWithContext(ctx, "rueidislock")
		must(b, err)
		release()
	}
}

func BenchmarkTryAndRelease(b *testing.B) {
	for _, peer := range []struct {
		name             string
		by               func(*testing.B, *redisserver.Server) func()
		unfenced, fenced float64 // goals; 0 for none
	}{
		{"redislock", byRedislock, 0.95, 1.1},
		{"redsync", byRedsync, 0, 0},
		{"rueidislock", byRueidislock, 0, 0},
	} {
		for name, o := range map[string]lock.Options{"unfenced": {Unfenced: true}, "fenced": {}} {
			b.Run(name+" beside "+peer.name, func(b *testing.B) {
				s := testkit.Redis(b)
				goal := peer.unfenced
				if name == "fenced" {
					goal = peer.fenced
				}
				versus.Run(b, versus.Comparison{Goal: goal, Raw: peer.by(b, s), Ours: ours(b, s, o)})
			})
		}
	}
}
