package lock

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/faultproxy"
)

// outlived takes n locks over a proxy that then breaks, and counts the guards
// whose context still said that the lock was held when the server no longer
// did. It also returns how long before the server's expiry the contexts ended.
func outlived(t *testing.T, n int, fault faultproxy.Fault, budget, margin time.Duration) (wrong int,
	lead []time.Duration) {
	s := testkit.Redis(t)
	p := testkit.Proxy(t, s.URL())
	over := New(client(t, redisx.Options{URL: p.Rewrite(s.URL()), Timeout: patience, PoolSize: n}),
		Options{Prefix: "purser:test", Budget: patience})
	over.margin = margin
	t.Cleanup(over.Close)
	direct := client(t, redisx.Options{URL: s.URL(), Timeout: patience})
	if err := renewScript.Load(t.Context(), direct).Err(); err != nil { // so that renewals arrive whose answers don't
		t.Fatal(err)
	}
	const ttl = 1500 * time.Millisecond
	guards := make([]*Guard, n)
	var all sync.WaitGroup
	for i := range guards { // at once, each over a connection of its own
		all.Go(func() {
			var err error
			if guards[i], err = over.Try(t.Context(), fmt.Sprint(i), ttl); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, g := range guards { // renewals of a slow machine read it
		g.mu.Lock()
	}
	over.o.Budget = budget // of what the broken line is asked
	for _, g := range guards {
		g.mu.Unlock()
	}
	p.ToClient(fault)
	left := make([]time.Duration, n)
	var mu sync.Mutex
	for i, g := range guards {
		all.Go(func() {
			defer func() { _ = g.Release() }()
			for {
				// The server is asked first: what it says was true before the
				// context is looked at.
				remaining, err := direct.PTTL(t.Context(), over.key(g.name)).Result()
				ended := g.Context().Err() != nil
				switch {
				case err != nil:
					t.Error(err)
					return
				case remaining < 0 && !ended:
					mu.Lock()
					wrong++
					mu.Unlock()
					return
				case ended:
					if !errors.Is(context.Cause(g.Context()), ErrLost) {
						t.Error(context.Cause(g.Context()))
					}
					left[i] = max(remaining, 0)
					return
				}
				<-time.After(time.Millisecond)
			}
		})
	}
	all.Wait()
	p.Heal()
	slices.Sort(left)
	return wrong, left
}

func TestAGuardsContextEndsBeforeTheServersLeaseWhateverTheLineDoes(t *testing.T) {
	t.Parallel()
	n := testkit.Size(10, 100)
	for name, f := range map[string]faultproxy.Fault{
		"200 ms later":  {Latency: 200 * time.Millisecond},
		"blackhole":     {Blackhole: true},
		"cut mid-reply": {CutAfter: 2},
		"reset":         {Reset: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrong, lead := outlived(t, n, f, redisx.Budget, margin)
			if wrong != 0 {
				t.Fatalf("%d of %d contexts outlived their lease", wrong, n)
			}
			testkit.Figure(t, "%d/%d contexts ended before the server's lease, by %s (median; at least 150ms is due)",
				n-wrong, n, lead[n/2])
		})
	}
	t.Run("control: counted past the lease they don't", func(t *testing.T) {
		t.Parallel()
		if wrong, _ := outlived(t, 3, faultproxy.Fault{Blackhole: true}, redisx.Budget, -1); wrong == 0 {
			t.Fatal("the margin is not what ends the contexts in time")
		}
	})
}

func TestAFlushIsToldToEveryHolderByItsNextRenewal(t *testing.T) {
	s := testkit.Redis(t)
	l := locker(t, s, Options{})
	n := testkit.Size(20, 200)
	lost := make([]func() time.Time, n)
	guards := make([]*Guard, n)
	for i := range guards {
		guards[i] = tryFor(t, l, fmt.Sprint(i), ttl)
		lost[i] = loss(t, guards[i])
	}
	begin := time.Now()
	if err := l.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	took := make([]time.Duration, n)
	for i := range lost {
		took[i] = lost[i]().Sub(begin)
	}
	slices.Sort(took)
	// Half of them, since what else the machine does only adds, and not more than a lease on a busy one; the exact
	// bound is the clock tests'.
	if bound := ttl/3 + redisx.Budget; took[n/2] > bound && testkit.Size(0, 1) == 1 || took[n/2] > ttl {
		t.Errorf("half of the holders were told after %s, not %s", took[n/2], bound)
	}
	for i, g := range guards {
		if next := try(t, l, fmt.Sprint(i)); next.Fence() <= g.Fence() {
			t.Errorf("fence %d after %d", next.Fence(), g.Fence())
		}
	}
	testkit.Figure(t, "%d holders told of a flush after %s at most (goal %s); all fences rose", n, took[n-1],
		ttl/3+redisx.Budget)
}

func TestTakingAndReleasingLeavesNoGoroutine(t *testing.T) {
	s := testkit.Redis(t)
	c := client(t, redisx.Options{URL: s.URL(), Timeout: patience})
	sub := client(t, redisx.Options{URL: s.URL(), Timeout: patience, Subscriber: true})
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	l := New(c, Options{Prefix: "purser:test", Budget: patience, Subscriber: sub})
	cycles := testkit.Size(1000, 10_000)
	var all sync.WaitGroup
	for worker := range 4 { // some of which wait for each other
		all.Go(func() {
			for range cycles / 4 {
				g, err := l.Acquire(t.Context(), fmt.Sprint(worker%3), time.Minute)
				if err == nil {
					err = g.Release()
				}
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	l.Close()
	testkit.Eventually(t, time.Minute, func() bool { return runtime.NumGoroutine() <= before })
	testkit.Figure(t, "%d cycles of 4 workers on 3 locks: %d goroutines before, no more after", cycles, before)
}

func TestLocksWorkOnACluster(t *testing.T) {
	t.Parallel()
	cluster, db := testkit.RedisCluster(t), fences(t)
	open := func() *Locker {
		l := New(client(t, redisx.Options{URL: cluster.URL(), Timeout: patience}), Options{
			Prefix: "purser:test", Budget: patience, Floor: Floor(db.Gorm),
			Subscriber: client(t, redisx.Options{URL: cluster.URL(), Timeout: patience, Subscriber: true}),
		})
		t.Cleanup(l.Close)
		return l
	}
	a, b := open(), open()
	b.maxPollInterval = time.Hour // nothing but the release wakes it, over whichever node
	for i := range 12 {           // on every node, and of names that would break a hash tag
		name := fmt.Sprintf("}%d{%%", i)
		g := try(t, a, name)
		if _, err := b.Try(t.Context(), name, time.Minute); !errors.Is(err, ErrHeld) {
			t.Fatal(err)
		}
		got := make(chan *Guard, 1)
		go func() {
			next, err := b.Acquire(t.Context(), name, time.Minute)
			if err != nil {
				t.Error(err)
			}
			got <- next
		}()
		testkit.Eventually(t, time.Minute, func() bool { return waits(b, name) })
		if err := g.Release(); err != nil {
			t.Fatal(err)
		}
		next := testkit.Receive(t, got, time.Minute)
		if next.Fence() <= g.Fence() {
			t.Fatal(g.Fence(), next.Fence())
		}
		if err := next.Release(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaitersOfOneProcessAreServedInOrderOverOneConnection(t *testing.T) {
	s := testkit.Redis(t)
	l := locker(t, s, Options{Subscriber: client(t,
		redisx.Options{URL: s.URL(), Timeout: patience, Subscriber: true})})
	g := try(t, l, "x")
	served := make(chan int, 200)
	var all sync.WaitGroup
	for i := range cap(served) {
		all.Go(func() {
			next, err := l.Acquire(t.Context(), "x", time.Hour)
			if err != nil {
				t.Error(err)
				return
			}
			served <- i
			if err := next.Release(); err != nil {
				t.Error(err)
			}
		})
		testkit.Eventually(t, time.Minute, func() bool { return waiting(l, "x") == i+1 && waits(l, "x") })
	}
	if n, err := l.client.PubSubNumSub(t.Context(), l.waiters.channel).Result(); err != nil ||
		n[l.waiters.channel] != 1 {
		t.Errorf("%v subscriptions, %v", n, err)
	}
	if err := g.Release(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	close(served)
	last := -1
	for i := range served {
		if i < last {
			t.Fatalf("%d was served after %d", i, last)
		}
		last = i
	}
}

func waiting(l *Locker, name string) int {
	l.waiters.mu.Lock()
	defer l.waiters.mu.Unlock()
	if q := l.waiters.queues[l.key(name)]; q != nil {
		return q.waiting
	}
	return 0
}

func FuzzReply(f *testing.F) {
	f.Add(int64(1), "1700000000000000", int64(0), 3)
	f.Add(int64(0), "-2", int64(1), 3)
	f.Add(int64(1), "", int64(1), 2)
	f.Fuzz(func(t *testing.T, taken int64, text string, first int64, parts int) {
		reply := []any{taken, text, first, "more"}
		if parts < 0 || parts > len(reply) {
			reply = []any{text, taken, nil}
			parts = 3
		}
		a, unknown, err := parse(reply[:parts])
		if err == nil && a.acquired && fmt.Sprint(a.fence) == "" || err != nil && (a != answer{} || unknown) {
			t.Fatal(a, unknown, err)
		}
	})
}

func TestAWaiterIsWokenThoughItsSubscriptionWasCut(t *testing.T) {
	s := testkit.Redis(t)
	p := testkit.Proxy(t, s.URL())
	l := locker(t, s, Options{Subscriber: client(t,
		redisx.Options{URL: p.Rewrite(s.URL()), Timeout: patience, Subscriber: true})})
	l.maxPollInterval = time.Hour // nothing but the subscription wakes it
	for i := range 3 {
		name := fmt.Sprint(i)
		g := try(t, l, name)
		got := make(chan error, 1)
		go func() { got <- l.Do(t.Context(), name, time.Hour, func(context.Context, *Guard) error { return nil }) }()
		testkit.Eventually(t, time.Minute, func() bool { return waits(l, name) })
		p.ToClient(faultproxy.Fault{Reset: true})
		if err := g.Release(); err != nil { // whose message is lost
			t.Fatal(err)
		}
		p.Heal()
		if err := testkit.Receive(t, got, time.Minute); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAWaiterThatGivesUpLeavesItsPlaceToTheNext(t *testing.T) {
	s := testkit.Redis(t)
	l := locker(t, s, Options{Subscriber: client(t,
		redisx.Options{URL: s.URL(), Timeout: patience, Subscriber: true})})
	l.maxPollInterval = time.Hour
	g := try(t, l, "x")
	const n = 6
	got := make([]chan error, n)
	leave := make([]context.CancelFunc, n)
	for i := range n {
		var ctx context.Context
		ctx, leave[i] = context.WithCancel(t.Context())
		defer leave[i]()
		got[i] = make(chan error, 1)
		go func() { got[i] <- l.Do(ctx, "x", time.Hour, func(context.Context, *Guard) error { return nil }) }()
		testkit.Eventually(t, time.Minute, func() bool { return waiting(l, "x") == i+1 })
	}
	for _, i := range []int{0, 3, 1} { // the first, one in between, and the first again
		leave[i]()
		if err := testkit.Receive(t, got[i], time.Minute); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
	if err := g.Release(); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{2, 4, 5} {
		if err := testkit.Receive(t, got[i], time.Minute); err != nil {
			t.Fatal(err)
		}
	}
	testkit.Eventually(t, time.Minute, func() bool { return waiting(l, "x") == 0 })
}
