package lock

import (
	"context"
	"errors"
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
	key := l.key(name)
	queue, heard := l.waiters.join(key)
	defer l.waiters.leave(key, queue)
	select {
	case queue.first <- struct{}{}:
		defer func() { <-queue.first }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// Asked once more after the subscription, so that a release just before it
	// is not missed. Without an answer to it, it goes on by asking.
	if heard != nil {
		if err := pause(ctx, heard, l.o.Budget); err != nil {
			return nil, err
		}
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
	waiting int
}

// waiters are the queues of a Locker and their one subscription, which begins
// with the first waiter and stays until close.
type waiters struct {
	client  redis.UniversalClient // nil for none
	channel string

	mu     sync.Mutex
	queues map[string]*queue // by key
	sub    *redis.PubSub
	heard  chan struct{} // closed when the subscription is there; nil without one
	work   sync.WaitGroup
}

func (w *waiters) join(key string) (*queue, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.client != nil && w.sub == nil {
		w.sub, w.heard = w.client.Subscribe(context.Background()), make(chan struct{})
		sub, heard := w.sub, w.heard
		w.work.Go(func() { w.listen(sub, heard) }) //nolint:contextcheck // lives as long as the Locker
	}
	q := w.queues[key]
	if q == nil {
		q = &queue{first: make(chan struct{}, 1), woken: make(chan struct{}, 1)}
		if w.queues == nil {
			w.queues = map[string]*queue{}
		}
		w.queues[key] = q
	}
	q.waiting++
	return q, w.heard
}

func (w *waiters) leave(key string, q *queue) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if q.waiting--; q.waiting == 0 {
		delete(w.queues, key)
	}
}

// listen passes on what the subscription tells. go-redis connects again by
// itself; a subscription that is there again may have missed any release.
func (w *waiters) listen(sub *redis.PubSub, heard chan struct{}) {
	var once sync.Once
	told := sub.ChannelWithSubscriptions()
	_ = sub.Subscribe(context.Background(), w.channel) // sent again with each connection
	for event := range told {
		w.mu.Lock()
		switch event := event.(type) {
		case *redis.Message:
			ring(w.queues[event.Payload])
		case *redis.Subscription:
			once.Do(func() { close(heard) })
			for _, q := range w.queues {
				ring(q)
			}
		}
		w.mu.Unlock()
	}
}

func ring(q *queue) {
	if q == nil {
		return
	}
	select {
	case q.woken <- struct{}{}:
	default:
	}
}

func (w *waiters) close() {
	w.mu.Lock()
	if w.sub != nil {
		_ = w.sub.Close()
	}
	w.client, w.sub, w.heard = nil, nil, nil
	w.mu.Unlock()
	w.work.Wait()
}
