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
	local bool     // found in this process
}

// readOne reads the value of a key, with Redis's reply if it was asked.
func (c *Cache[V]) readOne(ctx context.Context, b *budget, key string) (lookup[V], reply) {
	var keep ticket
	if c.local != nil {
		if e, ok := c.local.get(key, c.o.Now); ok {
			return lookup[V]{key, found, e, true}, reply{}
		}
		keep = c.local.begin(key)
	}
	full := c.key(key)
	if !keep.valid {
		if ahead, ok := c.readAhead(ctx, b, full); ok {
			return c.decodeReply(key, ahead[0]), ahead[0]
		}
		r := one(ctx, c.redis, b, 0, "get", full)
		c.outage.observe(ctx, isUnanswered(r.err))
		return c.decodeReply(key, r), r
	}
	replies := send(ctx, c.redis, b, 0, 2, func(i int) []any { return withTTL(full, i) })
	c.outage.observe(ctx, isUnanswered(replies[0].err))
	l := c.decodeReply(key, replies[0])
	c.keep(l, keep, replies[0], replies[1])
	return l, replies[0]
}

// withTTL returns the first or the second command that read what can be kept.
func withTTL(key string, i int) []any { return []any{[2]string{"get", "pttl"}[i%2], key} }

// keep keeps in this process what was read with a valid ticket.
func (c *Cache[V]) keep(l lookup[V], t ticket, value, ttl reply) {
	raw, _ := value.value.(string)
	milliseconds, ok := ttl.value.(int64)
	if t.valid && l.state == found && ttl.err == nil && ok {
		c.local.put(l.key, t, l.entry, raw, time.Duration(milliseconds)*time.Millisecond)
	}
}

// read reads the values of keys. Of a long list it reserves time to lease and to
// store a part of the missing ones, or such a list would never be cached.
func (c *Cache[V]) read(ctx context.Context, b *budget, keys []string) []lookup[V] {
	reserve, commands := time.Duration(0), len(keys)
	tracked := c.local != nil && c.o.Local.tracked()
	if tracked {
		commands *= 2 // with the TTL
	}
	if commands > maxKeysPerTrip {
		reserve = c.o.Budget * 5 / 8
	}
	if tracked {
		return c.readMany(ctx, b, reserve, keys)
	}
	full := make([]string, len(keys))
	for i, key := range keys {
		full[i] = c.key(key)
	}
	if ahead, ok := c.readAhead(ctx, b, full...); ok {
		return c.decodeReplies(ctx, b, keys, ahead)
	}
	replies := send(ctx, c.redis, b, reserve, len(keys), func(i int) []any { return []any{"get", full[i]} })
	return c.decodeReplies(ctx, b, keys, c.observed(ctx, replies))
}

// readMany reads the values of keys in this process, and the others in Redis.
func (c *Cache[V]) readMany(ctx context.Context, b *budget, reserve time.Duration, keys []string) []lookup[V] {
	var lookups []lookup[V]
	var missing []string
	var tickets []ticket
	for _, key := range keys {
		if e, ok := c.local.get(key, c.o.Now); ok {
			lookups = append(lookups, lookup[V]{key, found, e, true})
			continue
		}
		missing, tickets = append(missing, key), append(tickets, c.local.begin(key))
	}
	if len(missing) == 0 {
		return lookups
	}
	replies := send(ctx, c.redis, b, reserve, 2*len(missing), func(i int) []any {
		return withTTL(c.key(missing[i/2]), i)
	})
	values := make([]reply, len(missing))
	for i := range values {
		values[i] = replies[2*i]
	}
	for i, l := range c.decodeReplies(ctx, b, missing, c.observed(ctx, values)) {
		c.keep(l, tickets[i], replies[2*i], replies[2*i+1])
		lookups = append(lookups, l)
	}
	return lookups
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
