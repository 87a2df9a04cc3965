package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

// fillAfterInvalidation begins a load, changes the source and invalidates, and
// lets the load end. It returns what a later reader gets.
func fillAfterInvalidation(t *testing.T, instead swap) string {
	s := testkit.Redis(t)
	slow, writer := openWith[string](t, s, Options{}, instead), open[string](t, s, Options{})
	var source atomic.Value
	source.Store("old")
	loading, goOn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := slow.Get(t.Context(), "k", func(context.Context) (string, error) {
			v := source.Load().(string)
			once.Do(func() { close(loading); <-goOn })
			return v, nil
		})
		if err != nil {
			t.Error(err)
		}
	}()
	testkit.Receive(t, loading, time.Minute)
	source.Store("new")
	if err := writer.Invalidate(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	testkit.Receive(t, done, time.Minute)
	settle(t, slow)
	got, err := writer.Get(t.Context(), "k", func(context.Context) (string, error) {
		return source.Load().(string),
			nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAFillThatBeganBeforeAnInvalidationIsNotStored(t *testing.T) {
	if got := fillAfterInvalidation(t, nil); got != "new" {
		t.Fatalf("a later reader gets %q", got)
	}
	t.Run("control: without the lease it is", func(t *testing.T) {
		if got := fillAfterInvalidation(t, swap{fillScript.sha: fillRegardless}); got != "old" {
			t.Fatalf("the lease is not what keeps the old value out: %q", got)
		}
	})
}

// source is what a round's caches are filled from, and a clock that a third of
// the reads find past the soft TTL.
type source struct{ one, two, now atomic.Int64 }

func (s *source) at(key string) *atomic.Int64 {
	if key[0] == 'a' {
		return &s.one
	}
	return &s.two
}

func (s *source) load(_ context.Context, keys []string) (map[string]int64, error) {
	out := map[string]int64{}
	for _, key := range keys {
		out[key] = s.at(key).Load()
	}
	for range rand.N(200) {
		_ = s.one.Load() // a slower or faster source
	}
	return out, nil
}

func (s *source) loadOne(key string) func(context.Context) (int64, error) {
	return func(ctx context.Context) (int64, error) {
		out, err := s.load(ctx, []string{key})
		return out[key], err
	}
}

// interleave has each cache, as a process would, do three things with two keys
// at once: the first writes, the others read.
func interleave(t *testing.T, caches []*Cache[int64], src *source, keys []string) {
	var wg sync.WaitGroup
	for i, c := range caches {
		wg.Go(func() {
			for range 3 {
				key := keys[rand.N(2)]
				var err error
				switch what := rand.N(4); {
				case i > 0 && what == 0:
					_, err = c.GetMany(t.Context(), keys, src.load)
				case i > 0:
					_, err = c.Get(t.Context(), key, src.loadOne(key))
				case what == 0: // past the soft TTL
					src.now.Add(int64(time.Minute))
				case what == 1:
					err = c.Write(t.Context(), []string{key}, func() error { src.at(key).Add(1); return nil })
				default:
					src.at(key).Add(1)
					err = c.Invalidate(t.Context(), key)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for _, c := range caches {
		settle(t, c)
	}
}

// process is a cache of int64 that keeps values in memory.
func process(t *testing.T, s *redisserver.Server, o Options, anyValid bool) *Cache[int64] {
	o.Local = tracker(t, client(t, s))
	c := open[int64](t, s, o)
	c.local.anyValid = anyValid
	return c
}

// staleLocally counts the keys whose value in a process's memory is not the source's
// within seconds after the interleaved reads and writes of a round have ended.
func staleLocally(t *testing.T, rounds int, anyValid bool) (stale, done int, kept int64) {
	s := testkit.Redis(t)
	var src source
	var caches []*Cache[int64]
	for range 3 {
		o := Options{SoftTTL: time.Second, Now: func() time.Time { return time.Unix(0, src.now.Load()) }}
		caches = append(caches, process(t, s, o, anyValid))
	}
	for _, c := range caches {
		tracks(t, c.o.Local)
	}
	keys := []string{"a", "b"}
	for ; done < rounds && stale == 0; done++ {
		interleave(t, caches, &src, keys)
		for _, c := range caches {
			fresh := func() bool {
				got, err := c.GetMany(t.Context(), keys, src.load)
				return err == nil && got["a"] == src.one.Load() && got["b"] == src.two.Load()
			}
			if !converges(fresh) {
				stale++
			}
		}
	}
	for _, c := range caches {
		_, _, hits := c.local.size()
		kept += hits
	}
	return stale, done, kept
}

// converges waits for longer than any message takes, and less than any TTL.
func converges(fresh func() bool) bool {
	for end := time.Now().Add(10 * LocalBound); time.Now().Before(end); {
		if fresh() {
			return true
		}
	}
	return false
}

func TestNoInterleavingLeavesAStaleValueInMemory(t *testing.T) {
	rounds := testkit.Size(300, 20_000)
	stale, _, kept := staleLocally(t, rounds, false)
	if stale != 0 || kept == 0 {
		t.Fatalf("%d stale, %d hits", stale, kept)
	}
	testkit.Figure(t, "0 stale in memory after %d rounds, %d hits", rounds, kept)
	t.Run("control: with tickets that stay valid some do", func(t *testing.T) {
		stale, done, _ := staleLocally(t, 50_000, true)
		if stale == 0 {
			t.Fatal("the interleavings don't reach what tickets protect from")
		}
		testkit.Figure(t, "control: stale within %d rounds", done)
	})
}

// staleReads counts the keys whose cached value is not the source's once the
// interleaved reads and writes of a round have ended. Six rounds run at once.
func staleReads(t *testing.T, rounds int, instead swap) (found, done int64) {
	s := testkit.Redis(t)
	var next, stale atomic.Int64
	var wg sync.WaitGroup
	for range 6 {
		var src source
		var caches []*Cache[int64]
		for range 3 {
			o := Options{SoftTTL: time.Second, Now: func() time.Time { return time.Unix(0, src.now.Load()) }}
			caches = append(caches, openWith[int64](t, s, o, instead))
		}
		wg.Go(func() {
			for n := next.Add(1); n <= int64(rounds); n = next.Add(1) {
				keys := []string{fmt.Sprintf("a%d", n), fmt.Sprintf("b%d", n)}
				interleave(t, caches, &src, keys)
				got, err := caches[0].GetMany(t.Context(), keys, src.load)
				for _, key := range keys {
					if err != nil || got[key] != src.at(key).Load() {
						stale.Add(1)
					}
				}
				if instead != nil && stale.Load() > 0 {
					return // one is enough for the control
				}
			}
		})
	}
	wg.Wait()
	return stale.Load(), min(next.Load(), int64(rounds))
}

func TestNoInterleavingOfFillsAndInvalidationsStoresAStaleValue(t *testing.T) {
	rounds := testkit.Size(400, 100_000)
	begin := time.Now()
	if n, _ := staleReads(t, rounds, nil); n != 0 {
		t.Fatalf("%d stale", n)
	}
	testkit.Figure(t, "0 stale of %d rounds of 9 interleaved Get, GetMany, Write, Invalidate and refresh, in %s",
		rounds, time.Since(begin).Round(time.Second))
	t.Run("control: without the lease some do", func(t *testing.T) {
		n, rounds := staleReads(t, 50_000, swap{fillScript.sha: fillRegardless})
		if n == 0 {
			t.Fatal("the interleavings don't reach what the lease protects from")
		}
		testkit.Figure(t, "control: %d stale within %d rounds", n, rounds)
	})
}
