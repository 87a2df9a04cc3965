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
)

const (
	pollLeast    = 2 * time.Millisecond
	pollMost     = 10 * time.Millisecond
	loadAttempts = 3
)

type loader[V any] func(context.Context, []string) (map[string]V, error)

// fetch puts the entries of keys that were missing into out. It loads at once
// what is leased and what no lease can be had for (without Redis, or while a
// write is under way), and only then waits for what others load, so two that
// wait for each other's keys end. What others don't fill within LoadTimeout is
// loaded too.
func (c *Cache[V]) fetch(ctx context.Context, b *budget, keys []string, load loader[V],
	out map[string]entry[V]) error {
	patience := time.Now().Add(c.o.LoadTimeout)
	loads := 0
	for round, wait := 1, pollLeast; ; round, wait = round+1, min(2*wait, pollMost) {
		left := b.left
		token, claims := c.lease(ctx, b, keys, nil)
		answered := !slices.ContainsFunc(claims, func(cl claim[V]) bool { return cl.state == unknown })
		if round > 1 && answered {
			b.left = left // it waited for another's load, not for Redis
		}
		wanted, leased, later := sortOut(claims, out, time.Now().Before(patience))
		if len(wanted) > 0 {
			overtaken, err := c.fill(ctx, b, token, wanted, leased, load, out)
			if err != nil {
				return err
			}
			// Others may have joined after the invalidation that overtook the
			// load, so it is worth another.
			if loads++; loads < loadAttempts {
				later = append(later, overtaken...)
			}
		}
		if keys = later; len(keys) == 0 {
			return nil
		}
		if err := pause(ctx, wait/2+mathrand.N(wait)); err != nil {
			return err
		}
	}
}

// sortOut puts what was found into out and tells what to load, the part of it
// that is leased, and what to wait for.
func sortOut[V any](claims []claim[V], out map[string]entry[V], patient bool) (wanted, leased, later []string) {
	for _, c := range claims {
		switch {
		case c.state == filled:
			out[c.key] = c.entry
		case c.state == others && patient:
			later = append(later, c.key)
		default:
			wanted = append(wanted, c.key)
			if c.state == mine {
				leased = append(leased, c.key)
			}
		}
	}
	return wanted, leased, later
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// fill loads wanted at once into out, and stores what of it is leased with
// token. A load that fails drops the leases.
func (c *Cache[V]) fill(ctx context.Context, b *budget, token string, wanted, leased []string, load loader[V],
	out map[string]entry[V]) (overtaken []string, err error) {
	loaded, err := c.load(ctx, token, wanted, leased, load)
	if err != nil {
		c.drop(ctx, b, token, leased)
		return nil, err
	}
	for _, key := range wanted {
		v, ok := loaded[key]
		out[key] = entry[V]{value: v, absent: !ok}
	}
	return c.store(ctx, b, token, leased, out), nil
}

// load runs the load for its own LoadTimeout, whatever waiting for others took
// before, and holds the leases meanwhile.
func (c *Cache[V]) load(ctx context.Context, token string, wanted, leased []string, load loader[V]) (map[string]V,
	error) {
	ctx, cancel := context.WithTimeout(ctx, c.o.LoadTimeout)
	defer cancel()
	ctx, span := c.metrics.tracer.Start(ctx, "cache load", trace.WithAttributes(
		attribute.String("cache.entity", c.ns.Entity), attribute.Int("cache.keys", len(wanted))))
	defer span.End()
	if len(leased) > 0 {
		defer c.hold(ctx, leased, token).Stop()
	}
	begin := time.Now()
	// Its own list, which it may change.
	loaded, err := guarded(func() (map[string]V, error) { return load(ctx, slices.Clone(wanted)) })
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

// refresh reloads values past their soft TTL in the background: those that
// nobody in this process reloads yet and whose lease is to be had, by one load.
func (c *Cache[V]) refresh(ctx context.Context, stale []claim[V], load loader[V]) {
	var keys, old []string
	c.mu.Lock()
	for _, s := range stale {
		if !c.refreshing[s.key] && !c.closed {
			c.refreshing[s.key] = true
			keys, old = append(keys, s.key), append(old, s.entry.stale)
		}
	}
	if len(keys) > 0 {
		c.work.Go(func() { c.reload(context.WithoutCancel(ctx), keys, old, load) }) // before Close can wait
	}
	c.mu.Unlock()
}

// reload replaces the values of keys whose headers are old.
func (c *Cache[V]) reload(ctx context.Context, keys, old []string, load loader[V]) {
	defer func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		for _, key := range keys {
			delete(c.refreshing, key)
		}
	}()
	b, entries := budget{c.o.Budget}, map[string]entry[V]{}
	token, claims := c.lease(ctx, &b, keys, old)
	_, leased, _ := sortOut(claims, entries, true)
	if len(leased) == 0 {
		return
	}
	if _, err := c.fill(ctx, &b, token, leased, leased, load, entries); err != nil {
		c.o.Log.WarnContext(ctx, "cache: refresh failed", "entity", c.ns.Entity, "error", err)
	}
}
