package peers

import (
	"context"
	"fmt"
	"testing"
	"time"

	rediscache "github.com/go-redis/cache/v9"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
	"github.com/purserhq/purser/pkg/testkit/versus"
)

const value = "a value as long as many are"

func ourCache(b *testing.B, s *redisserver.Server) *cache.Cache[string] {
	b.Helper()
	client, err := redisx.New(redisx.Options{URL: s.URL(), Timeout: 10 * time.Second})
	must(b, err)
	c := cache.New[string](client, cache.Namespace{Service: "peers", Entity: "text", Schema: 1},
		cache.Options{Budget: 10 * time.Second})
	b.Cleanup(func() { c.Close(); _ = client.Close() })
	return c
}

func load(context.Context) (string, error) { return value, nil }

// A hit in Redis: both decode what they have stored.
func BenchmarkHitBesideGoRedisCache(b *testing.B) {
	s := testkit.Redis(b)
	c, peer, ctx := ourCache(b, s), rediscache.New(&rediscache.Options{Redis: plain(b, s)}), b.Context()
	must(b, peer.Set(&rediscache.Item{Ctx: ctx, Key: "peer", Value: value, TTL: time.Hour}))
	versus.Run(b, versus.Comparison{Goal: 1.1,
		Raw:  func() { var got string; must(b, peer.Get(ctx, "peer", &got)) },
		Ours: func() { _, err := c.Get(ctx, "ours", load); must(b, err) },
	})
}

// A miss that is loaded once: go-redis/cache in this process only, ours in all processes.
func BenchmarkMissBesideGoRedisCache(b *testing.B) {
	s := testkit.Redis(b)
	c, peer, ctx := ourCache(b, s), rediscache.New(&rediscache.Options{Redis: plain(b, s)}), b.Context()
	var theirs, n int
	versus.Run(b, versus.Comparison{
		Raw: func() {
			theirs++
			var got string
			must(b, peer.Once(&rediscache.Item{Ctx: ctx, Key: fmt.Sprint("peer:", theirs), Value: &got, TTL: time.Hour,
				Do: func(*rediscache.Item) (any, error) { return value, nil }}))
		},
		Ours: func() { n++; _, err := c.Get(ctx, fmt.Sprint(n), load); must(b, err) },
	})
}
