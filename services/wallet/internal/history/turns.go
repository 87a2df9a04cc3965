package history

import (
	"context"
	"errors"
	"log/slog"
	gosync "sync"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
)

// atOnce is how many histories one process reads at once.
const atOnce = 4

// ErrHeld says that another process holds a lock.
var ErrHeld = errors.New("history: held by another")

// Locks are shared by all replicas.
type Locks interface {
	// Hold takes the lock of a name until release is called. The error is
	// ErrHeld, or another when it can't be told, as when Redis is away.
	Hold(ctx context.Context, name string) (release func(), err error)
}

// turns lets one call at a time read an owner's history, and a few in all.
type turns struct {
	locks Locks
	log   *slog.Logger
	slots chan struct{}

	mu     gosync.Mutex
	owners map[uuid.UUID]bool
}

func newTurns(l Locks, log *slog.Logger) *turns {
	return &turns{locks: l, log: log, slots: make(chan struct{}, atOnce), owners: map[uuid.UUID]bool{}}
}

// take takes the owner's turn until release is called: of this process, and of
// all while Redis answers. The error is errs.Exhausted
// (HISTORY_READ_UNDER_WAY) or ctx's.
func (t *turns) take(ctx context.Context, owner uuid.UUID) (release func(), err error) {
	if !t.claim(owner) {
		return nil, underWay("another call reads this history")
	}
	undo := []func(){func() { t.disclaim(owner) }}
	release = func() {
		for i := len(undo) - 1; i >= 0; i-- {
			undo[i]()
		}
	}
	select {
	case t.slots <- struct{}{}:
		undo = append(undo, func() { <-t.slots })
	case <-ctx.Done():
		release()
		return nil, underWay("too many histories are being read")
	}
	// Detached, for a lease that ends early only lets work be done twice.
	unlock, err := t.locks.Hold(context.WithoutCancel(ctx), "history:"+owner.String())
	switch {
	case errors.Is(err, ErrHeld):
		release()
		return nil, underWay("another call reads this history")
	case err != nil:
		t.log.DebugContext(ctx, "history is read without a lock", "error", err)
	default:
		undo = append(undo, unlock)
	}
	return release, nil
}

func underWay(text string) error {
	return errs.Exhausted("HISTORY_READ_UNDER_WAY", text).After(time.Second)
}

func (t *turns) claim(owner uuid.UUID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owners[owner] {
		return false
	}
	t.owners[owner] = true
	return true
}

func (t *turns) disclaim(owner uuid.UUID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.owners, owner)
}
