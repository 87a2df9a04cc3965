package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

// echo loads for each key "v <key>".
func echo(_ context.Context, keys []string) (map[string]string, error) {
	out := map[string]string{}
	for _, key := range keys {
		out[key] = "v " + key
	}
	return out, nil
}

func all(t *testing.T, got map[string]string, err error, keys ...string) {
	t.Helper()
	if err != nil || len(got) != len(keys) {
		t.Fatal(got, err)
	}
	for _, key := range keys {
		if got[key] != "v "+key {
			t.Fatalf("%q: %q", key, got[key])
		}
	}
}

func TestGetManyLoadsWhatIsMissingAtOnce(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{})
	get(t, c, "a", value("A"), "A")
	var asked [][]string
	load := func(_ context.Context, keys []string) (map[string]string, error) {
		asked = append(asked, keys)
		return map[string]string{"b": "B"}, nil
	}
	for range 2 {
		got, err := c.GetMany(t.Context(), []string{"a", "b", "gone", "b"}, load)
		if err != nil || len(got) != 2 || got["a"] != "A" || got["b"] != "B" {
			t.Fatal(got, err)
		}
	}
	if len(asked) != 1 || fmt.Sprint(asked[0]) != "[b gone]" {
		t.Fatal(asked)
	}
	if _, err := c.Get(t.Context(), "gone", never[string](t)); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	boom := errors.New("boom")
	if _, err := c.GetMany(t.Context(), []string{"z"},
		func(context.Context, []string) (map[string]string, error) { return nil, boom }); !errors.Is(err, boom) {
		t.Fatal(err)
	}
	get(t, c, "z", value("Z"), "Z")
	if got, err := c.GetMany(t.Context(), nil, nil); len(got) != 0 || err != nil {
		t.Fatal(got, err)
	}
}

func TestGetManyOfCrossedKeysLoadsEachOnceAndEnds(t *testing.T) {
	s := testkit.Redis(t)
	const keys = 40
	var loads [keys]atomic.Int64
	var wg sync.WaitGroup
	for n, stride := range []int{1, 3, 7, 9, 11, 13} {
		c := open[string](t, s, Options{})
		wg.Go(func() {
			var asked []string
			for i := range keys { // each in an order of its own
				asked = append(asked, fmt.Sprint((i*stride+n*7)%keys))
			}
			for i := 0; i < keys; i += 4 { // and in parts, so that each holds what others want
				got, err := c.GetMany(t.Context(), asked[i:],
					func(ctx context.Context, keys []string) (map[string]string, error) {
						for _, key := range keys {
							var i int
							_, _ = fmt.Sscan(key, &i)
							loads[i].Add(1)
						}
						return echo(ctx, keys)
					})
				if err != nil || len(got) != keys-i {
					t.Error(got, err)
				}
			}
		})
	}
	wg.Wait()
	for i := range loads {
		if n := loads[i].Load(); n != 1 {
			t.Errorf("key %d was loaded %d times", i, n)
		}
	}
}

func TestGetManyWaitsForOthersAndTakesOverFromTheDead(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	a, b := open[string](t, s, Options{}), open[string](t, s, Options{})
	loading, goOn := make(chan struct{}), make(chan struct{})
	go func() {
		_, _ = a.Get(t.Context(), "slow", func(context.Context) (string,
			error) {
			close(loading)
			<-goOn
			return "v slow", nil
		})
	}()
	testkit.Receive(t, loading, time.Minute)
	if err := client(t, s).Set(t.Context(), lease("dead"), "a token", 300*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	var loads [][]string
	got, err := b.GetMany(t.Context(), []string{"slow", "dead", "free"},
		func(ctx context.Context, keys []string) (map[string]string, error) {
			loads = append(loads, keys)
			if len(loads) == 2 {
				close(goOn)
			}
			return echo(ctx, keys)
		})
	all(t, got, err, "slow", "dead", "free")
	if fmt.Sprint(loads) != "[[free] [dead]]" {
		t.Fatal(loads)
	}
}

func TestGetManyWaitsNoLongerThanItsCaller(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{})
	if err := client(t, s).Set(t.Context(), lease("k"), "a token", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := c.GetMany(ctx, []string{"k"}, echo); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	// Who has all the time waits for LoadTimeout and then loads by itself.
	impatient := open[string](t, s, Options{LoadTimeout: 50 * time.Millisecond})
	got, err := impatient.GetMany(t.Context(), []string{"k"}, echo)
	all(t, got, err, "k")
}

func TestGetManyServesWhatIsPastItsSoftTTLWhileOneLoadRefreshesItAll(t *testing.T) {
	s := testkit.Redis(t)
	var now, loads atomic.Int64
	o := Options{SoftTTL: time.Minute, TTL: time.Hour, Now: func() time.Time { return time.Unix(now.Load(), 0) }}
	a, b := open[string](t, s, o), open[string](t, s, o)
	keys := []string{"a", "b", "c"}
	got, err := a.GetMany(t.Context(), keys, echo)
	all(t, got, err, keys...)
	now.Add(61)
	goOn := make(chan struct{})
	refresh := func(_ context.Context, keys []string) (map[string]string, error) {
		loads.Add(int64(len(keys)))
		<-goOn
		return map[string]string{"a": "A", "b": "B"}, nil // c is gone
	}
	for range 5 {
		for _, c := range []*Cache[string]{a, b} {
			got, err := c.GetMany(t.Context(), keys, refresh)
			all(t, got, err, keys...)
		}
	}
	close(goOn)
	a.work.Wait()
	b.work.Wait()
	got, err = a.GetMany(t.Context(), keys, refresh)
	if err != nil || len(got) != 2 || got["a"] != "A" || got["b"] != "B" || loads.Load() != 3 {
		t.Fatal(got, err, loads.Load())
	}
}

func TestAHugeListIsReadInChunks(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{})
	var keys []string
	for i := range 2*maxKeysPerTrip + 1 {
		keys = append(keys, fmt.Sprint(i))
	}
	for _, load := range []loader[string]{echo, func(_ context.Context, keys []string) (map[string]string, error) {
		return nil, fmt.Errorf("%d keys weren't cached", len(keys))
	}} {
		got, err := c.GetMany(t.Context(), keys, load)
		all(t, got, err, keys...)
	}
}
