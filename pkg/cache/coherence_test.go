package cache

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/testkit"
)

// fillAfterInvalidation begins a load, changes the source and invalidates, and
// lets the load end. It returns what a later reader gets.
func fillAfterInvalidation(t *testing.T, fill *redis.Script) string {
	s := testkit.Redis(t)
	slow, writer := open[string](t, s, Options{}), open[string](t, s, Options{})
	slow.fill = fill
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
	<-loading
	source.Store("new")
	if err := writer.Invalidate(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	<-done
	got, err := writer.Get(t.Context(), "k", func(context.Context) (string, error) { return source.Load().(string), nil })
	if err != nil {
		t.Fatal(err)
	}
	return got
}

var unconditionalFill = redis.NewScript(`redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) redis.call('DEL', KEYS[2]) return 1`)

func TestAFillThatBeganBeforeAnInvalidationIsNotStored(t *testing.T) {
	if got := fillAfterInvalidation(t, fillScript); got != "new" {
		t.Fatalf("a later reader gets %q", got)
	}
	t.Run("control: without the lease it is", func(t *testing.T) {
		if got := fillAfterInvalidation(t, unconditionalFill); got != "old" {
			t.Fatalf("the lease is not what keeps the old value out: %q", got)
		}
	})
}

// staleReads runs writers and readers on few keys and counts, at rests, the
// keys whose cached value is not the source's.
func staleReads(t *testing.T, rounds int, fill *redis.Script) (stale int) {
	s := testkit.Redis(t)
	caches := []*Cache[int64]{open[int64](t, s, Options{}), open[int64](t, s, Options{}), open[int64](t, s, Options{})}
	for _, c := range caches {
		c.fill = fill
	}
	for round := range rounds {
		key := fmt.Sprint(round)
		var source atomic.Int64
		load := func(context.Context) (int64, error) {
			v := source.Load()
			for range rand.N(200) {
				_ = source.Load() // a slower or faster source
			}
			return v, nil
		}
		var wg sync.WaitGroup
		for i, c := range caches {
			wg.Go(func() {
				for range 3 {
					if i > 0 {
						_, _ = c.Get(t.Context(), key, load)
						continue
					}
					var err error
					if rand.N(2) == 0 {
						source.Add(1)
						err = c.Invalidate(t.Context(), key)
					} else {
						err = c.Write(t.Context(), []string{key}, func() error { source.Add(1); return nil })
					}
					if err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got, err := caches[0].Get(t.Context(), key, load); err != nil || got != source.Load() {
			if stale++; fill == unconditionalFill {
				break // one is enough for the control
			}
		}
	}
	return stale
}

func TestNoInterleavingOfFillsAndInvalidationsStoresAStaleValue(t *testing.T) {
	rounds := testkit.Size(600, 12_000)
	if n := staleReads(t, rounds, fillScript); n != 0 {
		t.Fatalf("%d stale", n)
	}
	testkit.Figure(t, "0 stale of %d rounds of 9 interleaved fills and invalidations", rounds)
	t.Run("control: without the lease some do", func(t *testing.T) {
		if n := staleReads(t, 5000, unconditionalFill); n == 0 {
			t.Fatal("the interleavings don't reach what the lease protects from")
		}
	})
}

func TestWriteKeepsFillsOutUntilItIsOverAlsoAfterACrash(t *testing.T) {
	s := testkit.Redis(t)
	a, b := open[string](t, s, Options{WriteTimeout: 200 * time.Millisecond}), open[string](t, s, Options{})
	get(t, b, "k", value("old"), "old")
	crash := errors.New("crash")
	func() {
		defer func() { _ = recover() }() // committed, and then nothing of Write runs any more
		_ = a.Write(t.Context(), []string{"k"}, func() error {
			get(t, b, "k", value("old"), "old") // reads go to the source and store nothing
			panic(crash)
		})
	}()
	get(t, b, "k", value("new"), "new")
	testkit.Eventually(t, time.Minute, func() bool {
		n, err := client(t, s).Exists(t.Context(), a.keys("k")[1]).Result()
		return err == nil && n == 0
	})
	get(t, b, "k", value("new"), "new")
	get(t, b, "k", never[string](t), "new")
	if err := a.Write(t.Context(), []string{"k"}, func() error { return crash }); !errors.Is(err, crash) {
		t.Fatal(err)
	}
}
