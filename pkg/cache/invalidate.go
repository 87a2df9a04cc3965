package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
)

var (
	// beginScript prevents fills for ARGV[2] ms: each running write has a mark with
	// the time of its end by Redis's clock.
	beginScript = newScript(`
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[3], 0, now)
redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[3]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[3], ARGV[2]) end
return redis.call('DEL', KEYS[1], KEYS[2])`)

	// invalidateScript also ends the write with the mark ARGV[1].
	invalidateScript = newScript(`
redis.call('ZREM', KEYS[3], ARGV[1])
return redis.call('DEL', KEYS[1], KEYS[2])`)
)

// ErrNotInvalidated is returned when a write succeeded and Redis could not be
// reached to invalidate its keys.
var ErrNotInvalidated = errors.New("cache: the write succeeded, but its keys were not invalidated")

// Invalidate removes the values of keys and the leases of running loads, whose
// results are then not stored. Call it after the change is committed. The error is
// redisx.ErrUnavailable when Redis gave no answer for some of the keys; their old
// values may then be read until their TTL, or until the [Outbox] has invalidated
// them if that was recorded.
func (c *Cache[V]) Invalidate(ctx context.Context, keys ...string) error {
	return c.uninvalidated(ctx, c.invalidate(ctx, &budget{c.o.Budget}, "", keys), nil)
}

// Write runs tx, which changes the source of keys and commits. It removes the values
// before and after, and prevents loads from storing meanwhile, so that even a crash
// after the commit leaves no stale value. The error is tx's, or [ErrNotInvalidated]
// when tx succeeded and Redis answered neither before nor after it: the old values
// may then be read until their TTL, or until the [Outbox] has invalidated them if
// that was recorded. Writes of one key may overlap or nest.
func (c *Cache[V]) Write(ctx context.Context, keys []string, tx func() error) (err error) {
	token := rand.Text()
	begin := time.Now()
	b := budget{c.o.Budget}
	c.forget(keys)
	c.dropAhead(ctx, keys)
	before := c.run(ctx, &b, c.o.Budget/2, beginScript, keys, constant(token, milliseconds(c.o.WriteTimeout)))
	c.forget(keys)
	defer func() { // also after a panic; a transaction that failed may yet have been committed
		after := c.invalidate(ctx, &b, token, keys)
		if time.Since(begin) >= c.o.WriteTimeout {
			before = nil // fills were no longer prevented
		}
		if failed := c.uninvalidated(ctx, after, before); failed != nil && err == nil {
			err = errors.Join(ErrNotInvalidated, failed)
		}
	}()
	return tx()
}

// uninvalidated counts the keys that were invalidated neither after nor before the
// write, and returns the error of the first one.
func (c *Cache[V]) uninvalidated(ctx context.Context, after, before []reply) (err error) {
	failed := 0
	for i, r := range after {
		if r.err == nil || before != nil && before[i].err == nil {
			continue
		}
		if failed++; failed == 1 {
			err = redisx.Unavailable(r.err)
		}
	}
	c.metrics.add(ctx, c.metrics.notInvalidated, failed)
	return err
}

// invalidate also prevents further callers from joining running loads.
func (c *Cache[V]) invalidate(ctx context.Context, b *budget, token string, keys []string) []reply {
	c.flights.forget(keys)
	c.forget(keys)
	c.dropAhead(ctx, keys)
	defer c.flights.forget(keys) // a load that started in between may have read the old value
	defer c.forget(keys)         // so may a read
	return c.run(ctx, b, 0, invalidateScript, keys, constant(token))
}

// forget removes keys from this process without waiting for Redis's message.
func (c *Cache[V]) forget(keys []string) {
	if c.local != nil {
		c.local.forget(keys...)
	}
}
