package cache

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/testkit"
)

// tripCounter counts round trips.
type tripCounter struct {
	Redis
	trips atomic.Int64
}

func (c *tripCounter) Do(ctx context.Context, args ...any) *redis.Cmd {
	c.trips.Add(1)
	return c.Redis.Do(ctx, args...)
}

func (c *tripCounter) Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	c.trips.Add(1)
	return c.Redis.Pipelined(ctx, fn)
}

// trips returns how many round trips fn makes.
func (c *tripCounter) of(fn func()) int64 {
	before := c.trips.Load()
	fn()
	return c.trips.Load() - before
}

// opened makes a patient cache of an entity.
func opened[V any](t testing.TB, r Redis, entity string) *Cache[V] {
	t.Helper()
	c := New[V](r, Namespace{Service: "test", Entity: entity, Schema: 1}, Options{Budget: patience})
	t.Cleanup(c.Close)
	return c
}

func TestEntriesOfSeveralCachesAreReadAheadInOneRoundTrip(t *testing.T) {
	r := &tripCounter{Redis: client(t, testkit.Redis(t))}
	words, numbers := opened[string](t, r, "word"), opened[int](t, r, "number")
	get(t, words, "a", value("one"), "one")
	get(t, numbers, "b", value(2), 2)
	get(t, numbers, "c", value(3), 3)
	settle(t, words)
	settle(t, numbers)
	trips := r.of(func() {
		ctx := ReadAhead(t.Context(), words.Entry("a"), numbers.Entry("b"), numbers.Entry("c"))
		if got, err := words.Get(ctx, "a", never[string](t)); got != "one" || err != nil {
			t.Error(got, err)
		}
		got, err := numbers.GetMany(ctx, []string{"b", "c"}, nil)
		if got["b"] != 2 || got["c"] != 3 || err != nil {
			t.Error(got, err)
		}
	})
	if trips != 1 {
		t.Errorf("%d round trips", trips)
	}
	if ctx := ReadAhead(t.Context()); ctx != t.Context() {
		t.Error("a context without entries is another one")
	}
}

func TestAMissThatWasReadAheadIsLoaded(t *testing.T) {
	c := opened[string](t, client(t, testkit.Redis(t)), "word")
	ctx := ReadAhead(t.Context(), c.Entry("a"))
	for range 2 { // the second one reads what the first one stored
		if got, err := c.Get(ctx, "a", value("one")); got != "one" || err != nil {
			t.Fatal(got, err)
		}
		settle(t, c)
	}
	get(t, c, "a", never[string](t), "one")
}

// What was read ahead is as old as the call that read it: it is used once, soon, and not after the same call has
// invalidated it.
func TestWhatWasReadAheadIsNotUsedLate(t *testing.T) {
	s := testkit.Redis(t)
	for name, tc := range map[string]struct {
		meanwhile func(ctx context.Context, t *testing.T, c *Cache[string])
		want      string
	}{
		"at once": {func(context.Context, *testing.T, *Cache[string]) {}, "old"},
		"twice": {func(ctx context.Context, t *testing.T, c *Cache[string]) {
			if got, err := c.Get(ctx, "twice", value("new")); got != "old" || err != nil {
				t.Error(got, err)
			}
		}, "new"},
		"late": {func(ctx context.Context, _ *testing.T, _ *Cache[string]) {
			ctx.Value(aheadOf{}).(*ahead).until = time.Now().Add(-time.Millisecond)
		}, "new"},
		"invalidated": {func(ctx context.Context, t *testing.T, c *Cache[string]) {
			if err := c.Invalidate(ctx, "invalidated"); err != nil {
				t.Error(err)
			}
		}, "new"},
		"written": {func(ctx context.Context, t *testing.T, c *Cache[string]) {
			if err := c.Write(ctx, []string{"written"}, func() error { return nil }); err != nil {
				t.Error(err)
			}
		}, "new"},
	} {
		t.Run(name, func(t *testing.T) {
			c, other := opened[string](t, client(t, s), "word"), opened[string](t, client(t, s), "word")
			get(t, c, name, value("old"), "old")
			settle(t, c)
			ctx := ReadAhead(t.Context(), c.Entry(name))
			if err := other.Invalidate(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			tc.meanwhile(ctx, t, c)
			if got, err := c.Get(ctx, name, value("new")); got != tc.want || err != nil {
				t.Errorf("got %q, want %q, %v", got, tc.want, err)
			}
		})
	}
}

func TestWithoutRedisWhatWasToBeReadAheadIsLoaded(t *testing.T) {
	s := testkit.Redis(t)
	c := New[string](within(t, s, 100*time.Millisecond), ns, Options{Budget: 100 * time.Millisecond})
	t.Cleanup(c.Close)
	s.Kill()
	begun := time.Now()
	ctx := ReadAhead(t.Context(), c.Entry("a"), c.Entry("b"))
	if got, err := c.Get(ctx, "a", value("one")); got != "one" || err != nil {
		t.Error(got, err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestAValueUnderAGenerationTakesOneRoundTrip(t *testing.T) {
	r := &tripCounter{Redis: client(t, testkit.Redis(t))}
	g, pages := NewGenerations(opened[string](t, r, "generation")), opened[string](t, r, "page")
	read := func(load func(context.Context) (string, error)) (got string) {
		got, err := GetUnder(t.Context(), g, []string{"mine", "all"}, pages,
			func(names string) string { return "mine/" + names + "/1" }, load)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	for _, want := range []string{"one", "two"} {
		if got := read(value(want)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		settle(t, g.Cache)
		settle(t, pages)
		if trips := r.of(func() { read(never[string](t)) }); trips != 1 {
			t.Errorf("%d round trips", trips)
		}
		if err := g.Invalidate(t.Context(), "all"); err != nil {
			t.Fatal(err)
		}
	}
}

// staleUnder counts reads that return less than what had been written and invalidated before they began, by two
// processes that read while a third one writes.
func staleUnder(t *testing.T, rounds int, read func(context.Context, *Generations, *Cache[int64],
	func(context.Context) (int64, error)) (int64, error)) (stale int64) {
	s := testkit.Redis(t)
	var source, written, found atomic.Int64
	load := func(context.Context) (int64, error) { return source.Load(), nil }
	writer := NewGenerations(opened[string](t, client(t, s), "generation"))
	var readers sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	for range 2 {
		g := NewGenerations(opened[string](t, client(t, s), "generation"))
		pages := opened[int64](t, client(t, s), "page")
		readers.Go(func() {
			for ctx.Err() == nil {
				before := written.Load()
				got, err := read(t.Context(), g, pages, load)
				if err != nil {
					t.Error(err)
				}
				if got < before {
					found.Add(1)
				}
			}
		})
	}
	for i := range rounds {
		source.Add(1)
		if err := writer.Invalidate(t.Context(), "group"); err != nil {
			t.Error(err)
		}
		written.Store(int64(i + 1))
	}
	stop()
	readers.Wait()
	return found.Load()
}

func TestAValueUnderAGenerationIsNeverOlderThanTheInvalidationBefore(t *testing.T) {
	key := func(names string) string { return "group/" + names }
	rounds := testkit.Size(2000, 100_000)
	if n := staleUnder(t, rounds, func(ctx context.Context, g *Generations, pages *Cache[int64],
		load func(context.Context) (int64, error)) (int64, error) {
		return GetUnder(ctx, g, []string{"group"}, pages, key, load)
	}); n > 0 {
		t.Errorf("%d reads were stale", n)
	}
	t.Run("control: under the remembered generation alone it is", func(t *testing.T) {
		if n := staleUnder(t, rounds, func(ctx context.Context, g *Generations, pages *Cache[int64],
			load func(context.Context) (int64, error)) (int64, error) {
			if names, ok := g.remembered([]string{"group"}); ok {
				return pages.Get(ctx, key(names), load)
			}
			return GetUnder(ctx, g, []string{"group"}, pages, key, load)
		}); n == 0 {
			t.Error("no read was stale")
		}
	})
}

func TestManyGroupsAreNotAllRemembered(t *testing.T) {
	g := NewGenerations(opened[string](t, client(t, testkit.Redis(t)), "generation"))
	for i := range rememberedNames + 10 {
		g.last.Add(strconv.Itoa(i), "name")
	}
	if g.last.Len() != rememberedNames {
		t.Errorf("%d are remembered", g.last.Len())
	}
}
