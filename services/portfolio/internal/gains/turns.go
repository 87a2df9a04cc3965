package gains

import (
	"context"
	"sync"

	"github.com/google/uuid"
)

// maxComputing is how many owners' lots a replica computes at once. Those of 100,000 transactions take some hundred
// megabytes meanwhile.
const maxComputing = 2

// turns bounds what is computed at once: one call of an owner, and maxComputing in all. The others wait.
type turns struct {
	all    chan struct{}
	mu     sync.Mutex
	owners map[uuid.UUID]*ownTurn
}

// ownTurn is that of an owner, with how many hold it or wait for it.
type ownTurn struct {
	taken chan struct{}
	calls int
}

func newTurns() *turns {
	return &turns{all: make(chan struct{}, maxComputing), owners: map[uuid.UUID]*ownTurn{}}
}

// take waits for a turn of an owner, and returns what ends it. The error is that of ctx.
func (t *turns) take(ctx context.Context, owner uuid.UUID) (end func(), err error) {
	own := t.join(owner)
	select {
	case own.taken <- struct{}{}:
	case <-ctx.Done():
		t.leave(owner, own)
		return nil, ctx.Err()
	}
	select {
	case t.all <- struct{}{}:
		return func() { <-t.all; <-own.taken; t.leave(owner, own) }, nil
	case <-ctx.Done():
		<-own.taken
		t.leave(owner, own)
		return nil, ctx.Err()
	}
}

func (t *turns) join(owner uuid.UUID) *ownTurn {
	t.mu.Lock()
	defer t.mu.Unlock()
	own := t.owners[owner]
	if own == nil {
		own = &ownTurn{taken: make(chan struct{}, 1)}
		t.owners[owner] = own
	}
	own.calls++
	return own
}

func (t *turns) leave(owner uuid.UUID, own *ownTurn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if own.calls--; own.calls == 0 {
		delete(t.owners, owner)
	}
}
