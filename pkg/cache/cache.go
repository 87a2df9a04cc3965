// Package cache is cache-aside over Redis in which a slow reader can't store
// what an invalidation has overtaken.
//
// Promise, on one healthy Redis: a value that was loaded before an
// invalidation of its key is never stored after it, because a fill is stored
// only while the lease it was given is still there, and Invalidate removes
// value and lease in one step. A cold key is loaded once, by whoever holds the
// lease, in all processes together; should the holder die, another has the
// lease within a second. A Redis that is away, slow or talks nonsense is never
// an error: the source is read, and all steps of one operation together have
// waited for Redis 50 ms at most. Polling for what another process loads isn't
// counted, as long as Redis answers; it ends after LoadTimeout.
//
// An invalidation survives a crash and an outage of Redis when it is noted in
// the transaction that changes the data ([Cache.Note]) and an [Outbox] sweeps:
// no value from before the commit is left 1.5 s after the commit or, if later,
// 1 s after the return of Redis, and the time to work off the backlog, some ten
// thousand keys a second.
//
// Limits: without a note, what remains stale is bounded by the TTL, and comes
// from a crash between commit and invalidation without [Cache.Write], from an
// invalidation that failed, or from a failover of Redis that lost one; a note
// is swept a second after the commit and so heals a failover until then. A load
// that reads a replica stores what the replica says: loads read the primary. A
// reader that shares a load with others, as those in one process do, may get
// what was true when that load began, LoadTimeout ago at most; that is not
// stored. A soft TTL is compared by the processes' own clocks; where they are
// wrong, refreshes come early or not at all, and the TTL, which Redis counts,
// is what bounds a value's age. What doesn't pass within the budget comes from
// the source: values of megabytes, and of a list the keys beyond some thousand,
// of which each call caches a part. Loads must end when their context does.
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

// ErrNotFound is what a load returns for a key that has no value. It is
// cached, for a shorter time, and returned to the caller.
var ErrNotFound = errors.New("cache: not found")

// Namespace is what a kind of entry is kept under:
// purser:<Service>:<Entity>:v<Schema>:{<id>}.
type Namespace struct {
	Service, Entity string
	// Schema goes up whenever old bytes may not be read as the new type.
	Schema int
}

// prefix is what all keys begin with. Only an id's own { opens a hash tag.
func (n Namespace) prefix() string {
	return fmt.Sprintf("purser:%s:%s:v%d:", url.QueryEscape(n.Service), url.QueryEscape(n.Entity), n.Schema)
}

// Options say how long entries live. Zero and negative values take the defaults
// named; what is less than a millisecond counts as one.
type Options struct {
	TTL         time.Duration // 5 min; an entry lives between 0.9 and 1 of it
	SoftTTL     time.Duration // when a refresh begins; 0 for never
	NegativeTTL time.Duration // 1/10 of TTL
	// LoadTimeout bounds a load, by its context, and the wait for another's;
	// 5 s.
	LoadTimeout time.Duration
	// WriteTimeout is how long [Cache.Write] keeps fills out, should its
	// process die meanwhile; longer than any transaction; 10 s.
	WriteTimeout time.Duration
	// Budget is what one operation may wait for Redis in all; redisx.Budget.
	Budget time.Duration
	Codec  Codec            // JSON
	Now    func() time.Time // time.Now, for the soft TTL
	// Log receives a line when the cache begins and ceases to go round Redis;
	// nil means none.
	Log *slog.Logger
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

	leaseFor time.Duration // a field so that a test can leave time out of it

	mu         sync.Mutex
	refreshing map[string]bool // keys past their soft TTL that this process reloads
	closed     bool
	work       sync.WaitGroup
}

func (c *Cache[V]) key(id string) string { return redisx.Key(c.prefix, id) }

// New makes a cache of V under ns.
func New[V any](r Redis, ns Namespace, o Options) *Cache[V] {
	o = withDefaults(o)
	return &Cache[V]{
		redis: r, ns: ns, prefix: ns.prefix(), o: o, format: newFormat[V](o.Codec),
		metrics:    newMetrics(ns.Entity),
		outage:     outage{log: o.Log, entity: ns.Entity, since: time.Now()},
		flights:    flights[entry[V]]{m: map[string]*flight[entry[V]]{}},
		leaseFor:   leaseFor,
		refreshing: map[string]bool{},
	}
}

// Close waits for the refreshes that run in the background, LoadTimeout at
// most, and lets no more begin. Reads go on working.
func (c *Cache[V]) Close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.work.Wait()
}

// Get returns the value of key, from the cache or by load. Callers that miss
// together share one load, which runs with the values of the first one's
// context until the last one has gone or LoadTimeout is over; each waits no
// longer than its own ctx. They get the same value: don't change what it points
// to. The error is load's, [ErrNotFound], or ctx's; a load that panics is one.
func (c *Cache[V]) Get(ctx context.Context, key string, load func(context.Context) (V, error)) (V, error) {
	if err := ctx.Err(); err != nil {
		var zero V
		return zero, err
	}
	b := budget{c.o.Budget}
	r := one(ctx, c.redis, &b, 0, "get", c.key(key))
	c.outage.note(ctx, silent(r.err))
	if hit := c.claim(key, r); hit.state == filled {
		c.metrics.add(ctx, c.metrics.hits, 1)
		if hit.entry.stale != "" {
			c.refresh(ctx, []claim[V]{hit}, single(load))
		}
		return hit.entry.result()
	}
	c.count(ctx, c.claims(ctx, &b, []string{key}, []reply{r}))
	left := b.left
	e, err := c.flights.do(ctx, key, func(ctx context.Context, fl *flight[entry[V]]) (entry[V], error) {
		out := map[string]entry[V]{}
		err := c.fetch(ctx, &budget{left}, []string{key}, single(func(ctx context.Context) (V, error) {
			fl.begin()
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

// single makes a load of one key one of many.
func single[V any](load func(context.Context) (V, error)) loader[V] {
	return func(ctx context.Context, keys []string) (map[string]V, error) {
		v, err := load(ctx)
		return map[string]V{keys[0]: v}, err
	}
}

// GetMany returns the values of keys, those that are missing by one load in
// the caller's goroutine; for those that others are loading it waits, as Get
// does. A key that load leaves out of its map is absent, is cached as such and
// is not in the result. An error of load, or of ctx, is returned with nothing.
func (c *Cache[V]) GetMany(ctx context.Context, keys []string,
	load func(context.Context, []string) (map[string]V, error)) (map[string]V, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := budget{c.o.Budget}
	claims := c.look(ctx, &b, unique(keys))
	c.count(ctx, claims)
	entries := make(map[string]entry[V], len(claims))
	wanted, _, _ := sortOut(claims, entries, false)
	if len(wanted) > 0 {
		if err := c.fetch(ctx, &b, wanted, load, entries); err != nil {
			return nil, err
		}
	}
	stale := slices.DeleteFunc(claims, func(cl claim[V]) bool { return cl.entry.stale == "" })
	if len(stale) > 0 {
		c.refresh(ctx, stale, load)
	}
	found := make(map[string]V, len(entries))
	for key, e := range entries {
		if !e.absent {
			found[key] = e.value
		}
	}
	return found, nil
}

// count counts what was found at first.
func (c *Cache[V]) count(ctx context.Context, claims []claim[V]) {
	var n [unknown + 1]int
	for _, cl := range claims {
		n[cl.state]++
	}
	c.metrics.add(ctx, c.metrics.hits, n[filled])
	c.metrics.add(ctx, c.metrics.degraded, n[unknown])
	c.metrics.add(ctx, c.metrics.misses, len(claims)-n[filled]-n[unknown])
}

func unique(keys []string) []string {
	keys = slices.Clone(keys)
	seen := make(map[string]bool, len(keys))
	return slices.DeleteFunc(keys, func(key string) bool {
		again := seen[key]
		seen[key] = true
		return again
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
