package password

import (
	"context"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/fairqueue"
)

const (
	// maxWait is how long a call waits for its slots.
	maxWait = 5 * time.Second
	// maxWaitingPerSlot bounds the queue: about as many as a slot serves in maxWait.
	maxWaitingPerSlot = 100
	// failureTTL is for how long others come before a source that has sent a wrong password.
	failureTTL = time.Minute
	// sharedTurns is which part of the turns such sources get while others wait: every fourth.
	sharedTurns = 4
	// maxSources is of how many sources failures are known: those that failed last.
	maxSources = 10_000
)

// queue shares slots fairly between sources, such as client addresses, which take turns (package fairqueue). When it
// is full, the source with the most waiting calls loses its newest one. So whoever floods the queue waits behind
// themselves, and the others get their turn. Sources that have sent a wrong password come after those that have not,
// and so a flood from many sources does not make everybody else wait.
type queue struct {
	mu       sync.Mutex
	size     int64 // slots in all
	free     int64
	first    fairqueue.Queue[*waiter]
	failing  fairqueue.Queue[*waiter] // of the sources that have failed
	grants   int
	failedAt *lru.Cache[string, time.Time] // by source
}

// waiter is a call that waits. ready is closed when it has its slots or was dropped.
type waiter struct {
	slots   int64
	ready   chan struct{}
	dropped bool
}

func newQueue(size int64) *queue {
	failedAt, _ := lru.New[string, time.Time](maxSources) // fails for a size below 1 only
	return &queue{size: size, free: size, failedAt: failedAt}
}

// failed notes a wrong password of a source.
func (q *queue) failed(source string) { q.failedAt.Add(source, time.Now()) }

// line is the one in which a source waits now.
func (q *queue) line(source string) *fairqueue.Queue[*waiter] {
	if at, failed := q.failedAt.Peek(source); failed && time.Since(at) < failureTTL {
		return &q.failing
	}
	return &q.first
}

// acquire waits for so many slots, or for all when there are fewer, and returns a function that gives them back.
// errs.Exhausted (PASSWORD_HASHING_BUSY) after maxWait or when the queue is full; ctx's error when it ends.
func (q *queue) acquire(ctx context.Context, source string, slots int64) (release func(), err error) {
	slots = min(slots, q.size)
	w := &waiter{slots: slots, ready: make(chan struct{})}
	q.mu.Lock()
	line := q.line(source)
	q.push(line, source, w)
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
	case line.Remove(source, w), w.dropped: // it still waited
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

// push adds a call of a source. In a full queue one of the source with the most calls is dropped, which may be this;
// of those that fail first.
func (q *queue) push(line *fairqueue.Queue[*waiter], source string, w *waiter) {
	line.Push(source, w)
	if q.first.Len()+q.failing.Len() <= maxWaitingPerSlot*int(q.size) {
		return
	}
	from := &q.failing
	if from.Len() == 0 {
		from = &q.first
	}
	last := from.DropNewest()
	last.dropped = true
	close(last.ready)
}

// grant gives free slots to the sources in turn. The next call waits until there are enough, so that one that needs
// many is not passed by others for ever.
func (q *queue) grant() {
	for {
		line := &q.first
		if q.first.Len() == 0 || q.failing.Len() > 0 && q.grants%sharedTurns == sharedTurns-1 {
			line = &q.failing
		}
		w, ok := line.Next()
		if !ok || w.slots > q.free {
			return
		}
		q.grants++
		q.free -= w.slots
		line.Pop()
		close(w.ready)
	}
}
