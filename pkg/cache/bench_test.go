package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
	"github.com/purserhq/purser/pkg/testkit/versus"
)

// text is a value that costs nothing to encode, so that the cache's own share
// shows.
type text struct{}

func (text) Marshal(v any) ([]byte, error)   { return []byte(v.(string)), nil }
func (text) Unmarshal(b []byte, v any) error { *v.(*string) = string(b); return nil }

func must(b *testing.B, err error) {
	if err != nil && !errors.Is(err, redis.Nil) {
		b.Fatal(err)
	}
}

// plain is a client without anything of redisx.
func plain(b *testing.B, s *redisserver.Server) *redis.Client {
	o, err := redis.ParseURL(s.URL())
	must(b, err)
	c := redis.NewClient(o)
	b.Cleanup(func() { _ = c.Close() })
	return c
}

func BenchmarkHit(b *testing.B) {
	s := testkit.Redis(b)
	c, raw := open[string](b, s, Options{Codec: text{}}), plain(b, s)
	load := value("a value as long as many are")
	get(b, c, "k", load, "a value as long as many are")
	ctx := context.Background()
	must(b, raw.Set(ctx, "raw", "a value as long as many are", time.Minute).Err())
	versus.Run(b, versus.Comparison{
		Goal: 1.15,
		Raw:  func() { must(b, raw.Get(ctx, "raw").Err()) },
		Ours: func() { _, err := c.Get(ctx, "k", load); must(b, err) },
	})
}

// The goal is a time: there is no primitive to compare it with.
func BenchmarkLocalHit(b *testing.B) {
	s := testkit.Redis(b)
	c := open[string](b, s, Options{Codec: text{}, Local: tracker(b, client(b, s))})
	ctx, load := context.Background(), value("a value as long as many are")
	keep(b, c, "k", load)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Get(ctx, "k", load); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(300, "goal-ns")
}

func BenchmarkLeasedMiss(b *testing.B) {
	s := testkit.Redis(b)
	c, raw := open[string](b, s, Options{Codec: text{}}), plain(b, s)
	load := value("a value as long as many are")
	ctx := context.Background()
	var ours, theirs int
	versus.Run(b, versus.Comparison{
		Goal: 1.6,
		Raw: func() {
			theirs++
			key := fmt.Sprintf("raw:%d", theirs)
			must(b, raw.Get(ctx, key).Err())
			must(b, raw.Set(ctx, key, "a value as long as many are", time.Minute).Err())
		},
		Ours: func() { ours++; _, err := c.Get(ctx, fmt.Sprint(ours), load); must(b, err) },
	})
}

func BenchmarkGetManyOf100(b *testing.B) {
	s := testkit.Redis(b)
	c, raw := open[string](b, s, Options{Codec: text{}}), plain(b, s)
	ctx := context.Background()
	var keys, full []string
	for i := range 100 {
		keys, full = append(keys, fmt.Sprint(i)), append(full, fmt.Sprintf("raw:%d", i))
		get(b, c, keys[i], value("a value as long as many are"), "a value as long as many are")
		must(b, raw.Set(ctx, full[i], "a value as long as many are", time.Minute).Err())
	}
	versus.Run(b, versus.Comparison{
		Raw: func() { must(b, raw.MGet(ctx, full...).Err()) },
		Ours: func() {
			_, err := c.GetMany(ctx, keys, func(context.Context, []string) (map[string]string, error) {
				return nil, errors.New("a miss")
			})
			must(b, err)
		},
	})
}
