package cache

import (
	"context"
	mathrand "math/rand/v2"
	"time"
)

// fillScript stores the value ARGV[2] for ARGV[3] milliseconds and removes the
// lease. It returns 0, and stores nothing, if the lease is no longer ARGV[1]. KEYS
// are those of leaseScript.
var fillScript = newScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('DEL', KEYS[2])
return 1`)

// store writes the entries of leased keys to Redis, for 0.9 to 1 of the TTL, or of
// the NegativeTTL for an absent value. It doesn't store superseded keys, whose lease
// an invalidation has removed, and returns them.
func (c *Cache[V]) store(ctx context.Context, b *budget, token string, keys []string,
	entries map[string]entry[V]) (superseded []string) {
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
			c.releaseLeases(ctx, b, token, []string{key})
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
			superseded = append(superseded, stored[i])
		}
	}
	c.metrics.add(ctx, c.metrics.superseded, len(superseded))
	return superseded
}
