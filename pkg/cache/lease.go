package cache

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"time"

	"github.com/redis/go-redis/v9"
)

// An entry has two keys, which share a hash tag: the value, and beside it the
// lease of whoever fills it or, beginning with "w", of a write under way.
var (
	// leaseScript returns the value, or 1 and the lease, or 0 when another
	// fills, or 2 while a write keeps fills out.
	leaseScript = redis.NewScript(`
local value = redis.call('GET', KEYS[1])
if value and ARGV[3] == '0' then return value end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if string.sub(redis.call('GET', KEYS[2]), 1, 1) == 'w' then return 2 end
return 0`)

	fillScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1`)

	dropScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])`)
)

const (
	leaseFilled  int64 = -1 // somebody has stored a value meanwhile
	leaseOthers  int64 = 0
	leaseMine    int64 = 1
	leaseWriting int64 = 2

	pollLeast    = 2 * time.Millisecond
	pollMost     = 10 * time.Millisecond
	loadAttempts = 3
)

func (c *Cache[V]) keys(key string) []string {
	value := c.ns.key(key)
	return []string{value, value + ":lease"}
}

// lease asks for the right to fill key. renew asks even when there is a value.
func (c *Cache[V]) lease(ctx context.Context, b *budget, key, token string, renew bool) (state int64, raw []byte, err error) {
	err = b.spend(ctx, func(ctx context.Context) error {
		reply, err := leaseScript.Run(ctx, c.redis, c.keys(key), token, c.o.LoadTimeout.Milliseconds(), flag(renew)).Result()
		state, raw = leaseReply(reply)
		return err
	})
	return state, raw, err
}

func leaseReply(reply any) (int64, []byte) {
	if value, ok := reply.(string); ok {
		return leaseFilled, []byte(value)
	}
	state, _ := reply.(int64)
	return state, nil
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// loadUnderLease is the miss path: take the lease and load, or wait for who
// has it. Without Redis, and while a write is under way, it loads and stores
// nothing.
func (c *Cache[V]) loadUnderLease(ctx context.Context, b *budget, key string, load func(context.Context) (V, error)) (V, error) {
	token := rand.Text()
	for attempt, wait := 1, pollLeast; ; wait = min(2*wait, pollMost) {
		state, raw, err := c.lease(ctx, b, key, token, false)
		if err != nil {
			c.degraded.Add(ctx, 1, c.labels)
		}
		switch {
		case err != nil, state == leaseWriting:
			e, err := c.loadEntry(ctx, load)
			if err != nil {
				return e.value, err
			}
			return e.result()
		case state == leaseFilled:
			if e, ok := c.decode(ctx, b, key, raw); ok {
				return e.result()
			}
		case state == leaseMine:
			begin := time.Now()
			e, err := c.loadEntry(ctx, load)
			if err != nil {
				c.drop(ctx, b, key, token)
				return e.value, err
			}
			overtaken := c.store(ctx, b, key, token, e)
			// Others may have joined after the invalidation that overtook the
			// load, so it is worth another, unless the lease just ran out.
			if !overtaken || attempt == loadAttempts || time.Since(begin) >= c.o.LoadTimeout {
				return e.result()
			}
			attempt++
		default:
			timer := time.NewTimer(wait/2 + mathrand.N(wait))
			select {
			case <-ctx.Done():
				timer.Stop()
				var zero V
				return zero, context.Cause(ctx)
			case <-timer.C:
			}
			*b = budget{c.o.Budget} // Redis answered; the wait is for another's load
		}
	}
}

// loadEntry gives the load its own time, whatever waiting for another's lease
// took before.
func (c *Cache[V]) loadEntry(ctx context.Context, load func(context.Context) (V, error)) (entry[V], error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.LoadTimeout)
	defer cancel()
	v, err := load(ctx)
	if errors.Is(err, ErrNotFound) {
		return entry[V]{absent: true}, nil
	}
	return entry[V]{value: v}, err
}

// store fills the cache if the lease is still there and reports whether an
// invalidation has taken it away.
func (c *Cache[V]) store(ctx context.Context, b *budget, key, token string, e entry[V]) (overtaken bool) {
	raw, err := c.encode(e)
	if err != nil {
		c.drop(ctx, b, key, token)
		return false
	}
	err = b.spend(ctx, func(ctx context.Context) error {
		stored, err := c.fill.Run(ctx, c.redis, c.keys(key), token, raw, c.ttl(e).Milliseconds()).Bool()
		overtaken = err == nil && !stored
		return err
	})
	return overtaken && err == nil
}

func (c *Cache[V]) ttl(e entry[V]) time.Duration {
	ttl := c.o.TTL
	if e.absent {
		ttl = c.o.NegativeTTL
	}
	return ttl - mathrand.N(ttl/10+1)
}

// drop gives a lease back, so that a waiter may try at once.
func (c *Cache[V]) drop(ctx context.Context, b *budget, key, token string) {
	_ = b.spend(ctx, func(ctx context.Context) error {
		return dropScript.Run(ctx, c.redis, c.keys(key)[1:], token).Err()
	})
}

// refresh reloads a value past its soft TTL in the background, in the one
// caller that gets the lease.
func (c *Cache[V]) refresh(ctx context.Context, key string, load func(context.Context) (V, error)) {
	if _, running := c.refreshing.LoadOrStore(key, true); running {
		return
	}
	b := budget{c.o.Budget}
	token := rand.Text()
	if state, _, err := c.lease(ctx, &b, key, token, true); err != nil || state != leaseMine {
		c.refreshing.Delete(key)
		return
	}
	c.work.Go(func() {
		defer c.refreshing.Delete(key)
		ctx := context.WithoutCancel(ctx)
		e, err := guarded(func() (entry[V], error) { return c.loadEntry(ctx, load) })
		if err != nil {
			c.drop(ctx, &b, key, token)
			return
		}
		c.store(ctx, &b, key, token, e)
	})
}
