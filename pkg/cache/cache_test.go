package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

func TestMain(m *testing.M) {
	testkit.Children(programs)
	redisx.LogTo(slog.New(slog.DiscardHandler))
	testkit.LeakFree(m)
}

var ns = Namespace{Service: "test", Entity: "thing", Schema: 1}

// at is where id is kept in Redis.
func at(id string) string { return redisx.Key(ns.prefix(), id) }

func beside(key string) []string { return []string{key, key + ":lease", key + ":writes"} }

func lease(id string) string { return beside(at(id))[1] }

// patience keeps a busy machine from looking like an outage, in tests that
// aren't about one.
const patience = 10 * time.Second

func client(t testing.TB, s *redisserver.Server) redis.UniversalClient {
	t.Helper()
	return within(t, s, patience)
}

func within(t testing.TB, s *redisserver.Server, timeout time.Duration) redis.UniversalClient {
	t.Helper()
	return dial(t, s.URL(), timeout)
}

func dial(t testing.TB, url string, timeout time.Duration) redis.UniversalClient {
	t.Helper()
	c, err := redisx.New(redisx.Options{URL: url, Timeout: timeout})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// open makes a cache that is patient unless o says otherwise.
func open[V any](t testing.TB, s *redisserver.Server, o Options) *Cache[V] {
	t.Helper()
	if o.Budget == 0 {
		o.Budget = patience
	}
	c := New[V](within(t, s, o.Budget), ns, o)
	t.Cleanup(c.Close)
	return c
}

// settle waits until c has stored what it has loaded.
func settle[V any](t testing.TB, c *Cache[V]) {
	t.Helper()
	c.work.Wait()
	running := func() chan struct{} {
		c.flights.mu.Lock()
		defer c.flights.mu.Unlock()
		for _, fl := range c.flights.m {
			return fl.done
		}
		return nil
	}
	for done := running(); done != nil; done = running() {
		testkit.Receive(t, done, time.Minute)
	}
}

func value[V any](v V) func(context.Context) (V, error) {
	return func(context.Context) (V, error) { return v, nil }
}

func never[V any](t testing.TB) func(context.Context) (V, error) {
	return func(context.Context) (v V, _ error) {
		t.Error("loaded though it is cached")
		return v, nil
	}
}

func get[V comparable](t testing.TB, c *Cache[V], key string, load func(context.Context) (V, error), want V) {
	t.Helper()
	if got, err := c.Get(t.Context(), key, load); got != want || err != nil {
		t.Fatalf("got %v, want %v: %v", got, want, err)
	}
}

func TestAValueIsLoadedOnceAndReadBackByAnyProcess(t *testing.T) {
	s := testkit.Redis(t)
	a, b := open[string](t, s, Options{}), open[string](t, s, Options{})
	for _, key := range []string{"k", "a}b", "}", "100%", ""} {
		get(t, a, key, value("v "+key), "v "+key)
		get(t, b, key, never[string](t), "v "+key)
	}
	ttl, err := client(t, s).PTTL(t.Context(), at("k")).Result()
	if err != nil || ttl > 5*time.Minute || ttl < 4*time.Minute {
		t.Fatal(ttl, err)
	}
}

// callers has n callers of each cache read one key, and counts the loads.
func callers(t *testing.T, n int, key string, caches ...*Cache[string]) int64 {
	var loads atomic.Int64
	var wg sync.WaitGroup
	for _, c := range caches {
		for range n {
			wg.Go(func() {
				got, err := c.Get(t.Context(), key, func(context.Context) (string, error) {
					loads.Add(1)
					timer := time.NewTimer(30 * time.Millisecond)
					defer timer.Stop()
					<-timer.C
					return "v", nil
				})
				if got != "v" || err != nil {
					t.Error(got, err)
				}
			})
		}
	}
	wg.Wait()
	return loads.Load()
}

func TestAColdKeyIsLoadedOnceByAllProcesses(t *testing.T) {
	s := testkit.Redis(t)
	var caches []*Cache[string]
	for range 3 {
		caches = append(caches, open[string](t, s, Options{}))
	}
	if n := callers(t, 200, "k", caches...); n != 1 {
		t.Fatalf("%d loads", n)
	}
}

func TestALoadThatFailsDropsItsLeaseAndIsNotCached(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{})
	boom := errors.New("boom")
	if _, err := c.Get(t.Context(), "k", func(context.Context) (string, error) { return "", boom }); !errors.Is(err,
		boom) {
		t.Fatal(err)
	}
	if n, err := client(t, s).Exists(t.Context(), at("k"), lease("k")).Result(); n != 0 || err != nil {
		t.Fatalf("%d keys left for the next caller to wait for: %v", n, err)
	}
	get(t, c, "k", value("v"), "v")
	if _, err := c.Get(t.Context(), "p", func(context.Context) (string, error) { panic("boom") }); err == nil {
		t.Fatal("a panic was lost")
	}
}

func TestNotFoundIsCachedForAShorterTime(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{NegativeTTL: 100 * time.Millisecond})
	for _, load := range []func(context.Context) (string, error){
		func(context.Context) (string, error) { return "", fmt.Errorf("no thing: %w", ErrNotFound) },
		never[string](t),
	} {
		if _, err := c.Get(t.Context(), "k", load); !errors.Is(err, ErrNotFound) {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, time.Minute, func() bool {
		got, err := c.Get(t.Context(), "k", value("v"))
		return got == "v" && err == nil
	})
}

func TestPastTheSoftTTLTheValueIsServedWhileOneRefreshes(t *testing.T) {
	s := testkit.Redis(t)
	var now atomic.Int64
	clock := func() time.Time { return time.Unix(now.Load(), 0) }
	c := open[string](t, s, Options{SoftTTL: time.Minute, TTL: time.Hour, Now: clock})
	get(t, c, "k", value("old"), "old")
	settle(t, c)
	now.Add(59)
	get(t, c, "k", never[string](t), "old")
	now.Add(2)
	var loads atomic.Int64
	goOn := make(chan struct{})
	refresh := func(context.Context) (string, error) { loads.Add(1); <-goOn; return "new", nil }
	for range 5 {
		get(t, c, "k", refresh, "old")
	}
	close(goOn)
	c.Close()
	get(t, c, "k", never[string](t), "new")
	if loads.Load() != 1 {
		t.Fatalf("%d refreshes", loads.Load())
	}
}

func TestEachWaiterHasItsOwnDeadline(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{})
	loading, goOn := make(chan struct{}), make(chan struct{})
	first := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		_, err := c.Get(ctx, "k", func(context.Context) (string, error) { close(loading); <-goOn; return "v", nil })
		first <- err
	}()
	testkit.Receive(t, loading, time.Minute)
	second := make(chan string, 1)
	go func() { v, _ := c.Get(t.Context(), "k", never[string](t)); second <- v }()
	testkit.Eventually(t, time.Minute, func() bool {
		c.flights.mu.Lock()
		defer c.flights.mu.Unlock()
		return c.flights.m["k"] != nil && c.flights.m["k"].waiters == 2
	})
	cancel() // the one whose load it is leaves
	if err := testkit.Receive(t, first, time.Minute); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	close(goOn)
	if v := testkit.Receive(t, second, time.Minute); v != "v" {
		t.Fatalf("the other got %q", v)
	}
}

func TestAnEntryThatCannotBeReadIsAMiss(t *testing.T) {
	s := testkit.Redis(t)
	c, raw := open[map[string]int](t, s, Options{}), client(t, s)
	for _, garbage := range []string{"", "x", "v12345678", "v12345678{", "n", "\x00\x01"} {
		if err := raw.Set(t.Context(), at("k"), garbage, 0).Err(); err != nil {
			t.Fatal(err)
		}
		got, err := c.Get(t.Context(), "k", value(map[string]int{"a": 1}))
		if err != nil || got["a"] != 1 {
			t.Fatalf("%q: %v, %v", garbage, got, err)
		}
	}
}

func TestAChallengeIsTakenOnceAndFailsClosed(t *testing.T) {
	s := testkit.Redis(t)
	once := NewSingleUse[string](client(t, s), ns, Options{Budget: patience})
	if err := once.Put(t.Context(), "k", "v", time.Minute); err != nil {
		t.Fatal(err)
	}
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			v, ok, err := once.Take(t.Context(), "k")
			if err != nil || ok && v != "v" {
				t.Error(v, err)
			}
			if ok {
				taken.Add(1)
			}
		})
	}
	wg.Wait()
	if taken.Load() != 1 {
		t.Fatalf("taken %d times", taken.Load())
	}
	s.Kill()
	if err := once.Put(t.Context(), "k", "v", time.Minute); !errors.Is(err, redisx.ErrUnavailable) {
		t.Fatal(err)
	}
	if _, ok, err := once.Take(t.Context(), "k"); ok || !errors.Is(err, redisx.ErrUnavailable) {
		t.Fatal(ok, err)
	}
}
