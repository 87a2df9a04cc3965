// Package lock is a lease in Redis with fencing in Postgres.
//
// Promise: on one healthy Redis at most one lease of a name is live. A
// guard's context ends, with cause [ErrLost], before its lease can expire on
// the server, and at once when the lease is found gone. Only the holder can
// renew or release a lease, and renewal never brings a lost one back. Each
// lease has a fence number greater than those before it for that name, also
// after Redis has lost its data. One operation costs one round trip and at most
// its budget, 50 ms; with Redis away it fails with [ErrUnavailable]. The
// waiters of one process share one connection, on which it hears of every
// release, and only the first of each name asks.
//
// Limits: a lease is not exclusive across a failover of Redis, a jump of its
// clock, or a holder that is paused past its lease and doesn't know it. What
// keeps writes right then is [Fenced], which serialises the holders in
// Postgres; a write that can't call it must bear to be done twice.
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
	// ErrHeld says that somebody else holds the lock.
	ErrHeld = errors.New("lock: held by another")
	// ErrLost says that the lease ended before it was released. It is the
	// cause of the end of a guard's context.
	ErrLost = errors.New("lock: the lease was lost")
	// ErrUnavailable says that Redis gave no answer; it is redisx's.
	ErrUnavailable = redisx.ErrUnavailable
)

const (
	scope  = "github.com/purserhq/purser/pkg/lock"
	minTTL = 30 * time.Millisecond
	// margin is the part of a lease that a guard's context ends before it.
	margin = 10
)

// Options name the locks' key space and give a Locker what it may need.
type Options struct {
	// Prefix begins every key: purser:<service>. It has no braces.
	Prefix string
	// Subscriber hears of releases and has them told, so that a waiter in
	// Acquire is woken; see [redisx.Options.Subscriber]. Lockers of one key
	// space all have one, or none and then their waiters ask again.
	Subscriber redis.UniversalClient
	// Floor returns the greatest fence that the database has seen for a name;
	// see [Floor]. It is asked only when Redis knows no earlier fence.
	Floor func(ctx context.Context, name string) (int64, error)
	// Unfenced leases have no fence, which spares Redis a key and a third of
	// the time: for work that is only wasteful when done twice.
	Unfenced bool
	// Budget is what one operation may wait for Redis in all; redisx.Budget. A
	// release may take twice as long. It doesn't put off the end of a guard's
	// context. See redisx.Options.Timeout too, which bounds each step.
	Budget time.Duration
	// Log receives one line for each lease that is lost; nil for none.
	Log *slog.Logger
}

// Locker takes locks. It is safe for concurrent use.
type Locker struct {
	client  redis.UniversalClient
	o       Options
	prefix  string
	waiters waiters
	// pending is read-locked by what runs in the background: unlike a WaitGroup
	// it may be waited for while more begins.
	pending sync.RWMutex

	// Fields so that a test can show what they protect from.
	release  *redis.Script
	margin   time.Duration
	pollMost time.Duration

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
		pollMost: pollMost}
	l.waiters.client, l.waiters.channel = o.Subscriber, l.prefix+"released"
	meter := otel.Meter(scope)
	// An instrument that can't be made is a no-op one.
	l.wait, _ = meter.Float64Histogram("lock_wait_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time that Acquire waited for a lock."))
	l.lost, _ = meter.Int64Counter("lock_lost_total",
		metric.WithDescription("Leases that ended before they were released."))
	return l
}

// Close waits for what the Locker still does in the background, twice the
// budget at most, and gives up its subscription: waiters ask again then. Guards
// stay valid and are released on their own.
func (l *Locker) Close() {
	l.waiters.close()
	l.pending.Lock()
	defer l.pending.Unlock()
}

// key is the lock's; its fence's has the same hash tag.
func (l *Locker) key(name string) string { return redisx.Key(l.prefix, name) }

// Try takes the lock named name for ttl (at least 30 ms), to be renewed until
// it is released or ctx ends. It fails with [ErrHeld] or [ErrUnavailable], or
// with ctx's error, in which case the lock is not held.
func (l *Locker) Try(ctx context.Context, name string, ttl time.Duration) (*Guard, error) {
	g, _, err := l.try(ctx, name, ttl)
	return g, err
}

// try also returns how long the present holder's lease has to run.
func (l *Locker) try(ctx context.Context, name string, ttl time.Duration) (*Guard, time.Duration, error) {
	if ttl < minTTL {
		return nil, 0, fmt.Errorf("lock: a ttl of %s is under %s", ttl, minTTL)
	}
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	budget, cancel := redisx.Within(ctx, l.o.Budget)
	defer cancel()
	key, token := l.key(name), rand.Text()
	start := time.Now()
	a, err := l.acquire(budget, name, key, token, ttl, false)
	if err != nil && budget.Err() == nil {
		// The answer may have been lost after the lock was taken: the same
		// token finds out, and gets the same fence. The lease counts from the
		// first time.
		a, err = l.acquire(budget, name, key, token, ttl, true)
	}
	if err != nil {
		l.abandon(ctx, key, token)
		return nil, 0, redisx.Unavailable(err)
	}
	if !a.taken {
		return nil, a.remaining, fmt.Errorf("%w: %s", ErrHeld, name)
	}
	if ctx.Err() != nil {
		l.abandon(ctx, key, token)
		return nil, 0, ctx.Err()
	}
	return l.guard(ctx, name, key, token, a.fence, ttl, start), 0, nil
}

// abandon gives back a lock that may have been taken, without making the
// caller wait.
func (l *Locker) abandon(ctx context.Context, key, token string) {
	l.pending.RLock()
	go func() {
		defer l.pending.RUnlock()
		_, _ = l.giveBack(ctx, key, token)
	}()
}

// giveBack releases a lease if it is the token's and reports whether it was.
// The caller's end doesn't stop it, and it has more patience than other
// operations: what it leaves undone, others wait for.
func (l *Locker) giveBack(ctx context.Context, key, token string) (bool, error) {
	ctx, cancel := redisx.Within(ctx, 2*l.o.Budget)
	defer cancel()
	args := []any{token}
	if l.o.Subscriber != nil {
		args = append(args, l.waiters.channel)
	}
	return l.release.Run(ctx, l.client, []string{key}, args...).Bool()
}

// Acquire takes the lock like [Locker.Try] and waits while it is held, until
// ctx ends. It is woken by the release. The waiters of one process that wait
// for one name are served in order.
func (l *Locker) Acquire(ctx context.Context, name string, ttl time.Duration) (*Guard, error) {
	begin := time.Now()
	defer func() { l.wait.Record(ctx, time.Since(begin).Seconds()) }()
	g, _, err := l.try(ctx, name, ttl)
	if !errors.Is(err, ErrHeld) {
		return g, err
	}
	_, span := otel.Tracer(scope).Start(ctx, "lock wait")
	defer span.End()
	return l.waitFor(ctx, name, ttl)
}

// Do runs fn while holding the lock and releases it. fn's context is the
// guard's. Its error is fn's, or why the lock was not had, or [ErrLost] when fn
// succeeded but the lease ended under it.
func (l *Locker) Do(ctx context.Context, name string, ttl time.Duration,
	fn func(context.Context, *Guard) error) (err error) {
	g, err := l.Acquire(ctx, name, ttl)
	if err != nil {
		return err
	}
	defer func() {
		ended := g.Context().Err() != nil && errors.Is(context.Cause(g.Context()), ErrLost) //nolint:contextcheck // the guard's context is ctx's child
		// A release that got no answer leaves the lease to its expiry.
		if lost := errors.Is(g.Release(), ErrLost); (lost || ended) && err == nil { //nolint:contextcheck // a release outlives the caller's context
			err = ErrLost
		}
	}()
	return fn(g.Context(), g) //nolint:contextcheck // the guard's context is ctx's child
}
