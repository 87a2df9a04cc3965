package cache

import (
	"hash/maphash"
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/hashicorp/golang-lru/v2/simplelru"

	"github.com/purserhq/purser/pkg/redisx"
)

const (
	localShards = 32
	// localOverhead is what an entry takes beside its key and its value: a place in the
	// map and in the list.
	localOverhead = 200
)

// local keeps entries of a cache in this process while its Tracker follows what Redis
// invalidates. An entry gets in only as Redis has it: with a ticket from before it was
// read, which an invalidation meanwhile makes void.
type local[V any] struct {
	tracker  *Tracker
	prefix   string
	format   format[V]
	share    bool // of values: a copy has nothing in common with the original
	maxBytes int  // of a shard
	anyValid bool // tickets stay valid: for the controls
	closed   atomic.Bool
	seed     maphash.Seed
	shards   [localShards]localShard[V]
}

type localShard[V any] struct {
	mu sync.Mutex
	// version counts the invalidations. A ticket of another version is void.
	version uint64
	lru     *simplelru.LRU[string, *localEntry[V]]
	bytes   int
	hits    int64
}

// localEntry is never changed.
type localEntry[V any] struct {
	entry   entry[V] // when it may be shared; otherwise raw is decoded for each hit
	raw     string
	soft    int64 // in Unix milliseconds; 0 for none
	expires time.Duration
	size    int
}

// ticket is the permission to keep what is read from now on.
type ticket struct {
	valid   bool
	version uint64
	at      time.Duration
}

func newLocal[V any](t *Tracker, prefix string, f format[V], entries, bytes int) *local[V] {
	l := &local[V]{tracker: t, prefix: prefix, format: f, share: isPlain(reflect.TypeFor[V]()),
		maxBytes: bytes / localShards, seed: maphash.MakeSeed()}
	for i := range l.shards {
		s := &l.shards[i]
		s.lru, _ = simplelru.NewLRU(max(1, entries/localShards), // the error is for less than one
			func(_ string, e *localEntry[V]) { s.bytes -= e.size })
	}
	t.add(l)
	return l
}

// isPlain reports whether a copy of a t shares nothing with the original that can be
// changed.
func isPlain(t reflect.Type) bool {
	switch t.Kind() { // the other kinds refer to what is shared
	case reflect.Bool, reflect.String, reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return true
	case reflect.Array:
		return isPlain(t.Elem())
	case reflect.Struct:
		if t == reflect.TypeFor[time.Time]() {
			return true // its Location is never changed
		}
		for i := range t.NumField() {
			if !isPlain(t.Field(i).Type) {
				return false
			}
		}
		return true
	}
	return false
}

func (l *local[V]) shard(id string) *localShard[V] {
	return &l.shards[maphash.String(l.seed, id)%localShards]
}

// get returns the entry of id. now is the process's clock, for the soft TTL.
func (l *local[V]) get(id string, now func() time.Time) (e entry[V], ok bool) {
	at := l.tracker.clock()
	if at >= l.tracker.trusted() || l.closed.Load() {
		return e, false
	}
	s := l.shard(id)
	s.mu.Lock()
	kept, ok := s.lru.Get(id)
	if ok && at >= kept.expires {
		s.lru.Remove(id)
		ok = false
	}
	if ok {
		s.hits++
	}
	s.mu.Unlock()
	switch {
	case !ok:
		return e, false
	case !l.share:
		return l.format.decode(kept.raw, now())
	}
	e = kept.entry
	if kept.soft > 0 && kept.soft < now().UnixMilli() {
		e.staleHeader = kept.raw
	}
	return e, true
}

// begin returns the ticket for what is read of id after it. It takes the version before it looks whether there is
// trust: a drop ends trust first, so that no ticket of a version after it is given meanwhile.
func (l *local[V]) begin(id string) ticket {
	s := l.shard(id)
	s.mu.Lock()
	version := s.version
	s.mu.Unlock()
	at := l.tracker.clock()
	if at >= l.tracker.trusted() || l.closed.Load() {
		return ticket{}
	}
	return ticket{true, version, at}
}

// put keeps an entry that was read after t, with the text that Redis has and what
// remained of its TTL when it was read or later.
func (l *local[V]) put(id string, t ticket, e entry[V], raw string, ttl time.Duration) {
	size := len(id) + len(raw) + localOverhead + int(unsafe.Sizeof(localEntry[V]{}))
	if !t.valid || ttl <= 0 || size > l.maxBytes {
		return
	}
	kept := &localEntry[V]{raw: raw, soft: softExpiry(raw), expires: t.at + ttl, size: size}
	if l.share {
		e.staleHeader = ""
		kept.entry, kept.raw = e, ""
		if kept.soft > 0 {
			kept.raw = string([]byte(raw[:headerSize])) // not the whole text
		}
	}
	s := l.shard(id)
	s.mu.Lock()
	defer s.mu.Unlock()
	if t.version != s.version && !l.anyValid {
		return
	}
	s.lru.Remove(id)
	s.lru.Add(id, kept)
	for s.bytes += size; s.bytes > l.maxBytes; {
		s.lru.RemoveOldest()
	}
}

// forget removes ids, and makes tickets for them void.
func (l *local[V]) forget(ids ...string) {
	for _, id := range ids {
		s := l.shard(id)
		s.mu.Lock()
		s.version++
		s.lru.Remove(id)
		s.mu.Unlock()
	}
}

// invalidated is told each key that was changed or removed in Redis.
func (l *local[V]) invalidated(key string) {
	if id, ok := redisx.ID(l.prefix, key); ok { // not a lease
		l.forget(id)
	}
}

// drop removes all entries, and makes all tickets void.
func (l *local[V]) drop() {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		s.version++
		s.lru.Purge()
		s.mu.Unlock()
	}
}

// close ends what is kept; nothing tells of invalidations any more.
func (l *local[V]) close() {
	l.closed.Store(true)
	l.tracker.remove(l)
	l.drop()
}

func (l *local[V]) keyPrefix() string { return l.prefix }

// size returns how much is kept, and how many reads it has answered.
func (l *local[V]) size() (entries, bytes int, hits int64) {
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		entries, bytes, hits = entries+s.lru.Len(), bytes+s.bytes, hits+s.hits
		s.mu.Unlock()
	}
	return entries, bytes, hits
}
