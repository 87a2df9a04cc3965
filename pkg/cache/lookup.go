package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// KEYS are the value, the lease and the marks of writes; see run.
var (
	// leaseScript returns the value, or a lookupState: leaseGranted, also to the
	// lease's holder, leasedByOther, or blockedByWrite. It ignores a value that
	// begins with ARGV[3].
	leaseScript = newScript(`
if redis.call('EXISTS', KEYS[1], KEYS[3]) > 0 then
  local value = redis.call('GET', KEYS[1])
  if value and (ARGV[3] == '' or string.sub(value, 1, #ARGV[3]) ~= ARGV[3]) then return value end
  local now = redis.call('TIME')
  if redis.call('ZCOUNT', KEYS[3], now[1] * 1000 + math.floor(now[2] / 1000), '+inf') > 0 then return 2 end
end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 1 end
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
return 1`)

	// renewScript never creates a lease: an invalidation may have removed it.
	renewScript = newScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[2], ARGV[2])`)

	// removeScript removes the value or the lease if it equals ARGV[1].
	removeScript = newScript(`
for i = 1, 2 do
  if redis.call('GET', KEYS[i]) == ARGV[1] then redis.call('DEL', KEYS[i]) end
end
return 1`)
)

const (
	// leaseDuration is how long others wait for a holder that has died; a live
	// one renews its lease.
	leaseDuration = 900 * time.Millisecond
	renewInterval = 250 * time.Millisecond
)

// lookupState says what a key has in Redis. leaseScript returns the first three.
type lookupState int64

const (
	leasedByOther  lookupState = iota // no value; another process may be loading it
	leaseGranted                      // no value; this caller has the lease
	blockedByWrite                    // no value; a write prevents fills
	found                             // a value
	undecodable                       // a value to be removed
	unanswered                        // Redis gave no answer
)

// lookup is what was found for a key.
type lookup[V any] struct {
	key   string
	state lookupState
	entry entry[V] // when found
}

// read reads the values of keys. Of a long list it reserves time to lease and to
// store a part of the missing ones, or such a list would never be cached.
func (c *Cache[V]) read(ctx context.Context, b *budget, keys []string) []lookup[V] {
	reserve := time.Duration(0)
	if len(keys) > maxKeysPerTrip {
		reserve = c.o.Budget * 5 / 8
	}
	replies := send(ctx, c.redis, b, reserve, len(keys), func(i int) []any { return []any{"get", c.key(keys[i])} })
	return c.decodeReplies(ctx, b, keys, c.observed(ctx, replies))
}

// lease reads the value or takes the lease of each key. The token identifies the
// leases, see loadAndStore. old are the headers of the values to be replaced; nil
// for none.
func (c *Cache[V]) lease(ctx context.Context, b *budget, keys, old []string) (token string, lookups []lookup[V]) {
	token = rand.Text()
	// Half of the budget is reserved for releasing the leases: others wait for them.
	replies := c.run(ctx, b, c.o.Budget/2, leaseScript, keys, func(i int) []any {
		header := ""
		if old != nil {
			header = old[i]
		}
		return []any{token, c.leaseTime(), header}
	})
	return token, c.decodeReplies(ctx, b, keys, replies)
}

// decodeReplies removes and counts values that can't be decoded.
func (c *Cache[V]) decodeReplies(ctx context.Context, b *budget, keys []string, replies []reply) []lookup[V] {
	lookups := make([]lookup[V], len(keys))
	var broken []string
	var values []any
	for i, r := range replies {
		lookups[i] = c.decodeReply(keys[i], r)
		if lookups[i].state == undecodable {
			lookups[i].state = leasedByOther
			broken, values = append(broken, keys[i]), append(values, r.value)
		}
	}
	if len(broken) > 0 {
		c.metrics.add(ctx, c.metrics.undecodable, len(broken))
		c.run(ctx, b, 0, removeScript, broken, func(i int) []any { return values[i : i+1] })
	}
	return lookups
}

// decodeReply decodes a reply of leaseScript or of GET, which may be anything.
func (c *Cache[V]) decodeReply(key string, r reply) lookup[V] {
	l := lookup[V]{key: key, state: unanswered}
	switch value := r.value.(type) {
	case string:
		l.state = undecodable
		if e, ok := c.format.decode(value, c.o.Now()); ok {
			l.state, l.entry = found, e
		}
	case int64:
		if value >= int64(leasedByOther) && value <= int64(blockedByWrite) {
			l.state = lookupState(value)
		}
	}
	switch {
	case errors.Is(r.err, redis.Nil):
		l.state = leasedByOther
	case r.err != nil:
		l.state = unanswered
	}
	return l
}

func (c *Cache[V]) leaseTime() int64 { return milliseconds(min(c.leaseDuration, c.o.LoadTimeout)) }

// milliseconds converts d for PX, whose minimum is 1.
func milliseconds(d time.Duration) int64 { return max(1, d.Milliseconds()) }

// renewLeases renews leases in the background until ctx ends or the timer is
// stopped.
func (c *Cache[V]) renewLeases(ctx context.Context, keys []string, token string) *time.Timer {
	return time.AfterFunc(renewInterval, func() {
		if ctx.Err() == nil {
			c.run(ctx, &budget{c.o.Budget}, 0, renewScript, keys, constant(token, c.leaseTime()))
			c.renewLeases(ctx, keys, token)
		}
	})
}

// releaseLeases releases leases, so that a waiter may load at once.
func (c *Cache[V]) releaseLeases(ctx context.Context, b *budget, token string, keys []string) {
	c.run(ctx, b, 0, removeScript, keys, constant(token))
}

// run is [run] for keys of c. It also tells c.outage whether Redis answered.
func (c *Cache[V]) run(ctx context.Context, b *budget, reserve time.Duration, s script, keys []string,
	args func(i int) []any) []reply {
	full := make([]string, len(keys))
	for i, key := range keys {
		full[i] = c.key(key)
	}
	return c.observed(ctx, run(ctx, c.redis, b, reserve, s, full, args))
}

func (c *Cache[V]) observed(ctx context.Context, replies []reply) []reply {
	if len(replies) > 0 {
		c.outage.observe(ctx, slices.ContainsFunc(replies, func(r reply) bool { return isUnanswered(r.err) }))
	}
	return replies
}
