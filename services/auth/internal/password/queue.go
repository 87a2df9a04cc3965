package password

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

const (
	// maxWait is how long a call waits for its slots.
	maxWait = 5 * time.Second
	// maxWaitingPerSlot bounds the queue: about as many as a slot serves in maxWait.
	maxWaitingPerSlot = 100
)

// queue shares slots fairly between sources, such as client addresses: a free slot goes to each source in turn,
// however many calls of one source wait. When the queue is full, the source with the most waiting calls loses its
// newest one. So whoever floods the queue waits behind themselves, and the others get their turn.
type queue struct {
	mu      sync.Mutex
	size    int64 // slots in all
	free    int64
	waiting int
	calls   map[string][]*waiter // by source, the oldest first; never empty
	order   []string             // the sources in calls; the first is next
}

// waiter is a call that waits. ready is closed when it has its slots or was dropped.
type waiter struct {
	slots   int64
	ready   chan struct{}
	dropped bool
}

func newQueue(size int64) *queue {
	return &queue{size: size, free: size, calls: map[string][]*waiter{}}
}

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
	case q.remove(source, w), w.dropped: // it still waited
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
	if len(q.calls[source]) == 0 {
		q.order = append(q.order, source)
	}
	q.calls[source] = append(q.calls[source], w)
	if q.waiting++; q.waiting <= maxWaitingPerSlot*int(q.size) {
		return
	}
	busiest := source
	for _, s := range q.order {
		if len(q.calls[s]) > len(q.calls[busiest]) {
			busiest = s
		}
	}
	last := q.calls[busiest][len(q.calls[busiest])-1]
	last.dropped = true
	q.remove(busiest, last)
	close(last.ready)
}

// remove takes a call out of the queue; false when it isn't in it.
func (q *queue) remove(source string, w *waiter) bool {
	i := slices.Index(q.calls[source], w)
	if i < 0 {
		return false
	}
	q.waiting--
	if q.calls[source] = slices.Delete(q.calls[source], i, i+1); len(q.calls[source]) == 0 {
		delete(q.calls, source)
		q.order = slices.DeleteFunc(q.order, func(s string) bool { return s == source })
	}
	return true
}

// grant gives free slots to the sources in turn. The next call waits until there are enough, so that one that needs
// many is not passed by others for ever.
func (q *queue) grant() {
	for len(q.order) > 0 {
		source := q.order[0]
		w := q.calls[source][0]
		if w.slots > q.free {
			return
		}
		q.free -= w.slots
		q.remove(source, w)
		if len(q.calls[source]) > 0 { // to the end of the line
			q.order = append(q.order[1:], source)
		}
		close(w.ready)
	}
}
