package cache

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
)

// Redis is what this package uses of a client of redisx.
type Redis interface {
	Do(ctx context.Context, args ...any) *redis.Cmd
	Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error)
}

const (
	worthTrying = 2 * time.Millisecond
	chunk       = 500 // keys in one round trip
)

// budget is what one operation has left for waiting for Redis. Once it is used
// up the rest of the operation goes without.
type budget struct{ left time.Duration }

// spend begins a step within what is left above keep; after ends it. A step that
// is too short to be worth it has no context.
func (b *budget) spend(ctx context.Context, keep time.Duration) (bounded context.Context, after func()) {
	if b.left-keep < worthTrying {
		return nil, nil
	}
	begin := time.Now()
	bounded, cancel := redisx.Within(ctx, b.left-keep)
	return bounded, func() {
		cancel()
		b.left -= time.Since(begin)
	}
}

type reply struct {
	value any
	err   error
}

// one sends one command.
func one(ctx context.Context, r Redis, b *budget, keep time.Duration, command ...any) reply {
	ctx, after := b.spend(ctx, keep)
	if ctx == nil {
		return reply{err: redisx.ErrUnavailable}
	}
	defer after()
	value, err := r.Do(ctx, command...).Result()
	return reply{value, err}
}

// send sends a command for each of n keys, in round trips of a chunk each.
// Each reply has its own error: of a Cluster one node may be away.
func send(ctx context.Context, r Redis, b *budget, keep time.Duration, n int, command func(i int) []any) []reply {
	if n == 1 { // costs less than a pipeline of one
		return []reply{one(ctx, r, b, keep, command(0)...)}
	}
	replies := make([]reply, 0, n)
	for len(replies) < n {
		some := min(chunk, n-len(replies))
		bounded, after := b.spend(ctx, keep)
		if bounded == nil {
			replies = append(replies, slices.Repeat([]reply{{err: redisx.ErrUnavailable}}, some)...)
			continue
		}
		cmds := make([]*redis.Cmd, some)
		_, _ = r.Pipelined(bounded, func(p redis.Pipeliner) error {
			for i := range cmds {
				cmds[i] = p.Do(bounded, command(len(replies)+i)...)
			}
			return nil
		})
		after()
		for _, cmd := range cmds {
			value, err := cmd.Result()
			replies = append(replies, reply{value, err})
		}
	}
	return replies
}

// script is Lua that the server keeps by its hash.
type script struct{ source, sha string }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source))
	return script{source, hex.EncodeToString(sum[:])}
}

// run runs s for each value key and the keys beside it. What a node refuses
// because it doesn't know s is sent again with the source.
func run(ctx context.Context, r Redis, b *budget, keep time.Duration, s script, keys []string,
	args func(i int) []any) []reply {
	call := func(name, what string, i int) []any {
		// The lease of who fills the value and the marks of writes under way
		// share its hash tag.
		return append([]any{name, what, 3, keys[i], keys[i] + ":lease", keys[i] + ":writes"}, args(i)...)
	}
	replies := send(ctx, r, b, keep, len(keys), func(i int) []any { return call("evalsha", s.sha, i) })
	var refused []int
	for i, r := range replies {
		if redis.HasErrorPrefix(r.err, "NOSCRIPT") {
			refused = append(refused, i)
		}
	}
	again := send(ctx, r, b, keep, len(refused), func(i int) []any { return call("eval", s.source, refused[i]) })
	for i, r := range again {
		replies[refused[i]] = r
	}
	return replies
}

// constant gives every key the same arguments.
func constant(args ...any) func(int) []any { return func(int) []any { return args } }

// silent tells a Redis that gave no answer from one that answered anything.
func silent(err error) bool { return errors.Is(redisx.Unavailable(err), redisx.ErrUnavailable) }
