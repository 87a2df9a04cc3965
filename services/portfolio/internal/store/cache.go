package store

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/postgres"
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

// stale is what a change leaves in a cache.
type stale struct {
	cache interface {
		Note(tx *gorm.DB, keys ...string) error
		Invalidate(ctx context.Context, keys ...string) error
	}
	keys []string
}

// change runs fn in a transaction and invalidates what it returns: at once
// after the commit, and by the outbox in case that fails. A schema from before
// the outbox has to do without.
func change(ctx context.Context, db *postgres.DB, fn func(tx *gorm.DB) ([]stale, error)) error {
	var left []stale
	var noteErr error
	err := postgres.InTx(ctx, db, func(tx *gorm.DB) (err error) {
		if left, err = fn(tx); err != nil {
			return err
		}
		noteErr = note(tx, left)
		return noteErr
	})
	if missing := (*pgconn.PgError)(nil); noteErr != nil && errors.As(noteErr, &missing) && missing.Code == undefinedTable {
		err = postgres.InTx(ctx, db, func(tx *gorm.DB) (err error) {
			left, err = fn(tx)
			return err
		})
	}
	if err == nil || errors.Is(err, postgres.ErrCommitUnknown) {
		for _, s := range left {
			// The caller's end doesn't stop it; the cache counts its failures.
			_ = s.cache.Invalidate(context.WithoutCancel(ctx), s.keys...)
		}
	}
	return err
}

// undefinedTable is Postgres's code of it.
const undefinedTable = "42P01"

func note(tx *gorm.DB, left []stale) error {
	for _, s := range left {
		if err := s.cache.Note(tx, s.keys...); err != nil {
			return err
		}
	}
	return nil
}
