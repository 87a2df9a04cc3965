package store

import (
	"log/slog"
	"time"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
)

// CacheBudget is what one cache may wait for Redis in one call. A call asks
// three at most, so it waits for redisx.Budget in all.
const CacheBudget = redisx.Budget / 3

// CacheOptions say how long things are cached.
type CacheOptions struct {
	Portfolio, Timeline time.Duration
	Budget              time.Duration // CacheBudget
	Log                 *slog.Logger
}

// generationTTL has no part in how old an answer may be: that is the TTL of
// what is kept under a generation.
const generationTTL = time.Hour

// Caches are those of this package. The owner is part of every key.
//
// A page of a timeline is kept under the generation of its portfolio, a random
// name that is cached too. To invalidate it makes all pages under it
// unreachable at once, and a reader that was slow can only store under the old
// one.
type Caches struct {
	portfolios  *cache.Cache[portfolio.Portfolio] // by owner and id, or "default"
	timelines   *cache.Cache[timeline.History]    // by portfolio, generation and boundaries
	generations *cache.Cache[string]              // by owner and portfolio
}

// NewCaches makes the caches on r. Close them before it.
func NewCaches(r cache.Redis, o CacheOptions) *Caches {
	if o.Budget == 0 {
		o.Budget = CacheBudget
	}
	options := func(ttl time.Duration) cache.Options {
		return cache.Options{TTL: ttl, Budget: o.Budget, Log: o.Log}
	}
	name := func(entity string) cache.Namespace {
		return cache.Namespace{Service: "portfolio", Entity: entity, Schema: 1}
	}
	return &Caches{
		portfolios:  cache.New[portfolio.Portfolio](r, name("portfolio"), options(o.Portfolio)),
		timelines:   cache.New[timeline.History](r, name("timeline"), options(o.Timeline)),
		generations: cache.New[string](r, name("generation"), options(generationTTL)),
	}
}

// Close ends what the caches do in the background.
func (c *Caches) Close() {
	c.portfolios.Close()
	c.timelines.Close()
	c.generations.Close()
}

// key of what belongs to a portfolio.
func key(p portfolio.Portfolio) string { return p.Owner.String() + "/" + p.ID.String() }
