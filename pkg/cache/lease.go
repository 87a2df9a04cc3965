package cache

import (
	"context"
	"crypto/rand"
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// KEYS are the value, the lease and the marks of writes; see run.
var (
	// leaseScript returns the value, or 1 and the lease, or 0 when another
	// fills, or 2 while a write keeps fills out. A value that begins with
	// ARGV[3] is as good as none. Who holds the lease gets it again.
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

	// renewScript never makes a lease anew: between there may have been an
	// invalidation.
	renewScript = newScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[2], ARGV[2])`)

	fillScript = newScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1`)

	// removeScript removes the value or the lease that is ARGV[1], and nothing
	// that has taken its place.
	removeScript = newScript(`
for i = 1, 2 do
  if redis.call('GET', KEYS[i]) == ARGV[1] then redis.call('DEL', KEYS[i]) end
end
return 1`)
)

const (
	// leaseFor is how long a dead holder's lease keeps others waiting; a live
	// one renews.
	leaseFor   = 900 * time.Millisecond
	renewEvery = 250 * time.Millisecond
)

// state is what there is for a key.
type state int64

const (
	others      state = iota // nothing: another fills it, or nobody yet
	mine                     // the lease is ours
	writing                  // a write keeps fills out
	filled                   // a value
	undecodable              // a value, to be removed
	unknown                  // Redis gave no answer
)

// claim is what was found for a key.
type claim[V any] struct {
	key   string
	state state
	entry entry[V] // when filled
}

// look reads what is there. Of a long list it leaves time to lease and to store
// a part of what is missing, or such a list would never be cached.
func (c *Cache[V]) look(ctx context.Context, b *budget, keys []string) []claim[V] {
	keep := time.Duration(0)
	if len(keys) > chunk {
		keep = c.o.Budget * 5 / 8
	}
	replies := send(ctx, c.redis, b, keep, len(keys), func(i int) []any { return []any{"get", c.key(keys[i])} })
	return c.claims(ctx, b, keys, c.noted(ctx, replies))
}

// lease asks for the value or the lease of each key. For the token see fill.
// old are the headers of values that are to be replaced; nil for none.
func (c *Cache[V]) lease(ctx context.Context, b *budget, keys, old []string) (token string, claims []claim[V]) {
	token = rand.Text()
	// Half of the budget is for giving back what this takes: others wait for it.
	replies := c.run(ctx, b, c.o.Budget/2, leaseScript, keys, func(i int) []any {
		header := ""
		if old != nil {
			header = old[i]
		}
		return []any{token, c.leaseTime(), header}
	})
	return token, c.claims(ctx, b, keys, replies)
}

// claims reads replies. Values that can't be decoded are removed and counted.
func (c *Cache[V]) claims(ctx context.Context, b *budget, keys []string, replies []reply) []claim[V] {
	claims := make([]claim[V], len(keys))
	var broken []string
	var values []any
	for i, r := range replies {
		claims[i] = c.claim(keys[i], r)
		if claims[i].state == undecodable {
			claims[i].state = others
			broken, values = append(broken, keys[i]), append(values, r.value)
		}
	}
	if len(broken) > 0 {
		c.metrics.add(ctx, c.metrics.undecodable, len(broken))
		c.run(ctx, b, 0, removeScript, broken, func(i int) []any { return values[i : i+1] })
	}
	return claims
}

// claim reads a reply of leaseScript, or of GET, whatever it is.
func (c *Cache[V]) claim(key string, r reply) claim[V] {
	cl := claim[V]{key: key, state: unknown}
	switch found := r.value.(type) {
	case string:
		cl.state = undecodable
		if e, ok := c.format.decode(found, c.o.Now()); ok {
			cl.state, cl.entry = filled, e
		}
	case int64:
		if found >= int64(others) && found <= int64(writing) {
			cl.state = state(found)
		}
	}
	switch {
	case errors.Is(r.err, redis.Nil):
		cl.state = others
	case r.err != nil:
		cl.state = unknown
	}
	return cl
}

func (c *Cache[V]) leaseTime() int64 { return milliseconds(min(c.leaseFor, c.o.LoadTimeout)) }

// milliseconds is d for PX, which takes no less than one.
func milliseconds(d time.Duration) int64 { return max(1, d.Milliseconds()) }

// hold renews leases until ctx ends.
func (c *Cache[V]) hold(ctx context.Context, keys []string, token string) *time.Timer {
	return time.AfterFunc(renewEvery, func() {
		if ctx.Err() == nil {
			c.run(ctx, &budget{c.o.Budget}, 0, renewScript, keys, constant(token, c.leaseTime()))
			c.hold(ctx, keys, token)
		}
	})
}

// store fills the cache with what is leased and returns the keys whose lease
// an invalidation has taken away.
func (c *Cache[V]) store(ctx context.Context, b *budget, token string, keys []string,
	entries map[string]entry[V]) (overtaken []string) {
	var soft time.Time
	if c.o.SoftTTL > 0 {
		soft = c.o.Now().Add(c.o.SoftTTL)
	}
	var stored []string
	var args [][]any
	for _, key := range keys {
		raw, err := c.format.encode(entries[key], soft)
		if err != nil {
			c.o.Log.ErrorContext(ctx, "cache: a value can't be encoded", "entity", c.ns.Entity, "error", err)
			c.drop(ctx, b, token, []string{key})
			continue
		}
		ttl := c.o.TTL
		if entries[key].absent {
			ttl = c.o.NegativeTTL
		}
		stored = append(stored, key)
		args = append(args, []any{token, raw, milliseconds(ttl - mathrand.N(ttl/10+1))})
	}
	for i, r := range c.run(ctx, b, 0, fillScript, stored, func(i int) []any { return args[i] }) {
		if r.err == nil && r.value == int64(0) {
			overtaken = append(overtaken, stored[i])
		}
	}
	c.metrics.add(ctx, c.metrics.overtaken, len(overtaken))
	return overtaken
}

// drop gives leases back, so that a waiter may try at once.
func (c *Cache[V]) drop(ctx context.Context, b *budget, token string, keys []string) {
	c.run(ctx, b, 0, removeScript, keys, constant(token))
}

// run is [run] for keys of c; it notes whether Redis answers.
func (c *Cache[V]) run(ctx context.Context, b *budget, keep time.Duration, s script, keys []string,
	args func(i int) []any) []reply {
	full := make([]string, len(keys))
	for i, key := range keys {
		full[i] = c.key(key)
	}
	return c.noted(ctx, run(ctx, c.redis, b, keep, s, full, args))
}

func (c *Cache[V]) noted(ctx context.Context, replies []reply) []reply {
	if len(replies) > 0 {
		c.outage.note(ctx, slices.ContainsFunc(replies, func(r reply) bool { return silent(r.err) }))
	}
	return replies
}
