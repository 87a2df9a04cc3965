package store

import (
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
)

// CacheBudget is how long one cache may wait for Redis in one call. A call reads at
// most three caches, so it waits for redisx.Budget at most.
const CacheBudget = redisx.Budget / 3

// CacheOptions say how long what is cached.
type CacheOptions struct {
	Portfolio, Timeline time.Duration // TTLs
	Budget              time.Duration // CacheBudget when 0
	Log                 *slog.Logger
}

// generationTTL doesn't limit how old an answer may be: the TTL of what is cached
// under a generation does.
const generationTTL = time.Hour

// Caches are the caches of this package. Every key contains the owner.
//
// A page of a timeline is cached under the generation of its portfolio.
type Caches struct {
	portfolios  *cache.Cache[portfolio.Portfolio] // by owner and portfolio, or by owner and "default"
	timelines   *cache.Cache[timeline.Aggregates] // by owner, portfolio, generation and boundaries
	generations *cache.Generations                // by owner and portfolio
}

// NewCaches makes the caches on r. Close them before r.
func NewCaches(r cache.Redis, o CacheOptions) *Caches {
	if o.Budget == 0 {
		o.Budget = CacheBudget
	}
	options := func(ttl time.Duration) cache.Options {
		return cache.Options{TTL: ttl, Budget: o.Budget, Log: o.Log}
	}
	name := func(entity string) cache.Namespace {
		return cache.Namespace{Service: "portfolio", Entity: entity, Schema: 2}
	}
	return &Caches{
		portfolios:  cache.New[portfolio.Portfolio](r, name("portfolio"), options(o.Portfolio)),
		timelines:   cache.New[timeline.Aggregates](r, name("timeline"), options(o.Timeline)),
		generations: cache.NewGenerations(cache.New[string](r, name("generation"), options(generationTTL))),
	}
}

// Close stops the caches' background work.
func (c *Caches) Close() {
	c.portfolios.Close()
	c.timelines.Close()
	c.generations.Close()
}

// portfolioKey is the cache key of a portfolio.
func portfolioKey(p portfolio.Portfolio) string { return portfolio.CacheKey(p.Owner, p.ID) }

// defaultKey is the cache key of an owner's default portfolio.
func defaultKey(owner uuid.UUID) string { return owner.String() + "/default" }
