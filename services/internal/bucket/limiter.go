package bucket

import (
	"context"
	"time"
)

// Shared counts for all replicas; package redisbucket does. It is safe for concurrent
// use.
type Shared interface {
	// Take charges one call; or, when the bucket is empty, charges nothing and returns
	// how long to wait. An error means that the count is unknown.
	Take(ctx context.Context, b Bucket) (refund func(), wait time.Duration, err error)
}

// Limiter counts in this process first, which protects Redis from floods, and then for
// all replicas. While Redis is unavailable each replica counts alone, so that n of them
// allow up to n times the limit. It is safe for concurrent use.
type Limiter struct {
	local  *Local
	shared Shared
}

// NewLimiter returns a limiter that counts in shared and, by the clock now, in this
// process.
func NewLimiter(shared Shared, now func() time.Time) (*Limiter, error) {
	local, err := NewLocal(now)
	return &Limiter{local, shared}, err
}

// Take charges one call; or, when the bucket is empty, charges nothing and returns how
// long to wait.
func (l *Limiter) Take(ctx context.Context, b Bucket) time.Duration {
	refund, wait := l.local.Take(ctx, b)
	if wait > 0 {
		return wait
	}
	_, wait, err := l.shared.Take(ctx, b)
	if err != nil {
		return 0
	}
	if wait > 0 {
		refund()
	}
	return wait
}
