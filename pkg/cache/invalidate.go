package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
)

var (
	// beginScript keeps fills out for ARGV[2] ms: each write under way has its
	// mark, with the time of its end by Redis's clock.
	beginScript = newScript(`
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[3], 0, now)
redis.call('ZADD', KEYS[3], now + ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[3]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[3], ARGV[2]) end
return redis.call('DEL', KEYS[1], KEYS[2])`)

	// invalidateScript also ends the write whose mark ARGV[1] is.
	invalidateScript = newScript(`
redis.call('ZREM', KEYS[3], ARGV[1])
return redis.call('DEL', KEYS[1], KEYS[2])`)
)

// ErrNotInvalidated says that a write is committed but Redis could not be told.
var ErrNotInvalidated = errors.New("cache: written, but not invalidated")

// Invalidate removes the values of keys together with the leases of fills
// under way, whose results are then not stored. Call it after the change is
// committed. It fails with redisx.ErrUnavailable when Redis gave no answer for
// some of the keys; their old values may then live on until their TTL, or until
// the [Outbox] has swept if the change was noted.
func (c *Cache[V]) Invalidate(ctx context.Context, keys ...string) error {
	return c.uninvalidated(ctx, c.invalidate(ctx, &budget{c.o.Budget}, "", keys), nil)
}

// Write runs tx, which changes what keys are loaded from and commits, with the
// values removed before and no fill stored until it is over, so that even a
// crash after the commit leaves nothing stale. Its error is tx's. When tx
// succeeded and Redis gave no answer before nor after, it is
// [ErrNotInvalidated]: the change is committed and the old values may live on
// until their TTL, or until the [Outbox] has swept if the change was noted.
// Writes of one key may overlap or nest.
func (c *Cache[V]) Write(ctx context.Context, keys []string, tx func() error) (err error) {
	token := rand.Text()
	begin := time.Now()
	b := budget{c.o.Budget}
	before := c.run(ctx, &b, c.o.Budget/2, beginScript, keys, constant(token, milliseconds(c.o.WriteTimeout)))
	defer func() { // also after a panic; a transaction that failed may yet have been committed
		after := c.invalidate(ctx, &b, token, keys)
		if time.Since(begin) >= c.o.WriteTimeout {
			before = nil // fills were no longer kept out
		}
		if failed := c.uninvalidated(ctx, after, before); failed != nil && err == nil {
			err = errors.Join(ErrNotInvalidated, failed)
		}
	}()
	return tx()
}

// uninvalidated counts the keys that were invalidated neither after nor before,
// and returns the first one's error.
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

// invalidate also keeps later callers from joining the loads under way.
func (c *Cache[V]) invalidate(ctx context.Context, b *budget, token string, keys []string) []reply {
	c.flights.forget(keys)
	defer c.flights.forget(keys) // what began in between may have got the old value
	return c.run(ctx, b, 0, invalidateScript, keys, constant(token))
}
