package cache

import (
	"context"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

// Scripts that lack a safeguard, for the controls.
const (
	fillRegardless  = `redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) redis.call('DEL', KEYS[2]) return 1`
	leaseRegardless = `return redis.call('GET', KEYS[1]) or 1`
	beginNothing    = `return 1`
)

// swap runs other scripts in place of some, by their hash.
type swap map[string]string

type swapped struct {
	Redis
	instead swap
}

func (s swapped) Do(ctx context.Context, args ...any) *redis.Cmd {
	return s.Redis.Do(ctx, s.instead.of(args)...)
}

func (s swapped) Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	return s.Redis.Pipelined(ctx, func(p redis.Pipeliner) error { return fn(swappedPipe{p, s.instead}) })
}

type swappedPipe struct {
	redis.Pipeliner
	instead swap
}

func (p swappedPipe) Do(ctx context.Context, args ...any) *redis.Cmd {
	return p.Pipeliner.Do(ctx, p.instead.of(args)...)
}

func (s swap) of(args []any) []any {
	if args[0] == "evalsha" {
		if source, ok := s[args[1].(string)]; ok {
			return append([]any{"eval", source}, args[2:]...)
		}
	}
	return args
}

// openWith is open with other scripts in place of some.
func openWith[V any](t testing.TB, s *redisserver.Server, o Options, instead swap) *Cache[V] {
	t.Helper()
	c := open[V](t, s, o)
	c.redis = swapped{c.redis, instead}
	return c
}
