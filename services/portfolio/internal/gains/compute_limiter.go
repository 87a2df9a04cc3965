package gains

import (
	"context"
	"sync"

	"github.com/google/uuid"
)

// maxComputing is how many owners' lots a replica computes at once. Those of 100,000 transactions take some hundred
// megabytes meanwhile.
const maxComputing = 2

// computeLimiter bounds what is computed at once: one call of an owner, and maxComputing in all. The others wait.
type computeLimiter struct {
	all    chan struct{}
	mu     sync.Mutex
	owners map[uuid.UUID]*ownerSlot
}

// ownerSlot is that of an owner, with how many hold it or wait for it.
type ownerSlot struct {
	taken chan struct{}
	calls int
}

func newComputeLimiter() *computeLimiter {
	return &computeLimiter{all: make(chan struct{}, maxComputing), owners: map[uuid.UUID]*ownerSlot{}}
}

// take waits for the slot of an owner and for one of all, and returns what releases both. The error is that of ctx.
func (l *computeLimiter) take(ctx context.Context, owner uuid.UUID) (end func(), err error) {
	own := l.join(owner)
	select {
	case own.taken <- struct{}{}:
	case <-ctx.Done():
		l.leave(owner, own)
		return nil, ctx.Err()
	}
	select {
	case l.all <- struct{}{}:
		return func() { <-l.all; <-own.taken; l.leave(owner, own) }, nil
	case <-ctx.Done():
		<-own.taken
		l.leave(owner, own)
		return nil, ctx.Err()
	}
}

func (l *computeLimiter) join(owner uuid.UUID) *ownerSlot {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.owners[owner]
	if own == nil {
		own = &ownerSlot{taken: make(chan struct{}, 1)}
		l.owners[owner] = own
	}
	own.calls++
	return own
}

func (l *computeLimiter) leave(owner uuid.UUID, own *ownerSlot) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if own.calls--; own.calls == 0 {
		delete(l.owners, owner)
	}
}
