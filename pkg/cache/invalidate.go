package cache

import (
	"context"
	"crypto/rand"
	"errors"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
)

var (
	beginWriteScript = redis.NewScript(`
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1`)

	// invalidateScript leaves only the mark of another write that is under way.
	invalidateScript = redis.NewScript(`
redis.call('DEL', KEYS[1])
local lease = redis.call('GET', KEYS[2])
if lease and (lease == ARGV[1] or string.sub(lease, 1, 1) ~= 'w') then redis.call('DEL', KEYS[2]) end
return 1`)
)

// Invalidate removes the values of keys together with the leases of fills
// under way, whose results are then not stored. Call it after the change is
// committed. It fails with redisx.ErrUnavailable when Redis gave no answer;
// the old values may then live on until their TTL.
func (c *Cache[V]) Invalidate(ctx context.Context, keys ...string) error {
	c.forget(keys)
	err := c.script(ctx, invalidateScript, keys, "")
	c.forget(keys) // what began in between may have got the old value
	return err
}

// Write runs tx, which changes what keys are loaded from and commits, with the
// values removed before and no fill stored until it is over, so that even a
// crash after the commit leaves nothing stale. Its error is tx's. When tx
// succeeded and Redis gave no answer before nor after, it is
// [ErrNotInvalidated]: the change is committed and the old values may live on
// until their TTL.
func (c *Cache[V]) Write(ctx context.Context, keys []string, tx func() error) error {
	token := "w" + rand.Text()
	before := c.script(ctx, beginWriteScript, keys, token, c.o.WriteTimeout.Milliseconds())
	err := tx()
	c.forget(keys)
	// A transaction that failed may yet have been committed.
	after := c.script(ctx, invalidateScript, keys, token)
	c.forget(keys) // what began in between may have got the old value
	switch {
	case err != nil:
		return err
	case before != nil && after != nil:
		return errors.Join(ErrNotInvalidated, after)
	}
	return nil
}

// ErrNotInvalidated says that a write is committed but Redis could not be told.
var ErrNotInvalidated = errors.New("cache: written, but not invalidated")

func (c *Cache[V]) script(ctx context.Context, s *redis.Script, keys []string, args ...any) error {
	b := budget{c.o.Budget}
	_, err := c.pipeline(ctx, &b, s, keys, func(string) []any { return args })
	return redisx.Unavailable(err)
}

func (c *Cache[V]) forget(keys []string) {
	for _, key := range keys {
		c.flights.forget(key, nil)
	}
}
