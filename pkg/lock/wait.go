package lock

import (
	"context"
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	pollLeast = 10 * time.Millisecond  // between two asks without a subscriber
	pollMost  = 250 * time.Millisecond // and with one, should a wake-up get lost
)

// waitFor stands in line in this process; the first of the line asks Redis
// whenever the lock may have become free.
func (l *Locker) waitFor(ctx context.Context, name string, ttl time.Duration) (*Guard, error) {
	queue := l.waiters.join(l.channel(name))
	defer l.waiters.leave(l.channel(name), queue)
	select {
	case queue.first <- struct{}{}:
		defer func() { <-queue.first }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// Asked once more after the subscription, so that a release just before it
	// is not missed. Without an answer to it, it goes on by asking.
	if err := pause(ctx, queue.heard, l.o.Budget); err != nil {
		return nil, err
	}
	for poll := pollLeast; ; poll = min(2*poll, l.pollMost) {
		g, remaining, err := l.try(ctx, name, ttl)
		if !errors.Is(err, ErrHeld) {
			return g, err
		}
		if err := pause(ctx, queue.woken, l.patience(remaining, poll)); err != nil {
			return nil, err
		}
	}
}

// patience is how long to wait for a wake-up before asking again.
func (l *Locker) patience(remaining, poll time.Duration) time.Duration {
	if l.o.Subscriber != nil {
		poll = l.pollMost
	}
	if remaining > 0 {
		poll = min(poll, remaining+time.Millisecond)
	}
	return poll + rand.N(poll/4+1)
}

// pause waits for a signal, no longer than limit.
func pause(ctx context.Context, signal <-chan struct{}, limit time.Duration) error {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-signal:
	case <-timer.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// queue is where the waiters of this process for one name stand.
type queue struct {
	first   chan struct{} // taken by who may ask; Go serves those blocked on it in order
	woken   chan struct{} // by a release
	heard   chan struct{} // closed when the subscription is there
	waiting int
	hears   bool
}

// waiters are the queues of a Locker and their one subscription, which is
// opened for the first waiter and stays until close.
type waiters struct {
	client redis.UniversalClient // nil for none

	mu      sync.Mutex
	queues  map[string]*queue // by channel
	changed chan struct{}     // non-nil while the subscription is open
	work    sync.WaitGroup
}

func (w *waiters) join(channel string) *queue {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queues[channel]
	if q == nil {
		q = &queue{first: make(chan struct{}, 1), woken: make(chan struct{}, 1), heard: make(chan struct{})}
		if w.queues == nil {
			w.queues = map[string]*queue{}
		}
		w.queues[channel] = q
		if w.client == nil {
			q.hear()
		}
		w.update()
	}
	q.waiting++
	return q
}

func (w *waiters) leave(channel string, q *queue) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if q.waiting--; q.waiting == 0 {
		delete(w.queues, channel)
		w.update()
	}
}

func (q *queue) hear() {
	if !q.hears {
		q.hears = true
		close(q.heard)
	}
}

// update has the subscription follow the queues. The caller holds mu.
func (w *waiters) update() {
	if w.client == nil {
		return
	}
	if w.changed == nil {
		changed := make(chan struct{}, 1)
		w.changed = changed
		sub := w.client.Subscribe(context.Background())
		w.work.Go(func() { w.follow(sub, changed) })
		w.work.Go(func() { w.listen(sub) })
	}
	select {
	case w.changed <- struct{}{}:
	default:
	}
}

// follow subscribes to what is waited for and to nothing else. What can't be
// sent now, go-redis sends when it has connected again.
func (w *waiters) follow(sub *redis.PubSub, changed <-chan struct{}) {
	defer func() { _ = sub.Close() }()
	have := map[string]bool{}
	for range changed {
		w.mu.Lock()
		var more, less []string
		for channel := range w.queues {
			if !have[channel] {
				more = append(more, channel)
				have[channel] = true
			}
		}
		maps.DeleteFunc(have, func(channel string, _ bool) bool {
			if w.queues[channel] == nil {
				less = append(less, channel)
			}
			return w.queues[channel] == nil
		})
		w.mu.Unlock()
		if len(more) > 0 {
			_ = sub.Subscribe(context.Background(), more...)
		}
		if len(less) > 0 {
			_ = sub.Unsubscribe(context.Background(), less...)
		}
	}
}

// listen passes on what the subscription tells. A subscription that is there
// again may have missed a release.
func (w *waiters) listen(sub *redis.PubSub) {
	for told := range sub.ChannelWithSubscriptions() {
		switch told := told.(type) {
		case *redis.Message:
			w.wake(told.Channel, false)
		case *redis.Subscription:
			w.wake(told.Channel, told.Kind == "subscribe")
		}
	}
}

func (w *waiters) wake(channel string, subscribed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := w.queues[channel]
	if q == nil {
		return
	}
	if subscribed {
		q.hear()
	}
	select {
	case q.woken <- struct{}{}:
	default:
	}
}

func (w *waiters) close() {
	w.mu.Lock()
	if w.changed != nil {
		close(w.changed)
	}
	w.client, w.changed = nil, nil
	w.mu.Unlock()
	w.work.Wait()
}
