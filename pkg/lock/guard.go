package lock

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
)

// Guard is a lock that is held. Release it when done. Its methods may be
// called from several goroutines.
type Guard struct {
	locker *Locker
	name   string
	token  string
	fence  int64
	ttl    time.Duration

	ctx     context.Context //nolint:containedctx // its end is what a guard tells
	cancel  context.CancelCauseFunc
	expiry  *time.Timer               // ends ctx unless a renewal moves it
	until   atomic.Pointer[time.Time] // when it does
	done    chan struct{}             // closed when the watchdog has ended
	loss    sync.Once
	release sync.Once
	err     error // of the release
}

// errReleased is the cause of a guard's context after Release.
var errReleased = errors.New("lock: released")

func (l *Locker) guard(ctx context.Context, name, token string, fence int64, ttl time.Duration, start time.Time) *Guard {
	g := &Guard{locker: l, name: name, token: token, fence: fence, ttl: ttl, done: make(chan struct{})}
	g.ctx, g.cancel = context.WithCancelCause(ctx)
	end := g.end(start)
	g.until.Store(&end)
	g.expiry = time.AfterFunc(time.Until(end), g.lose)
	go g.watch(start) //nolint:contextcheck // works under the guard's own context, which is ctx's child
	return g
}

// end is when a lease that was asked for at start must be taken for lost: a
// tenth of the ttl before the server can let it expire, counted on this
// process's monotonic clock.
func (g *Guard) end(start time.Time) time.Time { return start.Add(g.ttl - g.ttl/10) }

// Context ends with cause [ErrLost] before the lease can expire on the server,
// and with the context that the lock was taken under. When that one ends the
// lease is no longer renewed. Its Err asks the clock and so tells the loss also
// where a busy or paused process runs its timers late; Done can't.
func (g *Guard) Context() context.Context { return leaseContext{g.ctx, g} }

// leaseContext is a guard's context whose Err doesn't depend on a timer.
type leaseContext struct {
	context.Context //nolint:containedctx // it is one

	guard *Guard
}

func (c leaseContext) Err() error {
	if c.Context.Err() == nil && !time.Now().Before(*c.guard.until.Load()) {
		c.guard.lose()
	}
	return c.Context.Err()
}

// Fence is greater than the fence of every earlier lease of this name.
func (g *Guard) Fence() int64 { return g.fence }

// Name is what the lock was taken by.
func (g *Guard) Name() string { return g.name }

func (g *Guard) lose() {
	g.loss.Do(func() {
		if g.ctx.Err() == nil {
			g.locker.lost.Add(context.WithoutCancel(g.ctx), 1)
		}
		g.cancel(ErrLost)
	})
}

// watch renews the lease at a third of its time or a little earlier. After a
// renewal without an answer it tries again soon, until the expiry ends it.
func (g *Guard) watch(start time.Time) {
	defer close(g.done)
	timer := time.NewTimer(time.Until(g.renewal(start)))
	defer timer.Stop()
	for {
		select {
		case <-g.ctx.Done():
			return
		case <-timer.C:
		}
		begin := time.Now()
		kept, err := g.renew()
		switch {
		case err != nil:
			timer.Reset(g.ttl / 20)
		case !kept:
			g.lose()
			return
		default:
			end := g.end(begin)
			g.until.Store(&end)
			g.expiry.Reset(time.Until(end))
			timer.Reset(time.Until(g.renewal(begin)))
		}
	}
}

func (g *Guard) renewal(start time.Time) time.Time {
	return start.Add(g.ttl/3 - rand.N(g.ttl/30))
}

func (g *Guard) renew() (bool, error) {
	ctx, cancel := redisx.Within(g.ctx, g.locker.o.Budget)
	defer cancel()
	return renewScript.Run(ctx, g.locker.client, g.locker.keys(g.name)[:1], g.token, g.ttl.Milliseconds()).Bool()
}

// Release gives the lock up within twice the budget, 100 ms, also when the
// guard's context has ended. It returns [ErrLost] when the lease was no longer
// this guard's, which leaves a later holder's alone, and [ErrUnavailable] when
// Redis gave no answer; the lease then ends by its expiry. Later calls return
// the same.
func (g *Guard) Release() error {
	g.release.Do(func() {
		g.expiry.Stop()
		g.cancel(errReleased)
		// A renewal under way finds the lease there or gone, and in neither
		// case keeps it from being released: not worth waiting for first.
		defer func() { <-g.done; g.expiry.Stop() }()
		ctx, cancel := g.locker.releasing(g.ctx)
		defer cancel()
		l := g.locker
		released, err := l.release.Run(ctx, l.client, l.keys(g.name)[:1], g.token, l.channel(g.name)).Bool()
		switch {
		case err != nil:
			g.err = redisx.Unavailable(err)
		case !released:
			g.err = ErrLost
		}
	})
	return g.err
}
