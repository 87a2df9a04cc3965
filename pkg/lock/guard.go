package lock

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
)

// Guard is a held lock. Release it when done. It is safe for concurrent use.
type Guard struct {
	locker *Locker
	name   string
	key    string
	token  string
	fence  int64
	ttl    time.Duration

	ctx    context.Context //nolint:containedctx // ends with the lease; see Context
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	until    time.Time   // when the lease counts as lost
	renewal  *time.Timer // of the next renewal
	expiry   *time.Timer // ends ctx at until; nil before the first renewal
	renewing sync.WaitGroup

	release sync.Once
	err     error // of the release
}

// errReleased is the cause of a guard's context after Release.
var errReleased = errors.New("lock: released")

// newGuard makes the guard of a lease that was requested at start.
func (l *Locker) newGuard(ctx context.Context, name, key, token string, fence int64, ttl time.Duration,
	start time.Time) *Guard {
	g := &Guard{locker: l, name: name, key: key, token: token, fence: fence, ttl: ttl,
		until: start.Add(ttl - ttl/l.margin)}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	g.mu.Lock() // the timer may be due
	defer g.mu.Unlock()
	g.renewal = time.AfterFunc(g.untilRenewal(start), g.renew)
	return g
}

// untilRenewal returns the time to the next renewal: a third of the lease after
// start, or a little less.
func (g *Guard) untilRenewal(start time.Time) time.Duration {
	return time.Until(start.Add(g.ttl/3 - rand.N(g.ttl/30)))
}

// Context returns a context that ends with cause [ErrLost] a tenth of the lease
// before the lease can expire on the server, by this process's monotonic clock. It
// also ends with the context that the lock was acquired under, after which the lease
// is no longer renewed. Err reads the clock, so that it reports the loss also when a
// busy or paused process runs its timers late; Done can't.
func (g *Guard) Context() context.Context { return leaseContext{g.ctx, g} }

// leaseContext is a guard's context whose Err doesn't depend on a timer.
type leaseContext struct {
	context.Context //nolint:containedctx // it is one

	guard *Guard
}

func (c leaseContext) Err() error {
	if c.Context.Err() == nil {
		c.guard.expire()
	}
	return c.Context.Err()
}

// Fence is greater than the fence of every earlier lease of this name, and 0
// when the Locker is unfenced.
func (g *Guard) Fence() int64 { return g.fence }

// expire ends the context when the lease has expired. A renewal may have moved the
// expiry since the timer that calls it was set.
func (g *Guard) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !time.Now().Before(g.until) {
		g.endAsLost()
	}
}

// endAsLost ends the context with ErrLost. The caller holds g.mu.
func (g *Guard) endAsLost() {
	if g.ctx.Err() != nil {
		return
	}
	g.cancel(ErrLost)
	ctx := context.WithoutCancel(g.ctx)
	g.locker.lost.Add(ctx, 1)
	g.locker.o.Log.WarnContext(ctx, "lock lost", "lock", g.name, "fence", g.fence)
}

// renew renews the lease and sets the timer of the next renewal. Without an answer
// it retries after a twentieth of the lease, until the lease expires.
func (g *Guard) renew() {
	start := time.Now()
	ctx, done := g.beginRenewal()
	if ctx == nil {
		return
	}
	defer done()
	renewed, err := renewScript.Run(ctx, g.locker.client, []string{g.key}, g.token, g.ttl.Milliseconds()).Bool()
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.ctx.Err() != nil:
	case err == nil && !renewed:
		g.endAsLost()
	case err != nil:
		g.renewal.Reset(g.ttl / 20)
	default:
		g.until = start.Add(g.ttl - g.ttl/g.locker.margin)
		g.expiry.Reset(time.Until(g.until))
		g.renewal.Reset(g.untilRenewal(start))
	}
}

// beginRenewal adds a renewal to g.renewing and returns its context; nil if the guard's has ended.
func (g *Guard) beginRenewal() (ctx context.Context, done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil {
		return nil, nil
	}
	if g.expiry == nil {
		g.expiry = time.AfterFunc(time.Until(g.until), g.expire)
	}
	g.renewing.Add(1)
	ctx, cancel := redisx.WithBudget(g.ctx, g.locker.o.Budget)
	return ctx, func() {
		cancel()
		g.renewing.Done()
	}
}

// Release releases the lock within twice the budget, 100 ms, also when the guard's
// context has ended. It returns [ErrLost] when the lease was no longer this guard's;
// a later holder keeps its lease. It returns [ErrUnavailable] when Redis gave no
// answer; the lease then expires. Later calls return the first one's error.
func (g *Guard) Release() error {
	g.release.Do(func() {
		g.mu.Lock()
		g.cancel(errReleased)
		g.renewal.Stop()
		if g.expiry != nil {
			g.expiry.Stop()
		}
		g.mu.Unlock()
		// A running renewal can't prevent the release, so it is waited for after.
		defer g.renewing.Wait()
		released, err := g.locker.releaseLease(g.ctx, g.key, g.token)
		switch {
		case err != nil:
			g.err = redisx.Unavailable(err)
		case !released:
			g.err = ErrLost
		}
	})
	return g.err
}
