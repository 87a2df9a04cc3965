package cache

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
)

// SingleUse stores values that can be taken once, such as login challenges. Redis
// has the only copy, and SingleUse fails closed: without an answer of Redis nothing
// is put or taken, so that a challenge is never accepted twice, at the price that
// none is accepted during an outage. It is safe for concurrent use.
type SingleUse[V any] struct {
	redis  Redis
	prefix string
	codec  Codec
	budget time.Duration
}

// NewSingleUse makes a store of V under ns. It uses only the Codec and the Budget of
// o.
func NewSingleUse[V any](r Redis, ns Namespace, o Options) *SingleUse[V] {
	o = withDefaults(o)
	return &SingleUse[V]{redis: r, prefix: ns.prefix(), codec: o.Codec, budget: o.Budget}
}

// Put stores v under key for ttl, at least a millisecond. The error is
// redisx.ErrUnavailable when Redis gave no answer.
func (s *SingleUse[V]) Put(ctx context.Context, key string, v V, ttl time.Duration) error {
	raw, err := s.codec.Marshal(v)
	if err != nil {
		return fmt.Errorf("cache: %w", err)
	}
	return redisx.Unavailable(s.do(ctx, "set", key, raw, "px", milliseconds(ttl)).err)
}

// Take removes the value of key and returns it. It returns false when there is
// none: it has expired, was taken before, or was never put. Of concurrent calls
// one gets the value. After an error the value may or may not be removed.
func (s *SingleUse[V]) Take(ctx context.Context, key string) (V, bool, error) {
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
		return v, false, errWrongReply
	}
	if err := s.codec.Unmarshal([]byte(raw), &v); err != nil {
		return v, false, fmt.Errorf("cache: %w", err)
	}
	return v, true, nil
}

func (s *SingleUse[V]) do(ctx context.Context, name, id string, args ...any) reply {
	return one(ctx, s.redis, &budget{s.budget}, 0, append([]any{name, redisx.Key(s.prefix, id)}, args...)...)
}

var errWrongReply = fmt.Errorf("cache: %w: its reply has the wrong type", redisx.ErrUnavailable)
