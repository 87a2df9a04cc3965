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
	minStep        = 2 * time.Millisecond // a shorter step is not worth sending
	maxKeysPerTrip = 500
)

// budget is how long one operation may still wait for Redis. Once it is used up
// the further steps of the operation are not sent.
type budget struct{ remaining time.Duration }

// spend returns the context of a step, which may take what remains of the budget
// above reserve, and the function that ends it. Both are nil when less than minStep
// remains.
func (b *budget) spend(ctx context.Context, reserve time.Duration) (bounded context.Context, end func()) {
	if b.remaining-reserve < minStep {
		return nil, nil
	}
	begin := time.Now()
	bounded, cancel := redisx.WithBudget(ctx, b.remaining-reserve)
	return bounded, func() {
		cancel()
		b.remaining -= time.Since(begin)
	}
}

type reply struct {
	value any
	err   error
}

// one sends one command.
func one(ctx context.Context, r Redis, b *budget, reserve time.Duration, command ...any) reply {
	ctx, end := b.spend(ctx, reserve)
	if ctx == nil {
		return reply{err: redisx.ErrUnavailable}
	}
	defer end()
	value, err := r.Do(ctx, command...).Result()
	return reply{value, err}
}

// send sends a command for each of n keys, maxKeysPerTrip in one round trip. Each
// reply has its own error: one node of a Cluster may be down.
func send(ctx context.Context, r Redis, b *budget, reserve time.Duration, n int, command func(i int) []any) []reply {
	if n == 1 { // costs less than a pipeline of one
		return []reply{one(ctx, r, b, reserve, command(0)...)}
	}
	replies := make([]reply, 0, n)
	for len(replies) < n {
		size := min(maxKeysPerTrip, n-len(replies))
		bounded, end := b.spend(ctx, reserve)
		if bounded == nil {
			replies = append(replies, slices.Repeat([]reply{{err: redisx.ErrUnavailable}}, size)...)
			continue
		}
		cmds := make([]*redis.Cmd, size)
		_, _ = r.Pipelined(bounded, func(p redis.Pipeliner) error {
			for i := range cmds {
				cmds[i] = p.Do(bounded, command(len(replies)+i)...)
			}
			return nil
		})
		end()
		for _, cmd := range cmds {
			value, err := cmd.Result()
			replies = append(replies, reply{value, err})
		}
	}
	return replies
}

// script is a Lua script that the server caches by its hash.
type script struct{ source, sha string }

func newScript(source string) script {
	sum := sha1.Sum([]byte(source))
	return script{source, hex.EncodeToString(sum[:])}
}

// run runs s for each value key and the keys of its lease and its writes. Where a
// node doesn't know s it sends the source.
func run(ctx context.Context, r Redis, b *budget, reserve time.Duration, s script, keys []string,
	args func(i int) []any) []reply {
	call := func(name, script string, i int) []any {
		// The keys share the value's hash tag.
		return append([]any{name, script, 3, keys[i], keys[i] + ":lease", keys[i] + ":writes"}, args(i)...)
	}
	replies := send(ctx, r, b, reserve, len(keys), func(i int) []any { return call("evalsha", s.sha, i) })
	var unknown []int
	for i, r := range replies {
		if redis.HasErrorPrefix(r.err, "NOSCRIPT") {
			unknown = append(unknown, i)
		}
	}
	resent := send(ctx, r, b, reserve, len(unknown), func(i int) []any { return call("eval", s.source, unknown[i]) })
	for i, r := range resent {
		replies[unknown[i]] = r
	}
	return replies
}

// constant returns the same arguments for every key.
func constant(args ...any) func(int) []any { return func(int) []any { return args } }

// isUnanswered reports whether err means that Redis gave no usable answer. An error
// reply is none either: a refused password or command, a key that is MOVED to another
// node, a server without memory.
func isUnanswered(err error) bool { return err != nil && !errors.Is(err, redis.Nil) }
