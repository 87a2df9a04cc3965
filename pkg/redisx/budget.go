package redisx

import (
	"context"
	"sync"
	"time"
)

// Budget is how long one whole operation of the lock and cache packages may wait
// for Redis, however many steps it takes.
const Budget = 50 * time.Millisecond

// Bounded is [WithBudget] with [Budget], for an operation of one step.
func Bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return WithBudget(ctx, Budget)
}

// WithBudget returns a context for steps on Redis that may take d in all. It has
// ctx's values but neither its cancellation nor its deadline: when it ends, Redis
// was too slow, which the breaker counts as a failure, and a write is not abandoned
// half-way because its caller left. Check ctx before and after.
//
// It starts no timer until somebody asks for Done: starting one wakes another
// thread, which takes a fifth of the time of a command.
func WithBudget(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return &budgetContext{values: ctx, end: time.Now().Add(d)}, func() {}
}

type budgetContext struct {
	values    context.Context //nolint:containedctx // it is a context
	end       time.Time
	startOnce sync.Once
	done      chan struct{}
}

// budgetKey is the key of the budgetContext that a context is derived from.
type budgetKey struct{}

func (c *budgetContext) Deadline() (time.Time, bool) { return c.end, true }

func (c *budgetContext) Value(key any) any {
	if key == (budgetKey{}) {
		return c
	}
	return c.values.Value(key)
}

func (c *budgetContext) Err() error {
	if time.Now().Before(c.end) {
		return nil
	}
	return context.DeadlineExceeded
}

func (c *budgetContext) Done() <-chan struct{} {
	c.startOnce.Do(func() {
		c.done = make(chan struct{})
		time.AfterFunc(time.Until(c.end), func() { close(c.done) })
	})
	return c.done
}

// deadlines closes the Done channels of a node's commands. Those that end within
// the same timerStep share a channel and a timer.
type deadlines struct {
	began    time.Time // with a monotonic reading, as timers have
	mu       sync.Mutex
	channels map[time.Duration]chan struct{} // by the end, as time since began
}

const timerStep = 2 * time.Millisecond

// channel returns a channel that is closed at end or up to timerStep later.
func (d *deadlines) channel(end time.Time) <-chan struct{} {
	at := end.Sub(d.began).Truncate(timerStep) + timerStep
	d.mu.Lock()
	defer d.mu.Unlock()
	done := d.channels[at]
	if done == nil {
		done = make(chan struct{})
		if d.channels == nil {
			d.channels = map[time.Duration]chan struct{}{}
		}
		d.channels[at] = done
		time.AfterFunc(time.Until(d.began.Add(at)), func() { d.expire(at, done) })
	}
	return done
}

func (d *deadlines) expire(at time.Duration, done chan struct{}) {
	d.mu.Lock()
	delete(d.channels, at)
	d.mu.Unlock()
	close(done)
}

// commandContext is the context of a command that the breaker has admitted. The
// handshake of a new connection gets a context derived from it.
type commandContext struct {
	context.Context //nolint:containedctx // it is one

	done <-chan struct{}
}

// admittedKey is set in a commandContext.
type admittedKey struct{}

func (d *deadlines) commandContext(ctx context.Context) *commandContext {
	if c, ok := ctx.Value(budgetKey{}).(*budgetContext); ok {
		if end, _ := ctx.Deadline(); end.Equal(c.end) {
			return &commandContext{ctx, d.channel(end)}
		}
	}
	return &commandContext{ctx, ctx.Done()}
}

func (c *commandContext) Done() <-chan struct{} { return c.done }

func (c *commandContext) Value(key any) any {
	if key == (admittedKey{}) {
		return true
	}
	return c.Context.Value(key)
}
