package cache

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestEverythingWorksOnARedisCluster(t *testing.T) {
	t.Parallel()
	cluster := testkit.RedisCluster(t)
	raw := dial(t, cluster.URL(), patience)
	o := Options{Budget: patience}
	a, b := New[string](raw, ns, o), New[string](raw, ns, o)
	keys := []string{"", "}", "{", "{}", "%", "a}b{c}"}
	for i := range 3 * maxKeysPerTrip / 2 {
		keys = append(keys, fmt.Sprint(i))
	}
	loads := 0
	for _, c := range []*Cache[string]{a, b} {
		got, err := c.GetMany(t.Context(), keys, func(ctx context.Context, keys []string) (map[string]string, error) {
			loads++
			return echo(ctx, keys)
		})
		all(t, got, err, keys...)
	}
	if loads != 1 {
		t.Fatalf("%d loads", loads)
	}
	if err := a.Invalidate(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
	var entries []Entry // in the slots of every node
	for _, key := range keys[:12] {
		get(t, a, key, value("new"), "new")
		settle(t, a)
		get(t, b, key, never[string](t), "new")
		entries = append(entries, b.Entry(key))
	}
	ahead := ReadAhead(t.Context(), entries...)
	if err := a.Invalidate(t.Context(), keys[:12]...); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys[:12] {
		if got, err := b.Get(ahead, key, value("late")); err != nil || got != "new" {
			t.Fatal(got, err)
		}
	}
	// A node that has forgotten the scripts is taught them, the others not asked.
	one := raw.(*redis.ClusterClient)
	err := one.ForEachMaster(t.Context(), func(ctx context.Context,
		node *redis.Client) error {
		return node.ScriptFlush(ctx).Err()
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Write(t.Context(), keys, func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	got, err := b.GetMany(t.Context(), keys, echo)
	all(t, got, err, keys...)
	once := NewSingleUse[string](raw, Namespace{Service: "test", Entity: "challenge"}, o)
	for _, key := range keys[:12] {
		if err := once.Put(t.Context(), key, "v", time.Minute); err != nil {
			t.Fatal(err)
		}
		for _, want := range []bool{true, false} {
			if v, ok, err := once.Take(t.Context(), key); ok != want || err != nil {
				t.Fatal(v, ok, err)
			}
		}
	}
	aNodeAway(t, cluster.Nodes[0].Kill, New[string](dial(t, cluster.URL(), redisx.Budget), ns, Options{}), keys)
}

// aNodeAway checks that the keys of the other nodes are still cached.
func aNodeAway(t *testing.T, kill func(), c *Cache[string], keys []string) {
	t.Helper()
	defer c.Close()
	kill()
	loaded := len(keys)
	testkit.Eventually(t, time.Minute, func() bool {
		loaded = 0
		got, err := c.GetMany(t.Context(), keys, func(ctx context.Context, keys []string) (map[string]string, error) {
			loaded = len(keys)
			return echo(ctx, keys)
		})
		all(t, got, err, keys...)
		return loaded < len(keys)/2
	})
	if loaded == 0 {
		t.Error("the node held no key")
	}
	if err := c.Invalidate(t.Context(), keys...); !errors.Is(err, redisx.ErrUnavailable) {
		t.Error(err)
	}
}
