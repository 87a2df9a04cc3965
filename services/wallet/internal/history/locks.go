package history

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
)

// maxConcurrentOwners is how many owners' histories one process reads
// concurrently.
const maxConcurrentOwners = 4

// ErrLocked says that another process holds a lock.
var ErrLocked = errors.New("history: the lock is held by another process")

// Locks are locks that all replicas share.
type Locks interface {
	// Lock takes the lock of a name, which is held until unlock is called. The
	// error is ErrLocked, or another one when the lock's state is not known, as
	// without Redis.
	Lock(ctx context.Context, name string) (unlock func(), err error)
}

// ownerLocks let one call at a time read an owner's history, and
// maxConcurrentOwners calls in this process. It is safe for concurrent use.
type ownerLocks struct {
	shared Locks
	log    *slog.Logger
	slots  chan struct{}

	mu     sync.Mutex
	locked map[uuid.UUID]bool
}

func newOwnerLocks(shared Locks, log *slog.Logger) *ownerLocks {
	return &ownerLocks{shared: shared, log: log, slots: make(chan struct{}, maxConcurrentOwners),
		locked: map[uuid.UUID]bool{}}
}

// of returns the owner's lock for one call, not yet taken.
func (l *ownerLocks) of(owner uuid.UUID) *ownerLock { return &ownerLock{locks: l, owner: owner} }

// ownerLock is an owner's lock as one call uses it. It is not safe for concurrent
// use.
type ownerLock struct {
	locks  *ownerLocks
	owner  uuid.UUID
	unlock func() // nil until the lock is held
}

// acquire takes the lock, unless this call holds it already. The error is
// errs.Exhausted (HISTORY_READ_UNDER_WAY): another call holds it, or too many
// other owners' histories are being read until ctx ends.
func (l *ownerLock) acquire(ctx context.Context) (err error) {
	if l.unlock == nil {
		l.unlock, err = l.locks.lock(ctx, l.owner)
	}
	return err
}

// release gives the lock back if it is held.
func (l *ownerLock) release() {
	if l.unlock != nil {
		l.unlock()
	}
}

func (l *ownerLocks) lock(ctx context.Context, owner uuid.UUID) (unlock func(), err error) {
	if !l.lockHere(owner) {
		return nil, underWay("another call reads this history")
	}
	select {
	case l.slots <- struct{}{}:
	case <-ctx.Done():
		l.unlockHere(owner)
		return nil, underWay("too many histories are being read")
	}
	unlockHere := func() {
		<-l.slots
		l.unlockHere(owner)
	}
	// Not with ctx: the lease must last until unlock, though a lease that ends
	// early only leads to work that is done twice.
	unlockShared, err := l.shared.Lock(context.WithoutCancel(ctx), "history:"+owner.String())
	switch {
	case errors.Is(err, ErrLocked):
		unlockHere()
		return nil, underWay("another call reads this history")
	case err != nil:
		l.log.DebugContext(ctx, "history is read without a lock", "error", err)
		return unlockHere, nil
	}
	return func() {
		unlockShared()
		unlockHere()
	}, nil
}

func underWay(text string) error {
	return errs.Exhausted("HISTORY_READ_UNDER_WAY", text).After(time.Second)
}

// lockHere takes the lock in this process; false if another call holds it.
func (l *ownerLocks) lockHere(owner uuid.UUID) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.locked[owner] {
		return false
	}
	l.locked[owner] = true
	return true
}

func (l *ownerLocks) unlockHere(owner uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.locked, owner)
}
