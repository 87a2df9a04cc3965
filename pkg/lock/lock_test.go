package lock

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/redis/go-redis/v9"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

func TestMain(m *testing.M) {
	testkit.Children(map[string]func(context.Context, []string) error{"writer": writer})
	testkit.LeakFree(m)
}

const (
	// ttl is of leases that tests renew or lose: long enough that a busy
	// machine renews in time.
	ttl = 3 * time.Second
	// patience keeps a busy machine from looking like an outage, in tests that
	// aren't about one.
	patience = 10 * time.Second
)

func client(t testing.TB, o redisx.Options) redis.UniversalClient {
	t.Helper()
	c, err := redisx.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// locker is patient unless o says otherwise.
func locker(t testing.TB, s *redisserver.Server, o Options) *Locker {
	t.Helper()
	o.Prefix = "purser:test"
	if o.Budget == 0 {
		o.Budget = patience
	}
	l := New(client(t, redisx.Options{URL: s.URL(), Timeout: o.Budget}), o)
	t.Cleanup(l.Close)
	return l
}

// try takes a lock that no test outlasts.
func try(t testing.TB, l *Locker, name string) *Guard {
	t.Helper()
	return tryFor(t, l, name, time.Hour)
}

func tryFor(t testing.TB, l *Locker, name string, ttl time.Duration) *Guard {
	t.Helper()
	g, err := l.Try(t.Context(), name, ttl)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.Release() })
	return g
}

// loss tells when g's context ends, by the goroutine that its end starts and
// not by when the test gets to look.
func loss(t testing.TB, g *Guard) func() time.Time {
	ended := make(chan time.Time, 1)
	context.AfterFunc(g.Context(), func() { ended <- time.Now() })
	return func() time.Time {
		t.Helper()
		at := testkit.Receive(t, ended, time.Minute)
		if !errors.Is(context.Cause(g.Context()), ErrLost) {
			t.Fatal(context.Cause(g.Context()))
		}
		return at
	}
}

func TestALockIsHeldByOneAndRenewedUntilReleased(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	a, b := locker(t, s, Options{}), locker(t, s, Options{})
	const ttl = time.Second
	g := tryFor(t, a, "x", ttl)
	end := time.Now().Add(3 * ttl)
	testkit.Eventually(t, time.Minute, func() bool {
		if _, err := b.Try(t.Context(), "x", ttl); !errors.Is(err, ErrHeld) {
			t.Fatal(err)
		}
		return time.Now().After(end)
	})
	if g.Context().Err() != nil {
		t.Fatal(context.Cause(g.Context()))
	}
	if err := g.Release(); err != nil {
		t.Fatal(err)
	}
	if after := try(t, b, "x"); after.Fence() <= g.Fence() {
		t.Fatal("the fence does not rise", g.Fence(), after.Fence())
	}
}

// releaseAfterLoss loses a lease to another holder, releases it, and reports
// whether the other still has the lock.
func releaseAfterLoss(t *testing.T, release *redis.Script) (err error, kept bool) {
	s := testkit.Redis(t)
	a, b := locker(t, s, Options{}), locker(t, s, Options{})
	a.release = release
	first := try(t, a, "x")
	if err := a.client.Del(t.Context(), a.key("x")).Err(); err != nil { // as an expiry or an eviction would
		t.Fatal(err)
	}
	second := try(t, b, "x")
	err = first.Release()
	n, existsErr := b.client.Exists(t.Context(), b.key("x")).Result()
	if existsErr != nil {
		t.Fatal(existsErr)
	}
	_ = second
	return err, n == 1
}

func TestAGuardWhoseLeaseWasLostCannotReleaseTheNextHoldersLock(t *testing.T) {
	if err, kept := releaseAfterLoss(t, releaseScript); !kept || !errors.Is(err, ErrLost) {
		t.Fatalf("kept %v, %v", kept, err)
	}
	t.Run("control: without the token it does", func(t *testing.T) {
		unchecked := redis.NewScript(`return redis.call('DEL', KEYS[1])`)
		if _, kept := releaseAfterLoss(t, unchecked); kept {
			t.Fatal("the check of the token is not what protects the lock")
		}
	})
}

func TestALossIsToldAtOnceAndFencesStillRise(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	l := locker(t, s, Options{})
	g := tryFor(t, l, "x", ttl)
	lost := loss(t, g)
	flush := time.Now()
	if err := l.client.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	// That the first renewal tells it, which no second one can do as early and
	// the expiry can't either. Its exact time is the clock tests' matter.
	if took := lost().Sub(flush); took > ttl*6/10 {
		t.Fatalf("told after %s", took)
	}
	if n, _ := l.client.Exists(t.Context(), l.key("x")).Result(); n != 0 {
		t.Fatal("a renewal brought the lock back")
	}
	if next := try(t, l, "x"); next.Fence() <= g.Fence() {
		t.Fatal(g.Fence(), next.Fence())
	}
}

func TestTheGuardsContextEndsBeforeTheLeaseWhenRedisHangs(t *testing.T) {
	t.Parallel()
	s := testkit.Redis(t)
	l := locker(t, s, Options{Budget: time.Second})
	g := tryFor(t, l, "x", ttl)
	lost := loss(t, g)
	asked := time.Now()
	remaining, err := l.client.PTTL(t.Context(), l.key("x")).Result()
	if err != nil || remaining <= 0 {
		t.Fatal(remaining, err)
	}
	s.Pause()
	defer s.Resume()
	// The server lets the lease go at the earliest this long after it was
	// asked, later if it was renewed since.
	if late := lost().Sub(asked.Add(remaining)); late >= 0 {
		t.Fatalf("the guard's context ended %s after the lease could", late)
	}
	if err := g.Release(); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
	hasty := locker(t, s, Options{Budget: redisx.Budget})
	if _, err := hasty.Try(t.Context(), "y", ttl); !errors.Is(err, ErrUnavailable) {
		t.Fatal(err)
	}
}

func TestACancelledCallerDoesNotLeaveTheLockHeld(t *testing.T) {
	s := testkit.Redis(t)
	l := locker(t, s, Options{})
	ctx, cancel := context.WithCancel(t.Context())
	g, err := l.Try(ctx, "x", ttl)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := g.Release(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Try(ctx, "x", ttl); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	try(t, l, "x")
}

func TestTheSameTokenAskedTwiceGetsTheSameFence(t *testing.T) {
	s := testkit.Redis(t)
	for _, unfenced := range []bool{false, true} {
		l := locker(t, s, Options{Unfenced: unfenced})
		name := fmt.Sprint("unfenced ", unfenced)
		first, err := l.acquire(t.Context(), name, l.key(name), "token", ttl, false)
		if err != nil {
			t.Fatal(err)
		}
		second, err := l.acquire(t.Context(), name, l.key(name), "token", ttl, true)
		if err != nil || second != first || !first.acquired || unfenced != (first.fence == 0) {
			t.Fatal(first, second, err)
		}
		if other, err := l.acquire(t.Context(), name, l.key(name), "tok", ttl, true); err != nil || other.acquired {
			t.Fatal("a token's beginning was taken for the token", err)
		}
	}
}

func TestALockWithoutAFenceCannotBeFenced(t *testing.T) {
	s, db := testkit.Redis(t), fences(t)
	g := try(t, locker(t, s, Options{Unfenced: true}), "x")
	err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error { return Fenced(tx, g) })
	if err == nil {
		t.Fatal("a write went on that nothing protects")
	}
	if err := g.Release(); err != nil {
		t.Fatal(err)
	}
	try(t, locker(t, s, Options{Unfenced: true}), "x")
}

func TestAWaiterIsWokenByTheRelease(t *testing.T) {
	s := testkit.Redis(t)
	sub := client(t, redisx.Options{URL: s.URL(), Timeout: patience, Subscriber: true})
	l := locker(t, s, Options{Subscriber: sub})
	l.maxPollInterval = time.Hour // nothing but the release wakes it
	fastest := time.Hour
	for i := range 5 {
		fastest = min(fastest, wake(t, l, fmt.Sprint("x", i)))
	}
	// Other load on the machine only adds, so that the fastest is the library's.
	if fastest > 100*time.Millisecond {
		t.Fatalf("woken after %s", fastest)
	}
}

// wake has a waiter wait for a lock and returns how long after the release it
// got it.
func wake(t testing.TB, l *Locker, name string) time.Duration {
	t.Helper()
	g := try(t, l, name)
	got := make(chan time.Time, 1)
	go func() {
		w, err := l.Acquire(t.Context(), name, time.Hour)
		got <- time.Now()
		if err != nil {
			t.Error(err)
			return
		}
		_ = w.Release()
	}()
	testkit.Eventually(t, time.Minute, func() bool {
		n, _ := l.client.PubSubNumSub(t.Context(), l.waiters.channel).Result()
		return n[l.waiters.channel] == 1 && waits(l, name)
	})
	begin := time.Now()
	if err := g.Release(); err != nil {
		t.Fatal(err)
	}
	return testkit.Receive(t, got, time.Minute).Sub(begin)
}

// waits reports whether somebody stands in line for a lock.
func waits(l *Locker, name string) bool {
	l.waiters.mu.Lock()
	defer l.waiters.mu.Unlock()
	q := l.waiters.queues[l.key(name)]
	return q != nil && len(q.head) == 1
}

func TestDoIsExclusive(t *testing.T) {
	s := testkit.Redis(t)
	var wg sync.WaitGroup
	inside, total := 0, 0
	for range 4 {
		l := locker(t, s, Options{})
		wg.Go(func() {
			for range 10 {
				err := l.Do(t.Context(), "x", time.Minute, func(context.Context, *Guard) error {
					inside++ // -race tells when two are here
					if inside != 1 {
						return fmt.Errorf("%d inside", inside)
					}
					inside--
					total++
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if total != 40 {
		t.Fatal(total)
	}
}

func fences(t *testing.T) *testkit.DB {
	return testkit.Postgres(t, fstest.MapFS{"00001_lock.sql": {Data: []byte("-- +goose Up\n" + Schema +
		"CREATE TABLE notes (id bigserial, round int, fence bigint);\n")}})
}

func TestAFenceIsRaisedOverWhatTheDatabaseHasSeen(t *testing.T) {
	s, db := testkit.Redis(t), fences(t)
	const seen = int64(8_000_000_000_000_123) // as after a Redis whose clock was ahead
	if err := db.Gorm(t.Context()).Exec(`INSERT INTO lock_fences (name, fence) VALUES ('x', ?)`,
		seen).Error; err != nil {
		t.Fatal(err)
	}
	l := locker(t, s, Options{Floor: Floor(db.Gorm)})
	g := try(t, l, "x")
	if g.Fence() != seen+1 {
		t.Fatal(g.Fence())
	}
	if err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error { return Fenced(tx, g) }); err != nil {
		t.Fatal(err)
	}
	if err := g.Release(); err != nil {
		t.Fatal(err)
	}
	if next := try(t, l, "x"); next.Fence() != seen+2 {
		t.Fatal(next.Fence())
	}
}

// once fails the first call of a script, before the server has it.
type once struct {
	redis.UniversalClient

	hash string
	done bool
}

func (o *once) EvalSha(ctx context.Context, sha1 string, keys []string, args ...any) *redis.Cmd {
	if sha1 == o.hash && !o.done {
		o.done = true
		cmd := redis.NewCmd(ctx)
		cmd.SetErr(redis.ErrPoolTimeout)
		return cmd
	}
	return o.UniversalClient.EvalSha(ctx, sha1, keys, args...)
}

func TestAFenceIsRaisedThoughTheFirstAttemptFails(t *testing.T) {
	l := locker(t, testkit.Redis(t), Options{Floor: func(context.Context, string) (int64, error) { return 8e15, nil }})
	l.client = &once{UniversalClient: l.client, hash: raiseScript.Hash()}
	if g := try(t, l, "x"); g.Fence() != 8e15+1 {
		t.Fatal(g.Fence())
	}
}
