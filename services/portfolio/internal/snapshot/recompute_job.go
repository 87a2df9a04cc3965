package snapshot

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// Limits of a run of the job that recomputes snapshots.
const (
	maxRecomputed    = 100              // portfolios
	recomputeTimeout = 30 * time.Second // of reading one portfolio's history
	// recomputeRetry is how long after a failure a portfolio is tried again.
	recomputeRetry = 10 * time.Minute
	// skippedRetry is how long after hours are tried again that could not be valued.
	skippedRetry = 6 * time.Hour
)

// ToRecompute is a portfolio of which snapshots may be out of date.
type ToRecompute struct {
	portfolio.Portfolio
	// From is the first hour that may be.
	From time.Time
	// Last tells whether anything has changed since it was read.
	Last int
}

// RecomputeStore says which portfolios have snapshots that may be out of date.
type RecomputeStore interface {
	// DueForRecompute returns up to limit portfolios of one of shards shards of their owners
	// that are due at a time, those that waited longest first.
	DueForRecompute(ctx context.Context, shard, shards int, at time.Time, limit int) ([]ToRecompute, error)
	// Recomputed notes that a portfolio has no more that are out of date before next, none at
	// all if that is zero, and when to look again; unless something changed since it was due.
	Recomputed(ctx context.Context, p ToRecompute, next, at time.Time) error
	// RetryRecompute notes when to look again, whatever changed.
	RetryRecompute(ctx context.Context, portfolio uuid.UUID, at time.Time) error
}

// RecomputeJob takes snapshots again that are out of date, as this service's own account.
// It is safe for concurrent use.
//
// It takes no snapshot of an hour that has none, and none again that is incomplete for
// another reason. A portfolio that fails is tried again later, and stops no other.
type RecomputeJob struct {
	store         RecomputeStore
	snapshots     *Service
	prices        *PriceFollower // nil for none
	asThisService func(context.Context) (context.Context, error)
	log           *slog.Logger
	now           func() time.Time
}

// FollowPrices also has each run value the snapshots whose prices changed, and the run of the first shard find out
// which prices did. Call it before the first run.
func (j *RecomputeJob) FollowPrices(f *PriceFollower) *RecomputeJob {
	j.prices = f
	return j
}

// NewRecomputeJob returns the job; asThisService as in NewHourlyJob.
func NewRecomputeJob(s RecomputeStore, snapshots *Service,
	asThisService func(context.Context) (context.Context, error), log *slog.Logger,
	now func() time.Time) *RecomputeJob {
	return &RecomputeJob{store: s, snapshots: snapshots, asThisService: asThisService, log: log, now: now}
}

// Run recomputes what is due of one shard, a bounded number of portfolios and each for a
// bounded time: the next run goes on.
func (j *RecomputeJob) Run(ctx context.Context, shard, shards int) error {
	ctx, err := j.asThisService(ctx)
	if err != nil {
		return err
	}
	if err := j.adoptPrices(ctx, shard, shards); err != nil {
		return err
	}
	due, err := j.store.DueForRecompute(ctx, shard, shards, j.now(), maxRecomputed)
	if err != nil {
		return err
	}
	stored := 0
	for _, p := range due {
		n, err := j.recompute(ctx, p)
		stored += n
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			j.log.WarnContext(ctx, "snapshots of a portfolio are not recomputed", "portfolio", p.ID, "error", err)
			if err := j.store.RetryRecompute(ctx, p.ID, j.now().Add(recomputeRetry)); err != nil {
				return err
			}
		}
	}
	if len(due) > 0 {
		j.log.InfoContext(ctx, "snapshots recomputed", "shard", shard, "portfolios", len(due), "stored", stored)
	}
	return nil
}

func (j *RecomputeJob) adoptPrices(ctx context.Context, shard, shards int) error {
	if j.prices == nil {
		return nil
	}
	if shard == 0 {
		if err := j.prices.Follow(ctx); err != nil {
			return err
		}
	}
	return j.prices.Reprice(ctx, shard, shards)
}

// recompute takes the snapshots of a portfolio that are out of date, and returns how many
// it stored.
func (j *RecomputeJob) recompute(ctx context.Context, p ToRecompute) (stored int, err error) {
	now := j.now().UTC()
	first := p.From.UTC()
	until := now.Add(-minHourAge).Truncate(time.Hour).Add(time.Hour) // after the last hour that can be read
	b := &backfill{Service: j.snapshots, portfolio: p.Portfolio, which: outOfDate, next: first, until: until,
		budget: recomputeTimeout}
	if err := b.run(ctx); err != nil {
		return b.stored, err
	}
	switch {
	case b.skipped > 0 && b.next.Before(until):
		return b.stored, j.store.Recomputed(ctx, p, first, now.Add(recomputeRetry))
	case b.skipped > 0: // nothing can be said of them, now or for good
		return b.stored, j.store.Recomputed(ctx, p, first, now.Add(skippedRetry))
	case b.next.Before(until): // there was no more time
		return b.stored, j.store.Recomputed(ctx, p, b.next, now)
	case !until.After(now): // the present hour, which is until, can't be read yet
		return b.stored, j.store.Recomputed(ctx, p, later(first, until), until.Add(minHourAge))
	default:
		return b.stored, j.store.Recomputed(ctx, p, time.Time{}, now)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
