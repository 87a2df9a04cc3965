package lock

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
)

// Guard is a lock that is held. Release it when done. Its methods may be
// called from several goroutines.
type Guard struct {
	locker *Locker
	name   string
	key    string
	token  string
	fence  int64
	ttl    time.Duration

	ctx    context.Context //nolint:containedctx // its end is what a guard tells
	cancel context.CancelCauseFunc

	mu       sync.Mutex
	until    time.Time   // when the lease must be taken for lost
	renewal  *time.Timer // of the next attempt; one of short use needs no other
	expiry   *time.Timer // ends ctx at until, from the first renewal on
	renewing sync.WaitGroup

	release sync.Once
	err     error // of the release
}

// errReleased is the cause of a guard's context after Release.
var errReleased = errors.New("lock: released")

// guard keeps a lease that was asked for at start.
func (l *Locker) guard(ctx context.Context, name, key, token string, fence int64, ttl time.Duration,
	start time.Time) *Guard {
	g := &Guard{locker: l, name: name, key: key, token: token, fence: fence, ttl: ttl,
		until: start.Add(ttl - ttl/l.margin)}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	g.mu.Lock() // the timer may be due
	defer g.mu.Unlock()
	g.renewal = time.AfterFunc(g.untilRenewal(start), g.renew)
	return g
}

// untilRenewal is a third of the lease or a little less after start.
func (g *Guard) untilRenewal(start time.Time) time.Duration {
	return time.Until(start.Add(g.ttl/3 - rand.N(g.ttl/30)))
}

// Context ends with cause [ErrLost] a tenth of the lease before it can expire
// on the server, by this process's monotonic clock, and with the context that
// the lock was taken under. When that one ends the lease is no longer renewed.
// Its Err asks the clock and so tells the loss also where a busy or paused
// process runs its timers late; Done can't.
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

// Name is what the lock was taken by.
func (g *Guard) Name() string { return g.name }

// expire ends the context when the lease has run out. The timer that calls it
// may be overtaken by a renewal.
func (g *Guard) expire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !time.Now().Before(g.until) {
		g.lose()
	}
}

// lose ends the context, with g.mu held.
func (g *Guard) lose() {
	if g.ctx.Err() != nil {
		return
	}
	g.cancel(ErrLost)
	ctx := context.WithoutCancel(g.ctx)
	g.locker.lost.Add(ctx, 1)
	g.locker.o.Log.WarnContext(ctx, "lock lost", "lock", g.name, "fence", g.fence)
}

// renew keeps the lease and arranges the next renewal. Without an answer it
// tries again soon, until the expiry ends it.
func (g *Guard) renew() {
	if !g.begin() {
		return
	}
	defer g.renewing.Done()
	start := time.Now()
	ctx, cancel := redisx.Within(g.ctx, g.locker.o.Budget)
	defer cancel()
	kept, err := renewScript.Run(ctx, g.locker.client, []string{g.key}, g.token, g.ttl.Milliseconds()).Bool()
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.ctx.Err() != nil:
	case err == nil && !kept:
		g.lose()
	case err != nil:
		g.renewal.Reset(g.ttl / 20)
	default:
		g.until = start.Add(g.ttl - g.ttl/g.locker.margin)
		g.expiry.Reset(time.Until(g.until))
		g.renewal.Reset(g.untilRenewal(start))
	}
}

// begin counts a renewal in, unless the guard has ended.
func (g *Guard) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ctx.Err() != nil {
		return false
	}
	if g.expiry == nil {
		g.expiry = time.AfterFunc(time.Until(g.until), g.expire)
	}
	g.renewing.Add(1)
	return true
}

// Release gives the lock up within twice the budget, 100 ms, also when the
// guard's context has ended. It returns [ErrLost] when the lease was no longer
// this guard's, which leaves a later holder's alone, and [ErrUnavailable] when
// Redis gave no answer; the lease then ends by its expiry. Later calls return
// the same.
func (g *Guard) Release() error {
	g.release.Do(func() {
		g.mu.Lock()
		g.cancel(errReleased)
		g.renewal.Stop()
		if g.expiry != nil {
			g.expiry.Stop()
		}
		g.mu.Unlock()
		// A renewal under way finds the lease there or gone, and in neither
		// case keeps it from being released: not worth waiting for first.
		defer g.renewing.Wait()
		released, err := g.locker.giveBack(g.ctx, g.key, g.token)
		switch {
		case err != nil:
			g.err = redisx.Unavailable(err)
		case !released:
			g.err = ErrLost
		}
	})
	return g.err
}
