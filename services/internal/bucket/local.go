package bucket

import (
	"context"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// maxLocalBuckets is how many buckets one replica holds; the least recently used
// are dropped.
const maxLocalBuckets = 200_000

// Local counts in this process. It is safe for concurrent use.
type Local struct {
	levels *lru.Cache[string, *bucketLevel]
	now    func() time.Time
}

// NewLocal returns full buckets that are refilled by the clock now.
func NewLocal(now func() time.Time) (*Local, error) {
	full, err := lru.New[string, *bucketLevel](maxLocalBuckets)
	if err != nil {
		return nil, fmt.Errorf("buckets: %w", err)
	}
	return &Local{full, now}, nil
}

// Take charges one call; or, when the bucket is empty, charges nothing and returns how
// long to wait.
func (l *Local) Take(_ context.Context, b Bucket) (refund func(), wait time.Duration) {
	key, fresh := b.Kind+" "+b.Key, &bucketLevel{}
	found, known, _ := l.levels.PeekOrAdd(key, fresh)
	if known {
		l.levels.Get(key) // marks it as recently used
	} else {
		found = fresh
	}
	if wait := found.take(l.now(), b.RefillInterval(), b.PerMinute); wait > 0 {
		return nil, wait
	}
	return func() { found.refund(b.RefillInterval()) }, 0
}

// bucketLevel is how full a bucket is. x/time/rate is not used because cancelling
// one of its reservations restores less the more were made since.
type bucketLevel struct {
	mu   sync.Mutex
	full time.Time // when the bucket will be full
}

func (l *bucketLevel) take(now time.Time, every time.Duration, size int) (wait time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	full := l.full
	if full.Before(now) {
		full = now
	}
	full = full.Add(every)
	if wait := full.Sub(now) - every*time.Duration(size); wait > 0 {
		return wait
	}
	l.full = full
	return 0
}

func (l *bucketLevel) refund(every time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = l.full.Add(-every)
}
