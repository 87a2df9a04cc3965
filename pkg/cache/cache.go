// Package cache is cache-aside over Redis in which a slow reader can't store
// what an invalidation has superseded.
//
// Promise, on one healthy Redis: a value that was loaded before an invalidation
// of its key is never stored after it, because a load's result is stored only
// while the load's lease exists, and Invalidate removes value and lease in one
// step. A missing key is loaded once over all processes, by the holder of its
// lease; if the holder dies, another process has the lease within a second. A
// Redis that is down, slow or answers wrongly is never an error: the source is
// read, and all steps of one operation have waited for Redis 50 ms at most.
// Polling for a value that another process loads isn't counted, as long as Redis
// answers; it ends after LoadTimeout.
//
// An invalidation survives a crash and an outage of Redis when it is recorded in
// the transaction that changes the data ([Cache.RecordInvalidation], [Change])
// and an [Outbox] runs: no value from before the commit is left 1.5 s after the
// commit or, if later, 1 s after Redis answers again, plus the time for the
// backlog, some ten thousand keys a second.
//
// With Options.Local values are kept in the process's memory too, see [Tracker]. All
// of the above holds for what other processes read [LocalBound] later. The process that
// invalidates reads its own invalidation at once.
//
// Limits: an invalidation that is not recorded can be lost, and the value is then stale until its TTL:
//   - when the process crashes between the commit and the invalidation, unless it uses [Cache.Write],
//   - when the invalidation fails,
//   - when a failover of Redis loses it.
//
// A recorded invalidation is repeated a second after the commit, which covers a failover until then. Loads must read
// the primary: what a replica returns is stored. A caller that shares a load with others of its process may get a
// value from before an invalidation, read at most LoadTimeout ago; that value is not stored. A soft TTL is compared
// with the process's own clock; with a wrong clock, refreshes come early or never, and the TTL, which Redis measures,
// bounds a value's age. What exceeds the budget comes from the source: values of megabytes, and of a list the keys
// beyond some thousand, of which each call caches a part. Loads must end when their context does.
//
// Source: Nishtala et al., "Scaling Memcache at Facebook" (2013), leases;
// Richardson, "Transactional outbox".
package cache

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
)

// ErrNotFound is returned by a load for a key that has no value. The absence is
// cached for NegativeTTL, and Get returns the error to its caller.
var ErrNotFound = errors.New("cache: not found")

// Namespace is the prefix of the keys of one kind of entry:
// purser:<Service>:<Entity>:v<Schema>:{<id>}.
type Namespace struct {
	Service, Entity string
	// Schema is increased whenever stored bytes can't be decoded as the new type.
	Schema int
}

// prefix begins all keys. It is escaped so that only an id's { opens a hash tag.
func (n Namespace) prefix() string {
	return fmt.Sprintf("purser:%s:%s:v%d:", url.QueryEscape(n.Service), url.QueryEscape(n.Entity), n.Schema)
}

// Options of a Cache. Zero and negative values mean the defaults named; durations
// under a millisecond count as one.
type Options struct {
	TTL         time.Duration // 5 min; an entry lives between 0.9 and 1 of it
	SoftTTL     time.Duration // age after which a read starts a refresh in the background; 0 for never
	NegativeTTL time.Duration // 1/10 of TTL
	// LoadTimeout bounds a load, by its context, and the wait for another's;
	// 5 s.
	LoadTimeout time.Duration
	// WriteTimeout is how long [Cache.Write] prevents fills when its process dies
	// during it. It must be longer than any transaction; 10 s.
	WriteTimeout time.Duration
	// Budget is how long all steps of one operation may wait for Redis;
	// redisx.Budget.
	Budget time.Duration
	Codec  Codec            // JSON
	Now    func() time.Time // time.Now, for the soft TTL
	// Log receives a line when Redis stops and when it starts to answer; nil
	// means none.
	Log *slog.Logger

	// Local is the process's Tracker, to keep values in memory too; nil for Redis alone.
	// A value is then read at most LocalBound after it was invalidated in Redis.
	Local *Tracker
	// LocalEntries and LocalBytes bound what is kept; 10,000 and 16 MiB. A value of more
	// than 1/32 of LocalBytes isn't kept.
	LocalEntries, LocalBytes int
}

// Cache keeps values of one kind. It is safe for concurrent use. Close it
// before its client.
type Cache[V any] struct {
	redis   Redis
	ns      Namespace
	prefix  string
	o       Options
	format  format[V]
	metrics metrics
	outage  outage
	flights flights[entry[V]]
	local   *local[V] // nil without Options.Local

	leaseDuration time.Duration // a field so that tests can set it

	mu         sync.Mutex
	refreshing map[string]bool // keys past their soft TTL that this process reloads
	closed     bool
	work       sync.WaitGroup
}

func (c *Cache[V]) key(id string) string { return redisx.Key(c.prefix, id) }

// New makes a cache of V under ns.
func New[V any](r Redis, ns Namespace, o Options) *Cache[V] {
	o = withDefaults(o)
	c := &Cache[V]{
		redis: r, ns: ns, prefix: ns.prefix(), o: o, format: newFormat[V](o.Codec),
		metrics:       newMetrics(ns.Entity),
		outage:        outage{log: o.Log, entity: ns.Entity, since: time.Now()},
		flights:       flights[entry[V]]{m: map[string]*flight[entry[V]]{}},
		leaseDuration: leaseDuration,
		refreshing:    map[string]bool{},
	}
	if o.Local != nil {
		c.local = newLocal(o.Local, c.prefix, c.format, o.LocalEntries, o.LocalBytes)
		c.metrics.observeLocal(c.local.size)
	}
	return c
}

// Close waits for the refreshes that run in the background, LoadTimeout at
// most, and lets no more begin. Reads go on working, without local values.
func (c *Cache[V]) Close() {
	if c.local != nil {
		c.local.close()
		c.metrics.unobserve()
	}
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.work.Wait()
}

// Get returns the value of key, from the cache or by load. Callers in one process
// that miss at the same time share one load. It runs with the values of the first
// caller's context until no caller waits any more or LoadTimeout has passed; each
// caller waits no longer than its own ctx. They get the same value: don't change
// what it points to. The error is load's, [ErrNotFound], or ctx's; a panic of load
// is returned as an error.
func (c *Cache[V]) Get(ctx context.Context, key string, load func(context.Context) (V, error)) (V, error) {
	if err := ctx.Err(); err != nil {
		var zero V
		return zero, err
	}
	b := budget{c.o.Budget}
	hit, r := c.readOne(ctx, &b, key)
	if hit.state == found {
		if !hit.local {
			c.metrics.add(ctx, c.metrics.hits, 1)
		}
		if hit.entry.staleHeader != "" {
			c.refresh(ctx, []lookup[V]{hit}, single(load))
		}
		return hit.entry.result()
	}
	c.count(ctx, c.decodeReplies(ctx, &b, []string{key}, []reply{r}))
	remaining := b.remaining
	e, err := c.flights.do(ctx, key, func(ctx context.Context, fl *flight[entry[V]]) (entry[V], error) {
		out := map[string]entry[V]{}
		err := c.fetch(ctx, &budget{remaining}, []string{key}, single(func(ctx context.Context) (V, error) {
			fl.loadStarts()
			v, err := load(ctx)
			if err == nil {
				fl.publish(entry[V]{value: v})
			}
			return v, err
		}), out)
		return out[key], err
	})
	if err != nil {
		return e.value, err
	}
	return e.result()
}

// single adapts a load of one key.
func single[V any](load func(context.Context) (V, error)) loader[V] {
	return func(ctx context.Context, keys []string) (map[string]V, error) {
		v, err := load(ctx)
		return map[string]V{keys[0]: v}, err
	}
}

// GetMany returns the values of keys. It loads the missing ones by one call of
// load, in the caller's goroutine, and waits for those that others are loading, as
// Get does. A key that is not in load's result is cached as absent and is not in
// GetMany's result. After an error of load or ctx the result is nil.
func (c *Cache[V]) GetMany(ctx context.Context, keys []string,
	load func(context.Context, []string) (map[string]V, error)) (map[string]V, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := budget{c.o.Budget}
	lookups := c.read(ctx, &b, unique(keys))
	c.count(ctx, lookups)
	entries := make(map[string]entry[V], len(lookups))
	missing, _, _ := classify(lookups, entries, false)
	if len(missing) > 0 {
		if err := c.fetch(ctx, &b, missing, load, entries); err != nil {
			return nil, err
		}
	}
	stale := slices.DeleteFunc(lookups, func(l lookup[V]) bool { return l.entry.staleHeader == "" })
	if len(stale) > 0 {
		c.refresh(ctx, stale, load)
	}
	values := make(map[string]V, len(entries))
	for key, e := range entries {
		if !e.absent {
			values[key] = e.value
		}
	}
	return values, nil
}

// count counts hits, misses and unanswered reads.
func (c *Cache[V]) count(ctx context.Context, lookups []lookup[V]) {
	var n [unanswered + 1]int
	missed := 0
	for _, l := range lookups {
		switch {
		case l.local: // counted where they are kept
			continue
		case l.state != found && l.state != unanswered:
			missed++
		}
		n[l.state]++
	}
	c.metrics.add(ctx, c.metrics.hits, n[found])
	c.metrics.add(ctx, c.metrics.degraded, n[unanswered])
	c.metrics.add(ctx, c.metrics.misses, missed)
}

func unique(keys []string) []string {
	keys = slices.Clone(keys)
	seen := make(map[string]bool, len(keys))
	return slices.DeleteFunc(keys, func(key string) bool {
		duplicate := seen[key]
		seen[key] = true
		return duplicate
	})
}

func withDefaults(o Options) Options {
	set := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	set(&o.TTL, 5*time.Minute)
	set(&o.NegativeTTL, max(1, o.TTL/10))
	set(&o.LoadTimeout, 5*time.Second)
	set(&o.WriteTimeout, 10*time.Second)
	set(&o.Budget, redisx.Budget)
	if o.LocalEntries <= 0 {
		o.LocalEntries = 10_000
	}
	if o.LocalBytes <= 0 {
		o.LocalBytes = 16 << 20
	}
	if o.Codec == nil {
		o.Codec = JSON{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}
