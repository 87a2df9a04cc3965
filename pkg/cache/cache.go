// Package cache is cache-aside over Redis in which a slow reader can't store
// what an invalidation has overtaken.
//
// Promise, on one healthy Redis: a value that was loaded before an
// invalidation of its key is never stored after it, because a fill is stored
// only while the lease it was given is still there and Invalidate removes
// value and lease in one step. A cold key is loaded once, by whoever holds
// the lease, in all processes together. A Redis that is away costs a read
// 50 ms at most and is never an error: the source is read.
//
// Limits: what remains stale is bounded by the TTL, and comes from a crash
// between commit and invalidation without [Cache.Write], from an invalidation
// that failed because Redis was away, from a failover of Redis, and from a
// load that reads a replica: loads read the primary. A reader that was already
// waiting when an invalidation came may get the value of before.
//
// Source: Nishtala et al., "Scaling Memcache at Facebook" (2013), leases.
package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/redisx"
)

// ErrNotFound is what a load returns for a key that has no value. It is
// cached, for a shorter time, and returned to the caller.
var ErrNotFound = errors.New("cache: not found")

// Redis is what this package uses of a client of redisx.
type Redis interface {
	redis.Scripter
	Get(ctx context.Context, key string) *redis.StringCmd
	Set(ctx context.Context, key string, value any, ttl time.Duration) *redis.StatusCmd
	GetDel(ctx context.Context, key string) *redis.StringCmd
	Del(ctx context.Context, keys ...string) *redis.IntCmd
	Pipelined(ctx context.Context, fn func(redis.Pipeliner) error) ([]redis.Cmder, error)
}

// Namespace is what a kind of entry is kept under:
// purser:<Service>:<Entity>:v<Schema>:{<id>}.
type Namespace struct {
	Service, Entity string
	// Schema goes up whenever old bytes may not be read as the new type.
	Schema int
}

func (n Namespace) key(id string) string {
	if strings.ContainsAny(id, "}%") { // an early } would end the hash tag that keeps a key's parts together
		id = strings.NewReplacer("%", "%25", "}", "%7D").Replace(id)
	}
	return fmt.Sprintf("purser:%s:%s:v%d:{%s}", n.Service, n.Entity, n.Schema, id)
}

// Options say how long entries live. Zero values take the defaults named.
type Options struct {
	TTL         time.Duration // 5 min; an entry lives between 0.9 and 1 of it
	SoftTTL     time.Duration // when a refresh begins; 0 for never
	NegativeTTL time.Duration // 1/10 of TTL
	// LoadTimeout bounds a load and is how long a lease is held; 5 s.
	LoadTimeout time.Duration
	// WriteTimeout is how long [Cache.Write] keeps fills out, should its
	// process die meanwhile; 10 s.
	WriteTimeout time.Duration
	// Budget is what one operation may wait for Redis in all; redisx.Budget.
	Budget time.Duration
	Codec  Codec            // JSON
	Now    func() time.Time // time.Now
}

// Cache keeps values of one kind. It is safe for concurrent use. Close it
// before its client.
type Cache[V any] struct {
	redis   Redis
	ns      Namespace
	o       Options
	fill    *redis.Script
	flights flights[V]

	refreshing sync.Map // keys past their soft TTL that this process reloads
	work       sync.WaitGroup

	labels                              metric.MeasurementOption
	hits, misses, degraded, undecodable metric.Int64Counter
}

// New makes a cache of V under ns.
func New[V any](r Redis, ns Namespace, o Options) *Cache[V] {
	o = withDefaults(o)
	c := &Cache[V]{redis: r, ns: ns, o: o, fill: fillScript}
	c.labels = metric.WithAttributeSet(attribute.NewSet(attribute.String("entity", ns.Entity)))
	meter := otel.Meter("github.com/purserhq/purser/pkg/cache")
	counter := func(name, what string) metric.Int64Counter {
		i, _ := meter.Int64Counter(name, metric.WithDescription(what)) // on error a no-op one
		return i
	}
	c.hits = counter("cache_hits_total", "Reads answered from the cache.")
	c.misses = counter("cache_misses_total", "Reads that found no entry.")
	c.degraded = counter("cache_degraded_total", "Reads that went to the source because Redis gave no answer.")
	c.undecodable = counter("cache_undecodable_total", "Entries removed because they couldn't be decoded.")
	return c
}

// Close waits for the refreshes that run in the background.
func (c *Cache[V]) Close() { c.work.Wait() }

// Get returns the value of key, from the cache or by load. Callers that miss
// together share one load, which runs with the values of the first one's
// context until the last one has gone or LoadTimeout is over; each waits no
// longer than its own ctx. Should who loads die, the others wait until its
// lease ends, which is LoadTimeout too, and one of them loads. The error is load's, [ErrNotFound], or ctx's.
func (c *Cache[V]) Get(ctx context.Context, key string, load func(context.Context) (V, error)) (V, error) {
	var zero V
	if err := ctx.Err(); err != nil {
		return zero, err
	}
	b := budget{c.o.Budget}
	e, found, err := c.read(ctx, &b, key)
	switch {
	case err != nil:
		c.degraded.Add(ctx, 1, c.labels)
		return c.flights.do(ctx, key, c.o.LoadTimeout, load)
	case found:
		c.hits.Add(ctx, 1, c.labels)
		if e.stale {
			c.refresh(ctx, key, load)
		}
		return e.result()
	}
	c.misses.Add(ctx, 1, c.labels)
	return c.flights.do(ctx, key, 2*c.o.LoadTimeout, func(ctx context.Context) (V, error) {
		return c.loadUnderLease(ctx, &b, key, load)
	})
}

// entry is a decoded cached value, or the absence of one.
type entry[V any] struct {
	value  V
	absent bool
	stale  bool // past the soft TTL
}

func (e entry[V]) result() (V, error) {
	if e.absent {
		return e.value, ErrNotFound
	}
	return e.value, nil
}

// read is the hit path: one GET. An entry that can't be decoded is a miss.
func (c *Cache[V]) read(ctx context.Context, b *budget, key string) (entry[V], bool, error) {
	var raw []byte
	err := b.spend(ctx, func(ctx context.Context) (err error) {
		raw, err = c.redis.Get(ctx, c.ns.key(key)).Bytes()
		return err
	})
	if errors.Is(err, redis.Nil) {
		return entry[V]{}, false, nil
	}
	if err != nil {
		return entry[V]{}, false, err
	}
	e, ok := c.decode(ctx, b, key, raw)
	return e, ok, nil
}

func withDefaults(o Options) Options {
	set := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	set(&o.TTL, 5*time.Minute)
	set(&o.NegativeTTL, o.TTL/10)
	set(&o.LoadTimeout, 5*time.Second)
	set(&o.WriteTimeout, 10*time.Second)
	set(&o.Budget, redisx.Budget)
	if o.Codec == nil {
		o.Codec = JSON{}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
