package snapshot

import (
	"context"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// jobPageSize is how many portfolios the hourly job reads at once.
const jobPageSize = 200

// DuePortfolios are the portfolios of all users that lack a snapshot.
type DuePortfolios interface {
	// DueForSnapshot returns up to limit portfolios of one of shards shards that have
	// no complete snapshot in this bucket, by id and only those after an id.
	DueForSnapshot(ctx context.Context, bucket time.Time, shard, shards int, after uuid.UUID,
		limit int) ([]portfolio.Portfolio, error)
}

// HourlyJob takes the current hour's snapshot of every portfolio, as this service's
// own account. It is safe for concurrent use.
//
// It promises: snapshots taken before a failure stay, and the next attempt goes on
// with the portfolios that lack one. It fails and stores nothing while the wallet
// service is unavailable, and while auth is for longer than the service's token
// lasts: an hour that passes like this has no snapshot.
type HourlyJob struct {
	portfolios    DuePortfolios
	snapshots     *Service
	asThisService func(context.Context) (context.Context, error)
	log           *slog.Logger
	now           func() time.Time
}

// NewHourlyJob returns the job. asThisService returns a context for calls with a
// token of this service's own account.
func NewHourlyJob(p DuePortfolios, s *Service, asThisService func(context.Context) (context.Context, error),
	log *slog.Logger, now func() time.Time) *HourlyJob {
	return &HourlyJob{portfolios: p, snapshots: s, asThisService: asThisService, log: log, now: now}
}

// Run takes the snapshots that are due in one shard. It skips portfolios without
// wallets and those that can't be valued.
func (j *HourlyJob) Run(ctx context.Context, shard, shards int) error {
	stored, skipped := 0, 0
	bucket := j.now().UTC().Truncate(time.Hour)
	for after := uuid.Nil; ; {
		due, err := j.portfolios.DueForSnapshot(ctx, bucket, shard, shards, after, jobPageSize)
		if err != nil {
			return err
		}
		for _, p := range due {
			after = p.ID
			ok, err := j.take(ctx, p)
			switch {
			case err != nil:
				return err
			case ok:
				stored++
			default:
				skipped++
			}
		}
		if len(due) < jobPageSize {
			j.log.InfoContext(ctx, "snapshots taken", "hour", bucket, "shard", shard, "stored", stored, "skipped",
				skipped)
			return nil
		}
	}
}

// take stores the snapshot of one portfolio, or returns false if it skips it. An
// error would keep the other portfolios' snapshots from being taken too.
func (j *HourlyJob) take(ctx context.Context, p portfolio.Portfolio) (stored bool, err error) {
	ctx, err = j.asThisService(ctx)
	if err != nil {
		return false, err
	}
	v, err := j.snapshots.value(ctx, p)
	if errs.Is(err, errs.KindExhausted) { // TOO_MANY_HOLDINGS
		j.log.WarnContext(ctx, "portfolio skipped", "portfolio", p.ID, "error", err)
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if v.Wallets == 0 || rejectUnknownZero(v) != nil {
		return false, nil //nolint:nilerr // a portfolio that can't be valued doesn't stop the job
	}
	_, stored, err = j.snapshots.store.Save(ctx, p, v.ValuationTime.UTC().Truncate(time.Hour), v)
	if errs.Is(err, errs.KindNotFound) { // deleted meanwhile, with its owner
		return false, nil
	}
	return stored, err
}
