package cache

import (
	"context"
	"errors"
	mathrand "math/rand/v2"
	"slices"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/purserhq/purser/pkg/deadline"
)

const (
	minPollInterval = 2 * time.Millisecond
	maxPollInterval = 10 * time.Millisecond
	maxLoads        = 3 // by one fetch
)

type loader[V any] func(context.Context, []string) (map[string]V, error)

// fetch puts the entries of missing keys into out. It first loads the keys that it
// gets a lease for and those that no lease can be got for (without Redis, or
// during a write). Only then it polls for the keys that other processes load, so
// that two callers which need each other's keys don't wait for each other. Keys
// that others haven't stored within LoadTimeout are loaded too.
func (c *Cache[V]) fetch(ctx context.Context, b *budget, keys []string, load loader[V],
	out map[string]entry[V]) error {
	pollUntil := time.Now().Add(c.o.LoadTimeout)
	loads := 0
	for round, wait := 1, minPollInterval; ; round, wait = round+1, min(2*wait, maxPollInterval) {
		remaining := b.remaining
		token, lookups := c.lease(ctx, b, keys, nil)
		answered := !slices.ContainsFunc(lookups, func(l lookup[V]) bool { return l.state == unanswered })
		if round > 1 && answered {
			b.remaining = remaining // the time went into waiting for another's load, not for Redis
		}
		toLoad, leased, toPoll := classify(lookups, out, time.Now().Before(pollUntil))
		if len(toLoad) > 0 {
			superseded, err := c.loadAndStore(ctx, b, token, toLoad, leased, load, out)
			if err != nil {
				return err
			}
			// Callers may have joined after the invalidation that superseded the
			// loaded values: load again for them.
			if loads++; loads < maxLoads {
				toPoll = append(toPoll, superseded...)
			}
		}
		if keys = toPoll; len(keys) == 0 {
			return nil
		}
		if err := deadline.Pause(ctx, wait/2+mathrand.N(wait)); err != nil {
			return err
		}
	}
}

// classify puts the entries that were found into out. It returns the keys to load,
// those of them that are leased, and the keys to poll for, which there are none of
// unless mayPoll.
func classify[V any](lookups []lookup[V], out map[string]entry[V], mayPoll bool) (toLoad, leased, toPoll []string) {
	for _, l := range lookups {
		switch {
		case l.state == found:
			out[l.key] = l.entry
		case l.state == leasedByOther && mayPoll:
			toPoll = append(toPoll, l.key)
		default:
			toLoad = append(toLoad, l.key)
			if l.state == leaseGranted {
				leased = append(leased, l.key)
			}
		}
	}
	return toLoad, leased, toPoll
}

// loadAndStore loads keys by one load into out and stores those that are leased
// under token. It returns the keys that an invalidation has superseded. When the
// load fails it releases the leases.
func (c *Cache[V]) loadAndStore(ctx context.Context, b *budget, token string, keys, leased []string, load loader[V],
	out map[string]entry[V]) (superseded []string, err error) {
	loaded, err := c.load(ctx, token, keys, leased, load)
	if err != nil {
		c.releaseLeases(ctx, b, token, leased)
		return nil, err
	}
	for _, key := range keys {
		v, ok := loaded[key]
		out[key] = entry[V]{value: v, absent: !ok}
	}
	return c.store(ctx, b, token, leased, out), nil
}

// load runs the caller's load within LoadTimeout and renews the leases meanwhile.
func (c *Cache[V]) load(ctx context.Context, token string, keys, leased []string, load loader[V]) (map[string]V,
	error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.LoadTimeout)
	defer cancel()
	ctx, span := c.metrics.tracer.Start(ctx, "cache load", trace.WithAttributes(
		attribute.String("cache.entity", c.ns.Entity), attribute.Int("cache.keys", len(keys))))
	defer span.End()
	if len(leased) > 0 {
		defer c.renewLeases(ctx, leased, token).Stop()
	}
	begin := time.Now()
	// The load may change its list.
	loaded, err := guarded(func() (map[string]V, error) { return load(ctx, slices.Clone(keys)) })
	if errors.Is(err, ErrNotFound) {
		loaded, err = nil, nil
	}
	outcome := c.metrics.ok
	if err != nil {
		outcome = c.metrics.failed
		span.SetStatus(codes.Error, "the load failed")
	}
	c.metrics.loads.Record(ctx, time.Since(begin).Seconds(), outcome...)
	return loaded, err
}

// refresh reloads values that are past their soft TTL in the background, by one
// load: those that this process isn't reloading yet and whose lease is free.
func (c *Cache[V]) refresh(ctx context.Context, stale []lookup[V], load loader[V]) {
	var keys, old []string
	c.mu.Lock()
	for _, s := range stale {
		if !c.refreshing[s.key] && !c.closed {
			c.refreshing[s.key] = true
			keys, old = append(keys, s.key), append(old, s.entry.staleHeader)
		}
	}
	if len(keys) > 0 {
		c.work.Go(func() { c.reload(context.WithoutCancel(ctx), keys, old, load) }) // before Close can wait
	}
	c.mu.Unlock()
}

// reload replaces the values of keys whose headers are still those in old.
func (c *Cache[V]) reload(ctx context.Context, keys, old []string, load loader[V]) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, key := range keys {
			delete(c.refreshing, key)
		}
	}()
	b, entries := budget{c.o.Budget}, map[string]entry[V]{}
	token, lookups := c.lease(ctx, &b, keys, old)
	_, leased, _ := classify(lookups, entries, true)
	if len(leased) == 0 {
		return
	}
	if _, err := c.loadAndStore(ctx, &b, token, leased, leased, load, entries); err != nil {
		c.o.Log.WarnContext(ctx, "cache: refresh failed", "entity", c.ns.Entity, "error", err)
	}
}
