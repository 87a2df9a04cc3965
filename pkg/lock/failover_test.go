package lock

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/pkg/testkit/redissentinel"
)

// held is a lease that somebody had.
type held struct {
	name  string
	fence int64
}

// load is workers of several processes who take locks and write under them.
type load struct {
	mu     sync.Mutex
	leases map[held]int // how many had it

	written atomic.Int64
	killed  atomic.Pointer[time.Time]
	back    atomic.Pointer[time.Duration] // from the kill to the first good call that began after it
}

// work takes locks and writes until ctx ends.
func (o *load) work(ctx context.Context, t *testing.T, l *Locker, db *testkit.DB, locks int) {
	for i := 0; ctx.Err() == nil; i++ {
		begin := time.Now()
		lock := i % locks
		g, err := l.Try(ctx, name(lock), ttl)
		if err != nil { // held by another, or no Redis
			<-time.After(time.Millisecond)
			continue
		}
		if killed := o.killed.Load(); killed != nil && begin.After(*killed) {
			took := time.Since(*killed)
			o.back.CompareAndSwap(nil, &took)
		}
		o.mu.Lock()
		o.leases[held{name(lock), g.Fence()}]++
		o.mu.Unlock()
		// The context of the guard may end in between, as the lease may.
		switch err := note(context.WithoutCancel(ctx), db.DB, g, lock, true); {
		case err == nil:
			o.written.Add(1)
		case !errors.Is(err, ErrFenced):
			t.Error(err)
		}
		_ = g.Release()
	}
}

// A failover of Redis may lose leases that it has confirmed. Two then hold a lock, with
// two fences, and what the older one writes after the newer is refused.
func TestAFailoverUnderLoadGivesNoFenceTwiceAndNoStaleWriteIsTaken(t *testing.T) {
	t.Parallel()
	group, db := testkit.RedisSentinel(t), fences(t)
	o := load{leases: map[held]int{}}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	for range 3 { // each like a process of its own, with the default time budget
		l := New(client(t, redisx.Options{URL: group.URL()}), Options{Prefix: "purser:test", Floor: Floor(db.Gorm)})
		t.Cleanup(l.Close)
		for range 4 {
			all.Go(func() { o.work(ctx, t, l, db, 5) })
		}
	}
	more := func(n int64) {
		from := o.written.Load()
		testkit.Eventually(t, 2*time.Minute, func() bool { return o.written.Load() >= from+n })
	}
	more(50)

	patient := New(client(t, redisx.Options{URL: group.URL(), Timeout: patience}),
		Options{Prefix: "purser:test", Floor: Floor(db.Gorm), Budget: patience})
	t.Cleanup(patient.Close)
	cutReplication(t, group)
	lost := try(t, patient, "only the old primary has it")
	now := time.Now()
	o.killed.Store(&now)
	old := group.Servers[0]
	old.Kill()
	testkit.Eventually(t, time.Minute, func() bool { return o.back.Load() != nil })
	more(50)

	// The lease that the failover lost is still somebody's.
	second := try(t, patient, "only the old primary has it")
	if second.Fence() <= lost.Fence() {
		t.Errorf("fence %d after %d", second.Fence(), lost.Fence())
	}
	if err := write(t, db, second); err != nil {
		t.Error(err)
	}
	if err := write(t, db, lost); !errors.Is(err, ErrFenced) {
		t.Errorf("the older holder's write: %v", err)
	}

	// The old primary returns, first as a primary, and becomes a replica.
	if err := old.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		info, err := silent(t, old).Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "role:slave")
	})
	more(50)
	stop()
	all.Wait()
	for lease, n := range o.leases {
		if n > 1 {
			t.Errorf("%d had the lock %s with the fence %d", n, lease.name, lease.fence)
		}
	}
	if n := stale(t, db); n != 0 {
		t.Errorf("%d writes of an older holder came after those of a newer", n)
	}
	testkit.Figure(t, "primary killed under 12 workers: first lock %.1f s later; %d leases, %d writes, no fence "+
		"twice, no stale write", o.back.Load().Seconds(), len(o.leases), o.written.Load())
}

// stale is how many writes came after one of a newer holder, or of the same.
func stale(t *testing.T, db *testkit.DB) (n int) {
	t.Helper()
	if err := db.Gorm(t.Context()).Raw(`SELECT count(*) FROM (
		SELECT fence - lag(fence) OVER (PARTITION BY round ORDER BY id) AS more FROM notes) AS w
		WHERE more <= 0`).Scan(&n).Error; err != nil {
		t.Fatal(err)
	}
	return n
}

// cutReplication keeps what the primary is told from now on from its replicas, which
// the Sentinels still take for good.
func cutReplication(t *testing.T, g *redissentinel.Group) {
	t.Helper()
	for _, replica := range g.Servers[1:] {
		if err := silent(t, replica).ConfigSet(t.Context(), "masterauth", "wrong").Err(); err != nil {
			t.Fatal(err)
		}
	}
	primary := silent(t, g.Servers[0])
	if err := primary.Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool {
		info, err := primary.Info(t.Context(), "replication").Result()
		return err == nil && strings.Contains(info, "connected_slaves:0")
	})
}

// TestStaleWritesAreCounted is the control of the test above.
func TestStaleWritesAreCounted(t *testing.T) {
	db := fences(t)
	for _, fence := range []int64{1, 2, 2, 1, 3} {
		if err := postgres.InTx(t.Context(), db.DB, func(tx *gorm.DB) error {
			return tx.Exec(`INSERT INTO notes (round, fence) VALUES (1, ?)`, fence).Error
		}); err != nil {
			t.Fatal(err)
		}
	}
	if n := stale(t, db); n != 2 {
		t.Error(fmt.Sprint(n))
	}
}
