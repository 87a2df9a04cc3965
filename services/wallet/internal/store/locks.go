package store

import (
	"context"
	"errors"
	"time"

	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/services/wallet/internal/history"
)

// historyLease is how long a process that died keeps others from an owner's
// history.
const historyLease = 10 * time.Second

// Locks implements history.Locks.
type Locks struct{ locker *lock.Locker }

// NewLocks returns the locks of l.
func NewLocks(l *lock.Locker) *Locks { return &Locks{locker: l} }

// Hold implements history.Locks.
func (l *Locks) Hold(ctx context.Context, name string) (release func(), err error) {
	guard, err := l.locker.Try(ctx, name, historyLease)
	if errors.Is(err, lock.ErrHeld) {
		return nil, history.ErrHeld
	}
	if err != nil {
		return nil, err
	}
	return func() { _ = guard.Release() }, nil // or it ends by itself
}
