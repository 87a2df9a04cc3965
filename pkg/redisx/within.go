package redisx

import (
	"context"
	"sync"
	"time"
)

// Bounded is the context for one operation on Redis that takes one step: it is
// [Within] the whole [Budget].
func Bounded(ctx context.Context) (context.Context, context.CancelFunc) { return Within(ctx, Budget) }

// Within is the context for a step on Redis that may take d. It keeps ctx's
// values but neither its cancellation nor its deadline, so that running out of
// it is always Redis's doing and counts as a failure, and a write is not
// abandoned half-way. Check ctx before and after.
//
// It costs no timer until somebody waits for it to be done: starting one wakes
// another thread, which takes a fifth of the time of a command.
func Within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	return &within{values: ctx, end: time.Now().Add(d)}, func() {}
}

type within struct {
	values context.Context //nolint:containedctx // it is a context
	end    time.Time
	asked  sync.Once
	done   chan struct{}
}

// ours is the key under which a context finds the within that it comes from.
type ours struct{}

func (w *within) Deadline() (time.Time, bool) { return w.end, true }

func (w *within) Value(key any) any {
	if key == (ours{}) {
		return w
	}
	return w.values.Value(key)
}

func (w *within) Err() error {
	if time.Now().Before(w.end) {
		return nil
	}
	return context.DeadlineExceeded
}

func (w *within) Done() <-chan struct{} {
	w.asked.Do(func() {
		w.done = make(chan struct{})
		time.AfterFunc(time.Until(w.end), func() { close(w.done) })
	})
	return w.done
}

// bell ends the contexts of a node's commands: those that end within the same two
// milliseconds together, so that a busy client needs no timer for each.
type bell struct {
	began time.Time // which has a monotonic reading, as timers do
	mu    sync.Mutex
	rings map[time.Duration]chan struct{} // by the time since began
}

const stroke = 2 * time.Millisecond

// after returns a channel that is closed at end or up to a stroke later.
func (b *bell) after(end time.Time) <-chan struct{} {
	at := end.Sub(b.began).Truncate(stroke) + stroke
	b.mu.Lock()
	defer b.mu.Unlock()
	done := b.rings[at]
	if done == nil {
		done = make(chan struct{})
		if b.rings == nil {
			b.rings = map[time.Duration]chan struct{}{}
		}
		b.rings[at] = done
		time.AfterFunc(time.Until(b.began.Add(at)), func() { b.ring(at, done) })
	}
	return done
}

func (b *bell) ring(at time.Duration, done chan struct{}) {
	b.mu.Lock()
	delete(b.rings, at)
	b.mu.Unlock()
	close(done)
}

// permit is the context of a command that the breaker has let through, for the
// handshake within.
type permit struct {
	context.Context //nolint:containedctx // it is one

	done <-chan struct{}
}

// admitted is the key by which the handshake finds the permit.
type admitted struct{}

func (b *bell) permit(ctx context.Context) *permit {
	if w, ok := ctx.Value(ours{}).(*within); ok {
		if end, _ := ctx.Deadline(); end.Equal(w.end) {
			return &permit{ctx, b.after(end)}
		}
	}
	return &permit{ctx, ctx.Done()}
}

func (p *permit) Done() <-chan struct{} { return p.done }

func (p *permit) Value(key any) any {
	if key == (admitted{}) {
		return true
	}
	return p.Context.Value(key)
}
