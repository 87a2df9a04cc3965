package password

import (
	"context"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/turns"
)

const (
	// maxWait is how long a call waits for its slots.
	maxWait = 5 * time.Second
	// maxWaitingPerSlot bounds the queue: about as many as a slot serves in maxWait.
	maxWaitingPerSlot = 100
)

// queue shares slots fairly between sources, such as client addresses, which take turns (package turns). When it is
// full, the source with the most waiting calls loses its newest one. So whoever floods the queue waits behind
// themselves, and the others get their turn.
type queue struct {
	mu    sync.Mutex
	size  int64 // slots in all
	free  int64
	calls turns.Queue[*waiter]
}

// waiter is a call that waits. ready is closed when it has its slots or was dropped.
type waiter struct {
	slots   int64
	ready   chan struct{}
	dropped bool
}

func newQueue(size int64) *queue { return &queue{size: size, free: size} }

// acquire waits for so many slots, or for all when there are fewer, and returns a function that gives them back.
// errs.Exhausted (PASSWORD_HASHING_BUSY) after maxWait or when the queue is full; ctx's error when it ends.
func (q *queue) acquire(ctx context.Context, source string, slots int64) (release func(), err error) {
	slots = min(slots, q.size)
	w := &waiter{slots: slots, ready: make(chan struct{})}
	q.mu.Lock()
	q.push(source, w)
	q.grant()
	q.mu.Unlock()
	deadline := time.NewTimer(maxWait)
	defer deadline.Stop()
	select {
	case <-w.ready:
	case <-deadline.C:
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.calls.Remove(source, w), w.dropped: // it still waited
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		return nil, errs.Exhausted("PASSWORD_HASHING_BUSY", "too many sign-ins at once").After(time.Second)
	default:
		return func() { q.release(slots) }, nil
	}
}

func (q *queue) release(slots int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.free += slots
	q.grant()
}

// push adds a call of a source. In a full queue one of the source with the most calls is dropped, which may be this.
func (q *queue) push(source string, w *waiter) {
	q.calls.Push(source, w)
	if q.calls.Len() <= maxWaitingPerSlot*int(q.size) {
		return
	}
	last := q.calls.DropNewest()
	last.dropped = true
	close(last.ready)
}

// grant gives free slots to the sources in turn. The next call waits until there are enough, so that one that needs
// many is not passed by others for ever.
func (q *queue) grant() {
	for {
		w, ok := q.calls.Next()
		if !ok || w.slots > q.free {
			return
		}
		q.free -= w.slots
		q.calls.Pop()
		close(w.ready)
	}
}
