package store

import (
	"context"
	"errors"
	"time"

	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/services/wallet/internal/history"
)

// historyLease is how long an owner's history stays locked after the death of the
// process that holds the lock.
const historyLease = 10 * time.Second

// Locks implements history.SharedLocker.
type Locks struct{ locker *lock.Locker }

// NewLocks returns locks of l.
func NewLocks(l *lock.Locker) *Locks { return &Locks{locker: l} }

// Lock implements history.SharedLocker.
func (l *Locks) Lock(ctx context.Context, name string) (unlock func(), err error) {
	guard, err := l.locker.Try(ctx, name, historyLease)
	if errors.Is(err, lock.ErrHeld) {
		return nil, history.ErrLocked
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = guard.Release() }, nil // if this fails, the lease expires
}
