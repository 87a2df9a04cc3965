// Package deadline divides the time that a caller's context has left, and pauses
// within it.
//
// A service that calls others keeps part of the caller's time for itself, so
// that it can still answer when a dependency is slow: with what it has, or with
// an error that names the dependency. Share gives the dependency the rest.
//
// All times are those of the context's deadline. A context without one has no
// time limit; every function says what it does then.
package deadline

import (
	"context"
	"math"
	"time"
)

// Unlimited is the limit of a Budget or a Share that only the caller's deadline
// bounds.
const Unlimited time.Duration = math.MaxInt64

// Remaining returns the time until ctx's deadline, below zero once it has
// passed. It returns false when ctx has no deadline.
func Remaining(ctx context.Context) (time.Duration, bool) {
	end, ok := ctx.Deadline()
	if !ok {
		return 0, false
	}
	return time.Until(end), true
}

// Budget returns how long a part of ctx's work may take: this share of the
// remaining time, above 0 and at most 1, and limit at most. Without a deadline
// it is limit. It is below zero when the deadline has passed.
func Budget(ctx context.Context, share float64, limit time.Duration) time.Duration {
	left, ok := Remaining(ctx)
	if !ok {
		return limit
	}
	return min(limit, time.Duration(share*float64(left)))
}

// Share returns a context that is done when ctx is, and at the latest after
// Budget(ctx, share, limit).
func Share(ctx context.Context, share float64, limit time.Duration) (context.Context, context.CancelFunc) {
	budget := Budget(ctx, share, limit)
	if budget == Unlimited {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, budget)
}

// Default returns ctx if it has a deadline, and otherwise one that is done
// after timeout.
func Default(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}

// Grace returns a context of work that is to be finished once it has begun, such as the write of what was read: it has
// all of ctx's time, and grace after ctx has ended or was cancelled. Without that a slow write would lose what was
// read, and with a limit of its own one that is only slow would fail. It keeps ctx's values.
func Grace(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	finishing, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.NewTimer(grace)
		defer timer.Stop()
		select {
		case <-timer.C:
			cancel(context.DeadlineExceeded)
		case <-finishing.Done():
		}
	})
	return finishing, func() {
		stop()
		cancel(context.Canceled)
	}
}

// Pause waits for d, not at all if d is not above 0. It returns the cause of ctx's end
// when ctx ends before.
func Pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
