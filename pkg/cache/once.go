package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
)

// Once keeps single-use challenges: what was put can be taken once. Redis is
// its only copy, and it fails closed: without an answer of Redis nothing is put
// and nothing is taken, so that a challenge is never accepted twice, at the
// price that nobody passes meanwhile. It is safe for concurrent use.
type Once[V any] struct {
	redis  Redis
	prefix string
	codec  Codec
	budget time.Duration
}

// NewOnce makes a store of V under ns. Of o it uses the codec and the budget.
func NewOnce[V any](r Redis, ns Namespace, o Options) *Once[V] {
	o = withDefaults(o)
	return &Once[V]{redis: r, prefix: ns.prefix(), codec: o.Codec, budget: o.Budget}
}

// Put keeps v under key for ttl, a millisecond at least. The error is redisx.ErrUnavailable when Redis
// gave no answer.
func (s *Once[V]) Put(ctx context.Context, key string, v V, ttl time.Duration) error {
	raw, err := s.codec.Marshal(v)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return redisx.Unavailable(s.do(ctx, "set", key, raw, "px", milliseconds(ttl)).err)
}

// Take removes what is under key and returns it; false when there is nothing,
// because it has expired, was taken, or never was. Of several that take at
// once one gets it. After an error the value may or may not be gone.
func (s *Once[V]) Take(ctx context.Context, key string) (V, bool, error) {
	var v V
	r := s.do(ctx, "getdel", key)
	if errors.Is(r.err, redis.Nil) {
		return v, false, nil
	}
	if r.err != nil {
		return v, false, redisx.Unavailable(r.err)
	}
	raw, ok := r.value.(string)
	if !ok {
		return v, false, errNonsense
	}
	if err := s.codec.Unmarshal([]byte(raw), &v); err != nil {
		return v, false, fmt.Errorf("cache: %w", err)
	}
	return v, true, nil
}

func (s *Once[V]) do(ctx context.Context, name, id string, args ...any) reply {
	return one(ctx, s.redis, &budget{s.budget}, 0, append([]any{name, redisx.Key(s.prefix, id)}, args...)...)
}

var errNonsense = fmt.Errorf("cache: %w: it gave an answer of the wrong kind", redisx.ErrUnavailable)
