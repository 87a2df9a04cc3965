package attempts

import (
	"context"
	"fmt"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
)

// remembered is how many buckets one replica keeps.
const remembered = 200_000

// local counts in this process. It is safe for concurrent use.
type local struct {
	full *lru.Cache[string, *level]
	now  func() time.Time
}

func newLocal(now func() time.Time) (*local, error) {
	full, err := lru.New[string, *level](remembered)
	if err != nil {
		return nil, fmt.Errorf("attempts: %w", err)
	}
	return &local{full, now}, nil
}

// take charges one, or says how long until one would be there.
func (l *local) take(_ context.Context, b Bucket) (giveBack func(), wait time.Duration) {
	key, fresh := b.Kind+" "+b.Key, &level{}
	found, known, _ := l.full.PeekOrAdd(key, fresh)
	if known {
		l.full.Get(key) // it was used: keep it
	} else {
		found = fresh
	}
	if wait := found.take(l.now(), b.Every(), b.PerMinute); wait > 0 {
		return nil, wait
	}
	return func() { found.giveBack(b.Every()) }, 0
}

// level of a bucket. A reservation of x/time/rate would not do: what it
// restores is less the more were made since.
type level struct {
	mu   sync.Mutex
	full time.Time // when everything will have been refilled
}

func (l *level) take(now time.Time, every time.Duration, size int) (wait time.Duration) {
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

func (l *level) giveBack(every time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.full = l.full.Add(-every)
}
