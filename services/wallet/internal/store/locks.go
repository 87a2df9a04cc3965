package store

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/services/wallet/internal/history"
)

// historyLease is how long an owner's history stays locked after the death of the
// process that holds the lock.
const historyLease = 10 * time.Second

// errOwnLease is returned for a lock that is held, perhaps by this process's own last
// call, which Redis did not answer when it released the lock.
var errOwnLease = errors.New("the lock may be held by this process's own last call")

// Locks implements history.SharedLocker. A name is not locked twice at a time by one
// process.
type Locks struct {
	locker *lock.Locker

	mu sync.Mutex
	// left has, by name, until when a lease may live that Redis was asked to end
	// without an answer.
	left map[string]time.Time
}

// NewLocks returns locks of l.
func NewLocks(l *lock.Locker) *Locks { return &Locks{locker: l, left: map[string]time.Time{}} }

// Lock implements history.SharedLocker.
func (l *Locks) Lock(ctx context.Context, name string) (unlock func(), err error) {
	guard, err := l.locker.Try(ctx, name, historyLease)
	switch {
	case errors.Is(err, lock.ErrHeld):
		if l.mayBeOwn(name) {
			return nil, errOwnLease
		}
		return nil, history.ErrLocked
	case err != nil:
		l.leave(name)
		return nil, err
	}
	return func() {
		if errors.Is(guard.Release(), lock.ErrUnavailable) {
			l.leave(name) // the lease expires
		}
	}, nil
}

func (l *Locks) mayBeOwn(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.Now().Before(l.left[name])
}

// leave notes that a lease may live for its whole time.
func (l *Locks) leave(name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	for other, until := range l.left {
		if now.After(until) {
			delete(l.left, other)
		}
	}
	l.left[name] = now.Add(historyLease)
}
