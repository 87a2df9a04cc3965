// Package lock is a lease in Redis with fencing in Postgres.
//
// Promise: on one healthy Redis at most one lease of a name is live. A guard's
// context ends, with cause [ErrLost], before its lease can expire on the server,
// and as soon as a renewal finds the lease lost. Only the holder can renew or
// release a lease, and a renewal never recreates a lost one. Each lease has a fence,
// a number greater than those of all earlier leases of its name, also after Redis
// has lost its data. One operation takes one round trip and at most its budget,
// 50 ms; when Redis is down it fails with [ErrUnavailable]. All waiters of a process
// share one subscription, which reports every release, and only the first waiter of
// each name sends commands.
//
// Limits: a lease is not exclusive across a failover of Redis, the eviction of its
// key, a jump of Redis's clock, or a holder that is paused past its lease. [Fenced]
// protects writes in these cases by serialising the holders in Postgres; a write
// that can't call it must be idempotent. After a failover that lost a lease, the
// next fence is greater if the new primary's clock is behind by less than the
// failover took; otherwise the older holder is not told apart until it has lost its
// lease. Keep the clocks of Redis servers in step (NTP).
//
// Source: Gray and Cheriton, "Leases" (1989); Kleppmann, "How to do
// distributed locking" (2016), for the fence.
package lock

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/redisx"
)

var (
	// ErrHeld is returned when another caller holds the lock.
	ErrHeld = errors.New("lock: held by another")
	// ErrLost is returned when the lease ended before it was released. It is the
	// cause of the end of a guard's context.
	ErrLost = errors.New("lock: the lease was lost")
	// ErrUnavailable is redisx.ErrUnavailable: Redis gave no answer.
	ErrUnavailable = redisx.ErrUnavailable
)

const (
	scope  = "github.com/purserhq/purser/pkg/lock"
	minTTL = 30 * time.Millisecond
	// margin: a guard's context ends 1/margin of the lease before it expires.
	margin = 10
)

// Options of a Locker. All but Prefix are optional.
type Options struct {
	// Prefix begins every key: purser:<service>. It must have no braces.
	Prefix string
	// Subscriber makes releases wake the waiters in Acquire by pub/sub; see
	// [redisx.Options.Subscriber]. Without one, waiters poll. The Lockers of one
	// key space must all have one or all have none.
	Subscriber redis.UniversalClient
	// Floor returns the greatest fence that was written for a name; see [Floor].
	// It is called only when Redis has no earlier fence of the name.
	Floor func(ctx context.Context, name string) (int64, error)
	// Unfenced leases have no fence, which saves a key in Redis and a third of the
	// time. Use it when doing the work twice is wasteful but not wrong.
	Unfenced bool
	// Budget is how long all steps of one operation may wait for Redis;
	// redisx.Budget. A release may take twice as long. redisx.Options.Timeout
	// bounds each step.
	Budget time.Duration
	// Log receives a line for each lost lease; nil means none.
	Log *slog.Logger
}

// Locker acquires locks. It is safe for concurrent use.
type Locker struct {
	client  redis.UniversalClient
	o       Options
	prefix  string
	waiters waiters
	// pending is read-locked by background releases. A WaitGroup must not be
	// waited for while goroutines are added.
	pending sync.RWMutex

	// Fields so that a test can change them and show that they are needed.
	release         *redis.Script
	margin          time.Duration
	maxPollInterval time.Duration

	wait metric.Float64Histogram
	lost metric.Int64Counter
}

// New makes a Locker on a client of redisx. Close it before the client.
func New(client redis.UniversalClient, o Options) *Locker {
	if o.Budget == 0 {
		o.Budget = redisx.Budget
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Locker{client: client, o: o, prefix: o.Prefix + ":lock:", release: releaseScript, margin: margin,
		maxPollInterval: maxPollInterval}
	l.waiters.client, l.waiters.channel = o.Subscriber, l.prefix+"released"
	meter := otel.Meter(scope)
	// An instrument that can't be made is a no-op one.
	l.wait, _ = meter.Float64Histogram("lock_wait_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time that Acquire waited for a lock."))
	l.lost, _ = meter.Int64Counter("lock_lost_total",
		metric.WithDescription("Leases that ended before they were released."))
	l.lost.Add(context.Background(), 0) // so that the first one is an increase
	return l
}

// Close ends the subscription, after which waiters poll, and waits for background
// releases, at most twice the budget. Guards remain valid.
func (l *Locker) Close() {
	l.waiters.close()
	l.pending.Lock()
	defer l.pending.Unlock()
}

// key is the key of a lock. The key of its fence has the same hash tag.
func (l *Locker) key(name string) string { return redisx.Key(l.prefix, name) }

// Try acquires the lock named name with a lease of ttl, at least 30 ms, which is
// renewed until the lock is released or ctx ends. The error is [ErrHeld],
// [ErrUnavailable] or ctx's; the lock is then not held.
func (l *Locker) Try(ctx context.Context, name string, ttl time.Duration) (*Guard, error) {
	g, _, err := l.try(ctx, name, ttl)
	return g, err
}

// try also returns the remaining time of the current holder's lease.
func (l *Locker) try(ctx context.Context, name string, ttl time.Duration) (*Guard, time.Duration, error) {
	if ttl < minTTL {
		return nil, 0, fmt.Errorf("lock: ttl is %s and must be at least %s", ttl, minTTL)
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	budget, cancel := redisx.WithBudget(ctx, l.o.Budget)
	defer cancel()
	key, token := l.key(name), rand.Text()
	start := time.Now()
	a, err := l.acquire(budget, name, key, token, ttl, false)
	if err != nil && budget.Err() == nil {
		// The reply may have been lost after the lock was acquired. With the same
		// token the retry gets the same fence. The lease counts from the first
		// attempt.
		a, err = l.acquire(budget, name, key, token, ttl, true)
	}
	if err != nil {
		l.releaseInBackground(ctx, key, token)
		return nil, 0, redisx.Unavailable(err)
	}
	if !a.acquired {
		return nil, a.remaining, fmt.Errorf("%w: %s", ErrHeld, name)
	}
	if ctx.Err() != nil {
		l.releaseInBackground(ctx, key, token)
		return nil, 0, ctx.Err()
	}
	return l.newGuard(ctx, name, key, token, a.fence, ttl, start), 0, nil
}

// releaseInBackground releases a lock that may have been acquired.
func (l *Locker) releaseInBackground(ctx context.Context, key, token string) {
	l.pending.RLock()
	go func() {
		defer l.pending.RUnlock()
		_, _ = l.releaseLease(ctx, key, token)
	}()
}

// releaseLease releases a lease if it is the token's and reports whether it was. It
// isn't cancelled with ctx and may take twice the budget: others wait for a lease
// that is not released.
func (l *Locker) releaseLease(ctx context.Context, key, token string) (bool, error) {
	ctx, cancel := redisx.WithBudget(ctx, 2*l.o.Budget)
	defer cancel()
	args := []any{token}
	if l.o.Subscriber != nil {
		args = append(args, l.waiters.channel)
	}
	return l.release.Run(ctx, l.client, []string{key}, args...).Bool()
}

// Acquire acquires the lock like [Locker.Try], but waits for it until ctx ends
// instead of returning [ErrHeld]. The waiters of one process for one name get it in
// the order of their calls.
func (l *Locker) Acquire(ctx context.Context, name string, ttl time.Duration) (*Guard, error) {
	begin := time.Now()
	defer func() { l.wait.Record(ctx, time.Since(begin).Seconds()) }()
	g, _, err := l.try(ctx, name, ttl)
	if !errors.Is(err, ErrHeld) {
		return g, err
	}
	_, span := otel.Tracer(scope).Start(ctx, "lock wait")
	defer span.End()
	return l.acquireInOrder(ctx, name, ttl)
}

// Do acquires the lock, runs fn with the guard's context and releases the lock. The
// error is Acquire's or fn's, or [ErrLost] when fn succeeded but the lease was lost
// before the release.
func (l *Locker) Do(ctx context.Context, name string, ttl time.Duration,
	fn func(context.Context, *Guard) error) (err error) {
	g, err := l.Acquire(ctx, name, ttl)
	if err != nil {
		return err
	}
	defer func() {
		ended := g.Context().Err() != nil && errors.Is(context.Cause(g.Context()), ErrLost)
		// A lease whose release got no answer expires.
		if lost := errors.Is(g.Release(), ErrLost); (lost || ended) && err == nil {
			err = ErrLost
		}
	}()
	return fn(g.Context(), g)
}
