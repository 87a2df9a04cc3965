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
	minPollInterval = 10 * time.Millisecond // doubled with each poll; with a subscriber, every poll waits the maximum
	maxPollInterval = 250 * time.Millisecond
)

// acquireInOrder waits in the queue of this process. The head of the queue tries to
// acquire the lock whenever it may have become free.
func (l *Locker) acquireInOrder(ctx context.Context, name string, ttl time.Duration) (*Guard, error) {
	key := l.key(name)
	queue, subscribed := l.waiters.join(key)
	defer l.waiters.leave(key, queue)
	select {
	case queue.head <- struct{}{}:
		defer func() { <-queue.head }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// The first attempt comes after the subscription, so that no release between
	// the two is missed. If Redis doesn't confirm it in time, the waiter polls.
	if subscribed != nil {
		if err := await(ctx, subscribed, l.o.Budget); err != nil {
			return nil, err
		}
	}
	for poll := minPollInterval; ; poll = min(2*poll, l.maxPollInterval) {
		g, remaining, err := l.try(ctx, name, ttl)
		if !errors.Is(err, ErrHeld) {
			return g, err
		}
		if err := await(ctx, queue.woken, l.pollTimeout(remaining, poll)); err != nil {
			return nil, err
		}
	}
}

// pollTimeout is how long to wait for a wake-up before the next attempt.
func (l *Locker) pollTimeout(remaining, poll time.Duration) time.Duration {
	if l.o.Subscriber != nil {
		poll = l.maxPollInterval
	}
	if remaining > 0 {
		poll = min(poll, remaining+time.Millisecond)
	}
	return poll + rand.N(poll/4+1)
}

// await waits for a signal, at most for limit. The error is ctx's.
func await(ctx context.Context, signal <-chan struct{}, limit time.Duration) error {
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

// queue is the waiters of this process for one name.
type queue struct {
	head    chan struct{} // full while there is a head; Go serves blocked senders in order
	woken   chan struct{} // receives a value after a release
	waiting int
}

// waiters are the queues of a Locker and their subscription, which is made for the
// first waiter and ends with close.
type waiters struct {
	client  redis.UniversalClient // nil for none
	channel string

	mu         sync.Mutex
	queues     map[string]*queue // by key
	sub        *redis.PubSub
	subscribed chan struct{} // closed when Redis has confirmed sub; nil without one
	work       sync.WaitGroup
}

func (w *waiters) join(key string) (*queue, <-chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.client != nil && w.sub == nil {
		w.sub, w.subscribed = w.client.Subscribe(context.Background()), make(chan struct{})
		sub, subscribed := w.sub, w.subscribed
		w.work.Go(func() { w.listen(sub, subscribed) }) // until close
	}
	q := w.queues[key]
	if q == nil {
		q = &queue{head: make(chan struct{}, 1), woken: make(chan struct{}, 1)}
		if w.queues == nil {
			w.queues = map[string]*queue{}
		}
		w.queues[key] = q
	}
	q.waiting++
	return q, w.subscribed
}

func (w *waiters) leave(key string, q *queue) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if q.waiting--; q.waiting == 0 {
		delete(w.queues, key)
	}
}

// listen wakes the queue of each released lock. Go-redis reconnects by itself; after
// that it wakes all queues, since any release may have been missed.
func (w *waiters) listen(sub *redis.PubSub, subscribed chan struct{}) {
	var once sync.Once
	events := sub.ChannelWithSubscriptions()
	_ = sub.Subscribe(context.Background(), w.channel) // go-redis repeats it on each connection
	for event := range events {
		w.mu.Lock()
		switch event := event.(type) {
		case *redis.Message:
			wakeHead(w.queues[event.Payload])
		case *redis.Subscription:
			once.Do(func() { close(subscribed) })
			for _, q := range w.queues {
				wakeHead(q)
			}
		}
		w.mu.Unlock()
	}
}

func wakeHead(q *queue) {
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
	w.client, w.sub, w.subscribed = nil, nil, nil
	w.mu.Unlock()
	w.work.Wait()
}
