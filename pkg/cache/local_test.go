package cache

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
)

// tracker runs a Tracker until the test ends.
func tracker(t testing.TB, r redis.UniversalClient) *Tracker {
	t.Helper()
	return trackerWith(t, r, nil)
}

func trackerWith(t testing.TB, r redis.UniversalClient, log *slog.Logger) *Tracker {
	t.Helper()
	tr := NewTracker(r, "test", log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- tr.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := testkit.Receive(t, done, time.Minute); err != nil {
			t.Error(err)
		}
	})
	return tr
}

func tracks(t testing.TB, tr *Tracker) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool { return tr.tracked() })
}

// keep reads key until it is in c's memory.
func keep[V any](t testing.TB, c *Cache[V], key string, load func(context.Context) (V, error)) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool {
		_, _, before := c.local.size()
		if _, err := c.Get(t.Context(), key, load); err != nil {
			t.Fatal(err)
		}
		_, _, after := c.local.size()
		return after > before
	})
}

// becomes reads key until it is want.
func becomes(t testing.TB, c *Cache[string], key, want string) {
	t.Helper()
	testkit.Eventually(t, time.Minute, func() bool {
		got, err := c.Get(t.Context(), key, value(want))
		return err == nil && got == want
	})
}

func TestAValueInMemoryEndsWithItsInvalidationByAnotherProcess(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	raw := client(t, s)
	c, other := open[string](t, s, Options{Local: tracker(t, raw)}), open[string](t, s, Options{})
	var source atomic.Int64
	load := func(context.Context) (string, error) { return fmt.Sprint(source.Load()), nil }
	for _, key := range []string{"k", "a}b", "%", "100%25", ""} {
		for name, end := range map[string]func() error{
			"Invalidate": func() error { return other.Invalidate(t.Context(), key) },
			"Write":      func() error { return other.Write(t.Context(), []string{key}, func() error { return nil }) },
			"FLUSHALL":   func() error { return raw.FlushAll(t.Context()).Err() },
			"expiry":     func() error { return raw.PExpire(t.Context(), at(key), time.Millisecond).Err() },
		} {
			keep(t, c, key, load)
			settle(t, c) // an expiry doesn't hold back a load that is under way
			source.Add(1)
			if err := end(); err != nil {
				t.Fatal(name, err)
			}
			testkit.Eventually(t, time.Minute, func() bool {
				got, err := c.Get(t.Context(), key, load)
				return err == nil && got == fmt.Sprint(source.Load())
			})
			if err := other.Invalidate(t.Context(), key); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAProcessNeverReadsWhatItHasInvalidatedItself(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	c := open[int64](t, s, Options{Local: tracker(t, client(t, s))})
	var source atomic.Int64
	load := func(context.Context) (int64, error) { return source.Load(), nil }
	for range testkit.Size(200, 20_000) {
		keep(t, c, "k", load)
		want := source.Add(1)
		if err := c.Invalidate(t.Context(), "k"); err != nil {
			t.Fatal(err)
		}
		get(t, c, "k", load, want)
		keep(t, c, "k", load)
		err := c.Write(t.Context(), []string{"k"}, func() error { want = source.Add(1); return nil })
		if err != nil {
			t.Fatal(err)
		}
		get(t, c, "k", load, want)
	}
}

// pausing holds back the next reply of a pipeline, that of GET and PTTL.
type pausing struct {
	Redis
	on       atomic.Bool
	has, let chan struct{}
}

func (p *pausing) Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error) {
	cmds, err := p.Redis.Pipelined(ctx, fn)
	if p.on.Swap(false) {
		close(p.has)
		<-p.let
	}
	return cmds, err
}

// readAcrossInvalidation reads a value from Redis, lets an invalidation come, and then
// lets the reader keep the value. It returns what is read from memory afterwards.
func readAcrossInvalidation(t *testing.T, anyValid bool) (got string, kept bool) {
	s := testkit.Redis(t)
	p := &pausing{has: make(chan struct{}), let: make(chan struct{})}
	p.Redis = client(t, s)
	c := New[string](p, ns, Options{Budget: patience, Local: tracker(t, client(t, s))})
	defer c.Close()
	c.local.anyValid = anyValid
	other := open[string](t, s, Options{})
	tracks(t, c.o.Local)
	get(t, other, "k", value("old"), "old")
	settle(t, other)
	p.on.Store(true)
	done := make(chan struct{})
	go func() { defer close(done); get(t, c, "k", never[string](t), "old") }()
	testkit.Receive(t, p.has, time.Minute)
	if err := other.Invalidate(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	// The message is here once a probe is that was sent after it.
	invalidated := c.o.Local.clock()
	testkit.Eventually(t, time.Minute, func() bool { return c.o.Local.trusted() >= invalidated+probeTTL })
	close(p.let)
	testkit.Receive(t, done, time.Minute)
	e, ok := c.local.get("k", time.Now)
	return e.value, ok
}

func TestAValueReadBeforeAnInvalidationIsNotKeptAfterIt(t *testing.T) {
	t.Parallel()
	if got, kept := readAcrossInvalidation(t, false); kept {
		t.Fatalf("%q is kept", got)
	}
	t.Run("control: without tickets it is", func(t *testing.T) {
		if got, _ := readAcrossInvalidation(t, true); got != "old" {
			t.Fatalf("tickets are not what keeps the old value out: %q", got)
		}
	})
}

// staleAfterSilence cuts a process from Redis without an end of its connections, and
// invalidates elsewhere. It returns how long after that the old value was last read. With
// trusting, silence doesn't end the trust.
func staleAfterSilence(t *testing.T, trusting bool) time.Duration {
	s := testkit.Redis(t)
	proxy, err := faultproxy.Start(fmt.Sprintf("127.0.0.1:%d", s.Port()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	tr := tracker(t, dial(t, proxy.Rewrite(s.URL()), patience))
	c := New[string](dial(t, proxy.Rewrite(s.URL()), 50*time.Millisecond), ns, Options{Local: tr})
	defer c.Close()
	other := open[string](t, s, Options{})
	keep(t, c, "k", value("old"))
	proxy.ToClient(faultproxy.Fault{Blackhole: true})
	if err := other.Invalidate(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	invalidated := time.Now()
	if trusting {
		tr.remove(c.local) // nothing is dropped
	}
	var last time.Duration
	for time.Since(invalidated) < 2*LocalBound {
		begin := time.Since(invalidated)
		if trusting {
			tr.until.Store(1 << 62)
		}
		if got, err := c.Get(t.Context(), "k", value("new")); err != nil {
			t.Fatal(err)
		} else if got == "old" {
			last = begin
		}
	}
	if trusting {
		return last
	}
	proxy.Heal()
	becomes(t, c, "k", "new")
	tracks(t, tr)
	return last
}

func TestASilentConnectionEndsWhatIsKeptWithinTheBound(t *testing.T) {
	t.Parallel()
	last := staleAfterSilence(t, false)
	if last > LocalBound {
		t.Fatalf("the old value was read %s after its invalidation", last)
	}
	testkit.Figure(t, "the old value was last read %s after its invalidation", last.Round(time.Millisecond))
	t.Run("control: without the end of trust they don't", func(t *testing.T) {
		if last := staleAfterSilence(t, true); last <= LocalBound {
			t.Fatal("the end of trust is not what keeps the old value from being read")
		}
	})
}

func TestALostConnectionDropsEverythingAndIsReplaced(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	logs := &testkit.LogBuffer{}
	raw := client(t, s)
	c := open[string](t, s, Options{Local: trackerWith(t, raw, slog.New(slog.NewTextHandler(logs, nil)))})
	for i := range 3 {
		keep(t, c, "k", value("old"))
		if err := raw.Do(t.Context(), "client", "kill", "type", "normal", "skipme", "yes").Err(); err != nil {
			t.Fatal(err)
		}
		testkit.Eventually(t, time.Minute, func() bool {
			return strings.Count(logs.String(), "nothing is kept in memory") == i+1
		})
		if entries, bytes, _ := c.local.size(); entries+bytes != 0 {
			t.Fatalf("%d entries of %d bytes are left", entries, bytes)
		}
		get(t, c, "k", never[string](t), "old") // from Redis
	}
}

func TestAServerThatRefusesTrackingIsReadInstead(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	err := client(t, s).Do(t.Context(), "acl", "setuser", "service", "on", ">pw", "~purser:*", "+@all",
		"-client|tracking").Err()
	if err != nil {
		t.Fatal(err)
	}
	r := dial(t, fmt.Sprintf("redis://service:pw@127.0.0.1:%d/0", s.Port()), patience)
	logs := &testkit.LogBuffer{}
	tr := trackerWith(t, r, slog.New(slog.NewTextHandler(logs, nil)))
	c := New[string](r, ns, Options{Budget: patience, Local: tr})
	defer c.Close()
	get(t, c, "k", value("v"), "v")
	settle(t, c)
	testkit.Eventually(t, time.Minute, func() bool { return strings.Contains(logs.String(), "NOPERM") })
	get(t, c, "k", never[string](t), "v")
	_, err = tr.track(t.Context()) // and once more
	if entries, _, hits := c.local.size(); entries != 0 || hits != 0 || tr.tracked() || err == nil {
		t.Fatalf("%d entries, %d hits, %v", entries, hits, err)
	}
	if n := strings.Count(logs.String(), "\n"); n != 1 {
		t.Fatalf("%d lines:\n%s", n, logs)
	}
}

func TestACacheThatComesLaterIsTrustedWhenItIsFollowed(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	raw := client(t, s)
	tr := tracker(t, raw)
	first := open[string](t, s, Options{Local: tr})
	tracks(t, tr)
	later := Namespace{Service: "test", Entity: "later", Schema: 1}
	second := New[string](raw, later, Options{Budget: patience, Local: tr})
	defer second.Close()
	other := New[string](raw, later, Options{Budget: patience})
	defer other.Close()
	for _, c := range []*Cache[string]{first, second} {
		keep(t, c, "k", value("old"))
	}
	if err := other.Invalidate(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	becomes(t, second, "k", "new")
}

func TestValuesAreKeptOfEveryMasterOfACluster(t *testing.T) {
	t.Parallel()
	raw := dial(t, testkit.RedisCluster(t).URL(), patience)
	c := New[string](raw, ns, Options{Budget: patience, Local: tracker(t, raw)})
	defer c.Close()
	other := New[string](raw, ns, Options{Budget: patience})
	defer other.Close()
	for i := range 12 {
		key := fmt.Sprint(i)
		keep(t, c, key, value("old"))
		if err := other.Invalidate(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		becomes(t, c, key, "new")
	}
}
