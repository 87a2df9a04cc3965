package cache

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// GetMany returns the values of keys, those that are missing by one load. A
// key that load leaves out of its map is absent, is cached as such and is not
// in the result. Unlike Get it doesn't wait for what another caller is
// loading, but loads it too; and it doesn't refresh past the soft TTL.
func (c *Cache[V]) GetMany(ctx context.Context, keys []string, load func(context.Context, []string) (map[string]V, error)) (map[string]V, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := budget{c.o.Budget}
	keys = unique(keys)
	token := rand.Text()
	found := make(map[string]V, len(keys))
	missing, leased := c.readMany(ctx, &b, keys, token, found)
	if len(missing) == 0 {
		return found, nil
	}
	limited, cancel := context.WithTimeout(ctx, c.o.LoadTimeout)
	defer cancel()
	loaded, err := load(limited, missing)
	if err != nil {
		c.dropMany(ctx, &b, leased, token)
		return nil, err
	}
	for _, key := range missing {
		if v, ok := loaded[key]; ok {
			found[key] = v
		}
	}
	c.storeMany(ctx, &b, leased, token, loaded)
	return found, nil
}

// readMany asks for every key's value or lease in one pipeline. Without an
// answer everything is missing and nothing leased.
func (c *Cache[V]) readMany(ctx context.Context, b *budget, keys []string, token string, found map[string]V) (missing, leased []string) {
	replies, err := c.pipeline(ctx, b, leaseScript, keys, func(string) []any {
		return []any{token, c.o.LoadTimeout.Milliseconds(), flag(false)}
	})
	if err != nil {
		c.degraded.Add(ctx, int64(len(keys)), c.labels)
		return keys, nil
	}
	for i, key := range keys {
		reply, err := replies[i].Result()
		state, raw := leaseReply(reply)
		if err == nil && state == leaseFilled {
			if e, ok := c.decode(ctx, b, key, raw); ok {
				if !e.absent {
					found[key] = e.value
				}
				continue
			}
		}
		missing = append(missing, key)
		if err == nil && state == leaseMine {
			leased = append(leased, key)
		}
	}
	c.hits.Add(ctx, int64(len(keys)-len(missing)), c.labels)
	c.misses.Add(ctx, int64(len(missing)), c.labels)
	return missing, leased
}

func (c *Cache[V]) storeMany(ctx context.Context, b *budget, leased []string, token string, loaded map[string]V) {
	_, _ = c.pipeline(ctx, b, c.fill, leased, func(key string) []any {
		v, ok := loaded[key]
		e := entry[V]{value: v, absent: !ok}
		raw, err := c.encode(e)
		if err != nil {
			return []any{"", "", 1} // no lease has this token
		}
		return []any{token, raw, c.ttl(e).Milliseconds()}
	})
}

func (c *Cache[V]) dropMany(ctx context.Context, b *budget, leased []string, token string) {
	for _, key := range leased {
		c.drop(ctx, b, key, token)
	}
}

// pipeline runs a script for each key in one round trip. A server that doesn't
// know the script is taught it, and asked again.
func (c *Cache[V]) pipeline(ctx context.Context, b *budget, s *redis.Script, keys []string, args func(string) []any) (replies []*redis.Cmd, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	run := func(ctx context.Context) error {
		replies = replies[:0]
		_, err := c.redis.Pipelined(ctx, func(p redis.Pipeliner) error {
			for _, key := range keys {
				replies = append(replies, p.EvalSha(ctx, s.Hash(), c.keys(key), args(key)...))
			}
			return nil
		})
		return err
	}
	err = b.spend(ctx, run)
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		err = b.spend(ctx, func(ctx context.Context) error { return s.Load(ctx, c.redis).Err() })
		if err == nil {
			err = b.spend(ctx, run)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("cache: %w", err)
	}
	return replies, nil
}

func unique(keys []string) []string {
	seen := make(map[string]struct{}, len(keys))
	out := make([]string, 0, len(keys))
	for _, k := range keys {
		if _, ok := seen[k]; !ok {
			seen[k] = struct{}{}
			out = append(out, k)
		}
	}
	return out
}
