package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
)

// Once keeps single-use challenges: what was put can be taken once. It fails
// closed, and Redis is its only copy. It is safe for concurrent use.
type Once[V any] struct {
	redis  Redis
	ns     Namespace
	codec  Codec
	budget time.Duration
}

// NewOnce makes a store of V under ns. Of o it uses the codec and the budget.
func NewOnce[V any](r Redis, ns Namespace, o Options) *Once[V] {
	o = withDefaults(o)
	return &Once[V]{redis: r, ns: ns, codec: o.Codec, budget: o.Budget}
}

// Put keeps v under key for ttl. The error is redisx.ErrUnavailable when Redis
// gave no answer.
func (s *Once[V]) Put(ctx context.Context, key string, v V, ttl time.Duration) error {
	raw, err := s.codec.Marshal(v)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	ctx, cancel := redisx.Within(ctx, s.budget)
	defer cancel()
	return redisx.Unavailable(s.redis.Set(ctx, s.ns.key(key), raw, ttl).Err())
}

// Take removes what is under key and returns it; false when there is nothing,
// because it has expired, was taken, or never was. Of several that take at
// once one gets it. After an error the value may or may not be gone.
func (s *Once[V]) Take(ctx context.Context, key string) (V, bool, error) {
	var v V
	bounded, cancel := redisx.Within(ctx, s.budget)
	defer cancel()
	raw, err := s.redis.GetDel(bounded, s.ns.key(key)).Bytes()
	if errors.Is(err, redis.Nil) {
		return v, false, nil
	}
	if err != nil {
		return v, false, redisx.Unavailable(err)
	}
	if err := s.codec.Unmarshal(raw, &v); err != nil {
		return v, false, fmt.Errorf("cache: %w", err)
	}
	return v, true, nil
}
