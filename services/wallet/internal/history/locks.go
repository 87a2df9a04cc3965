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

// ErrLocked is returned when another process holds the lock.
var ErrLocked = errors.New("history: the lock is held by another process")

// SharedLocker has locks that all replicas share.
type SharedLocker interface {
	// Lock acquires the lock with this name, which is held until unlock is called.
	// The error is ErrLocked, or another one when it is unknown whether the lock is
	// held, for example without Redis.
	Lock(ctx context.Context, name string) (unlock func(), err error)
}

// ownerLimiter limits the reading of histories: to one call at a time per owner,
// and to maxConcurrentOwners calls in this process. It is safe for concurrent use.
type ownerLimiter struct {
	shared SharedLocker
	log    *slog.Logger
	slots  chan struct{}

	mu     sync.Mutex
	locked map[uuid.UUID]holder
}

// holder is a call that holds an owner's lock in this process.
type holder struct {
	gone     <-chan struct{} // closed when its caller has gone
	released chan struct{}   // closed when the lock is released
}

func newOwnerLimiter(shared SharedLocker, log *slog.Logger) *ownerLimiter {
	return &ownerLimiter{shared: shared, log: log, slots: make(chan struct{}, maxConcurrentOwners),
		locked: map[uuid.UUID]holder{}}
}

// lockOf returns the owner's lock for the call of this context; it is not acquired
// yet.
func (l *ownerLimiter) lockOf(call context.Context, owner uuid.UUID) *ownerLock {
	return &ownerLock{limiter: l, owner: owner, gone: call.Done()}
}

// ownerLock is an owner's lock as one call uses it. It is safe for concurrent use.
type ownerLock struct {
	limiter *ownerLimiter
	owner   uuid.UUID
	gone    <-chan struct{} // closed when the caller has gone

	mu     sync.Mutex
	unlock func() // nil until the lock is held
}

// acquire acquires the lock, unless this call holds it already. It waits for a call
// of this process whose caller has gone, which only stores what it has read: whoever
// calls again after a lost connection is not refused for that. The error is
// errs.Exhausted (HISTORY_READ_UNDER_WAY): another call holds it, or the histories
// of maxConcurrentOwners other owners were being read until ctx ended.
func (l *ownerLock) acquire(ctx context.Context) (err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unlock == nil {
		l.unlock, err = l.limiter.lock(ctx, l.owner, l.gone)
	}
	return err
}

// release releases the lock if it is held. Nothing may acquire it afterwards.
func (l *ownerLock) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unlock != nil {
		l.unlock()
	}
}

func (l *ownerLimiter) lock(ctx context.Context, owner uuid.UUID, gone <-chan struct{}) (unlock func(), err error) {
	if !l.lockLocal(ctx, owner, gone) {
		return nil, underWay("another call reads this history")
	}
	if !l.takeSlot(ctx) {
		l.unlockLocal(owner)
		return nil, underWay("too many histories are being read")
	}
	unlockLocal := func() {
		<-l.slots
		l.unlockLocal(owner)
	}
	// ctx may end before unlock; the lease must not. (If it does, work is only
	// repeated.)
	unlockShared, err := l.shared.Lock(context.WithoutCancel(ctx), "history:"+owner.String())
	switch {
	case errors.Is(err, ErrLocked):
		unlockLocal()
		return nil, underWay("another call reads this history")
	case err != nil:
		l.log.DebugContext(ctx, "history is read without a lock", "error", err)
		return unlockLocal, nil
	}
	return func() {
		unlockShared()
		unlockLocal()
	}, nil
}

func underWay(text string) error {
	return errs.Exhausted("HISTORY_READ_UNDER_WAY", text).After(time.Second)
}

// takeSlot returns false if there was none until ctx ended.
func (l *ownerLimiter) takeSlot(ctx context.Context) bool {
	select {
	case l.slots <- struct{}{}: // also when ctx has ended
		return true
	default:
	}
	select {
	case l.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// lockLocal acquires the lock within this process. It returns false if another call
// holds it whose caller waits, or that has not released it when ctx ends.
func (l *ownerLimiter) lockLocal(ctx context.Context, owner uuid.UUID, gone <-chan struct{}) bool {
	for {
		l.mu.Lock()
		other, held := l.locked[owner]
		if !held {
			l.locked[owner] = holder{gone: gone, released: make(chan struct{})}
			l.mu.Unlock()
			return true
		}
		l.mu.Unlock()
		select {
		case <-other.gone:
		default:
			return false
		}
		select {
		case <-other.released:
		case <-ctx.Done():
			return false
		}
	}
}

func (l *ownerLimiter) unlockLocal(owner uuid.UUID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.locked[owner].released)
	delete(l.locked, owner)
}
