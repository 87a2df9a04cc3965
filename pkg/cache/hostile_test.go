package cache

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

func TestALoadThatPanicsIsAnErrorAndHoldsNoLease(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{})
	if _, err := c.Get(t.Context(), "k", func(context.Context) (string, error) { panic("boom") }); err == nil ||
		!strings.Contains(err.Error(), "boom") {
		t.Fatal(err)
	}
	if _, err := c.GetMany(t.Context(), []string{"k", "l"},
		func(context.Context, []string) (map[string]string, error) { panic("boom") }); err == nil {
		t.Fatal("a panic was lost")
	}
	if _, err := c.Get(t.Context(), "exit", func(context.Context) (string, error) {
		runtime.Goexit()
		return "",
			nil
	}); !errors.Is(err, errAborted) {
		t.Fatal(err)
	}
	if n, err := client(t, s).Exists(t.Context(), lease("k"), lease("l")).Result(); n != 0 || err != nil {
		t.Fatal(n, err)
	}
}

func TestALoadThatReadsItsOwnKeyEnds(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{LoadTimeout: 100 * time.Millisecond})
	var load func(ctx context.Context) (string, error)
	load = func(ctx context.Context) (string, error) { return c.Get(ctx, "k", load) }
	if _, err := c.Get(t.Context(), "k", load); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestNothingIsAValueToo(t *testing.T) {
	s := testkit.Redis(t)
	c := open[*string](t, s, Options{})
	for _, load := range []func(context.Context) (*string, error){value[*string](nil), never[*string](t)} {
		if got, err := c.Get(t.Context(), "k", load); got != nil || err != nil {
			t.Fatal(got, err)
		}
		settle(t, c)
	}
	got, err := c.GetMany(t.Context(), []string{"l"},
		func(context.Context, []string) (map[string]*string, error) { return map[string]*string{"l": nil}, nil })
	if _, ok := got["l"]; !ok || err != nil {
		t.Fatal(got, err)
	}
	var none map[string]*string
	got, err = c.GetMany(t.Context(), []string{"m"},
		func(context.Context, []string) (map[string]*string, error) { return none, nil })
	if len(got) != 0 || err != nil {
		t.Fatal(got, err)
	}
	if _, err := c.Get(t.Context(), "m", never[*string](t)); !errors.Is(err, ErrNotFound) {
		t.Fatal(err)
	}
	for range 2 { // ErrNotFound of many is that none is there
		got, err = c.GetMany(t.Context(), []string{"n", "o"},
			func(context.Context, []string) (map[string]*string, error) { return nil, ErrNotFound })
		if len(got) != 0 || err != nil {
			t.Fatal(got, err)
		}
	}
}

func TestStrangeKeysAndHugeOnesAreKeys(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{Codec: text{}}) // JSON has no \xff
	// moving megabytes takes a busy machine longer than it has to renew
	c.leaseDuration = patience
	huge := strings.Repeat("huge", 250_000)
	keys := []string{"", " ", "%", "}", "{}", "a\x00b", "\r\n", "\xff", "é", huge}
	got, err := c.GetMany(t.Context(), keys, echo)
	all(t, got, err, keys...)
	for _, key := range keys {
		get(t, c, key, never[string](t), "v "+key) // a megabyte is a value, too
	}
	if err := c.Invalidate(t.Context(), keys...); err != nil {
		t.Fatal(err)
	}
	get(t, c, huge, value("new"), "new")
}

func TestTwoTypesInOneNamespaceGiveMissesAndNoMixture(t *testing.T) {
	s := testkit.Redis(t)
	type person struct{ Name string }
	type place struct{ Town string }
	people, places := open[person](t, s, Options{}), open[place](t, s, Options{})
	for range 3 {
		get(t, people, "k", value(person{"Ada"}), person{"Ada"})
		settle(t, people)
		get(t, places, "k", value(place{"Ulm"}), place{"Ulm"})
		settle(t, places)
	}
}

func TestADeleteOfWhatCannotBeReadSparesWhatCameMeanwhile(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{})
	raw := client(t, s)
	get(t, c, "k", value("good"), "good")
	settle(t, c)
	// What "k" had when it was read, and has no more.
	c.decodeReplies(t.Context(), &budget{patience}, []string{"k"}, []reply{{value: "garbage"}})
	get(t, c, "k", never[string](t), "good")
	if err := raw.Set(t.Context(), at("k"), "garbage", 0).Err(); err != nil {
		t.Fatal(err)
	}
	c.decodeReplies(t.Context(), &budget{patience}, []string{"k"}, []reply{{value: "garbage"}})
	if n, err := raw.Exists(t.Context(), at("k")).Result(); n != 0 || err != nil {
		t.Fatal(n, err)
	}
	// Neither is a key that holds something else an error.
	if err := raw.RPush(t.Context(), at("list"), "x").Err(); err != nil {
		t.Fatal(err)
	}
	get(t, c, "list", value("v"), "v")
}

func TestAValueThatCannotBeEncodedIsServedAndTold(t *testing.T) {
	s := testkit.Redis(t)
	var said testkit.LogBuffer
	c := open[any](t, s, Options{Log: slog.New(slog.NewTextHandler(&said, nil))})
	broken := make(chan int)
	get(t, c, "k", value[any](broken), any(broken))
	settle(t, c)
	if n, err := client(t, s).Exists(t.Context(), at("k"), lease("k")).Result(); n != 0 || err != nil ||
		!strings.Contains(said.String(), "can't be encoded") {
		t.Fatal(n, err, said.String())
	}
}

func TestStrangeDurationsAreTakenForTheDefaultOrForAMillisecond(t *testing.T) {
	s := testkit.Redis(t)
	for _, d := range []time.Duration{-time.Hour, -1, 0, 1, time.Microsecond, 1<<63 - 1} {
		c := open[string](t, s, Options{TTL: d, SoftTTL: d, NegativeTTL: d, LoadTimeout: max(d, 0), WriteTimeout: d})
		get(t, c, d.String(), func(ctx context.Context) (string, error) {
			if d < time.Hour {
				return "v", nil
			}
			return "v", ctx.Err() // a long timeout is not over at once
		}, "v")
		settle(t, c)
		if err := c.Write(t.Context(), []string{d.String()}, func() error { return nil }); err != nil &&
			d > time.Millisecond {
			t.Error(d, err)
		}
		_, _ = c.Get(t.Context(), "absent "+d.String(),
			func(context.Context) (string, error) { return "", ErrNotFound })
		settle(t, c)
	}
}

func TestAClockThatJumpsBringsRefreshesNotErrors(t *testing.T) {
	s := testkit.Redis(t)
	var now atomic.Int64
	c := open[string](t, s, Options{SoftTTL: time.Minute, TTL: time.Hour,
		Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	var loads atomic.Int64
	load := func(context.Context) (string, error) { loads.Add(1); return "v", nil }
	for _, at := range []int64{1_800_000_000, 0, -1 << 40, 1 << 40, 1_800_000_000} {
		now.Store(at)
		for range 3 {
			get(t, c, "k", load, "v")
			settle(t, c)
		}
	}
	if n := loads.Load(); n > 5 {
		t.Errorf("%d loads for 4 jumps", n)
	}
}

func TestCloseWaitsForTheRefreshThatRunsAndLetsNoneBegin(t *testing.T) {
	s := testkit.Redis(t)
	var now atomic.Int64
	c := open[string](t, s, Options{SoftTTL: time.Second, Now: func() time.Time { return time.Unix(now.Load(), 0) }})
	get(t, c, "k", value("old"), "old")
	settle(t, c)
	now.Add(2)
	loading, goOn, closed := make(chan struct{}), make(chan struct{}), make(chan struct{})
	get(t, c, "k", func(context.Context) (string, error) { close(loading); <-goOn; return "new", nil }, "old")
	testkit.Receive(t, loading, time.Minute)
	go func() { c.Close(); close(closed) }()
	select {
	case <-closed:
		t.Error("closed while a refresh runs")
	case <-time.After(20 * time.Millisecond):
	}
	close(goOn)
	testkit.Receive(t, closed, time.Minute)
	now.Add(5)
	get(t, c, "k", never[string](t), "new") // reads go on, without refreshes
	c.Close()
}

func TestALoadMayChangeTheListItIsGiven(t *testing.T) {
	s := testkit.Redis(t)
	c := open[string](t, s, Options{})
	for range 2 {
		got, err := c.GetMany(t.Context(), []string{"bad", "a"},
			func(ctx context.Context, keys []string) (map[string]string, error) {
				return echo(ctx, slices.DeleteFunc(keys, func(key string) bool { return key == "bad" }))
			})
		all(t, got, err, "a")
	}
}

// broken is a codec that panics.
type broken struct{ marshals bool }

func (b broken) Marshal(v any) ([]byte, error) {
	if !b.marshals {
		panic("marshal")
	}
	return text{}.Marshal(v)
}

func (broken) Unmarshal([]byte, any) error { panic("unmarshal") }

func TestACodecThatPanicsCostsTheCacheNotTheProcess(t *testing.T) {
	for _, codec := range []broken{{false}, {true}} {
		s := testkit.Redis(t)
		c := open[string](t, s, Options{Codec: codec})
		for range 3 {
			get(t, c, "k", value("v"), "v")
			settle(t, c)
			got, err := c.GetMany(t.Context(), []string{"a", "b"}, echo)
			all(t, got, err, "a", "b")
		}
		if n, err := client(t, s).Exists(t.Context(), lease("k"), lease("a")).Result(); n != 0 || err != nil {
			t.Fatal(n, err)
		}
	}
}
