package cache

import (
	"context"
	"sync"
	"time"
)

// Entry is an entry of a cache in Redis, to be read ahead.
type Entry struct {
	redis  Redis
	budget time.Duration
	key    string // in Redis
}

// Entry returns the entry of key.
func (c *Cache[V]) Entry(key string) Entry { return Entry{c.redis, c.o.Budget, c.key(key)} }

// ReadAhead reads entries, of any caches on one Redis, in one round trip. With the context that it returns, the next
// Get or GetMany of each finds what was read, if it comes within the Options.Budget of the first one's cache: a value
// that was current when ReadAhead was called. So a call that needs several entries, one after the other, asks Redis
// once; an entry that it then doesn't need costs little. What is invalidated with the context is not found. When Redis
// doesn't answer, Get does as it always does then. Caches that keep values in memory don't use it.
func ReadAhead(ctx context.Context, entries ...Entry) context.Context {
	if len(entries) == 0 {
		return ctx
	}
	a := &ahead{until: time.Now().Add(entries[0].budget), replies: make(map[string]reply, len(entries))}
	b := budget{entries[0].budget}
	replies := send(ctx, entries[0].redis, &b, 0, len(entries), func(i int) []any {
		return []any{"get", entries[i].key}
	})
	a.took = entries[0].budget - b.remaining
	for i, e := range entries {
		a.replies[e.key] = replies[i]
	}
	return context.WithValue(ctx, aheadOf{}, a)
}

type aheadOf struct{} // a context's key

// ahead is what was read ahead.
type ahead struct {
	until time.Time // it is used
	took  time.Duration

	mu      sync.Mutex
	replies map[string]reply // by key in Redis, until they are used
}

// readAhead returns what was read ahead of these keys in Redis, if that is so of all. Its time is taken from b.
func (c *Cache[V]) readAhead(ctx context.Context, b *budget, keys ...string) (replies []reply, ok bool) {
	a, _ := ctx.Value(aheadOf{}).(*ahead)
	if a == nil || c.local != nil || time.Now().After(a.until) {
		return nil, false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, key := range keys {
		r, ok := a.replies[key]
		if !ok {
			return nil, false
		}
		replies = append(replies, r)
	}
	for _, key := range keys {
		delete(a.replies, key)
	}
	b.remaining -= a.took
	return c.observed(ctx, replies), true
}

// dropAhead removes what was read ahead of these keys.
func (c *Cache[V]) dropAhead(ctx context.Context, keys []string) {
	a, _ := ctx.Value(aheadOf{}).(*ahead)
	if a == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, key := range keys {
		delete(a.replies, c.key(key))
	}
}
