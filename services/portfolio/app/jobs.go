package app

import (
	"context"
	"log/slog"
	"time"

	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/partition"
	"github.com/purserhq/purser/services/portfolio/internal/holdings"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/store"
)

const (
	// snapshotShards is how many runs a tick has, which replicas share.
	snapshotShards = 4
	// snapshotTimeout bounds one run: less than the hour that it is for.
	snapshotTimeout = 50 * time.Minute
	// snapshotRetryDelay is how long after a failure a run is tried again.
	snapshotRetryDelay = time.Minute
)

// snapshotJobs takes everybody's snapshots, and calls taken after each run. Without a service account there is no
// such job.
func snapshotJobs(self chassis.Identity, portfolios *store.Portfolios, current snapshot.Holdings,
	service *snapshot.Service, snapshots *store.Snapshots,
	wallet *holdings.Reader, prices *holdings.PriceFeed, taken func(), cfg Config, log *slog.Logger) []chassis.Job {
	if self == nil {
		log.Warn("PURSER_SERVICE_ID is not set: no snapshots are taken by schedule, only those that callers ask for")
		return nil
	}
	hourly := snapshot.NewHourlyJob(portfolios, current, snapshots, wallet, self, log, time.Now)
	follower := snapshot.NewPriceFollower(snapshots, prices, log, time.Now)
	return []chassis.Job{recomputeJob(self, portfolios, service, follower, cfg, log), {
		CronSetting: "PURSER_SNAPSHOT_CRON",
		Job: jobs.Job{
			Name: "take_snapshots", Cron: cfg.SnapshotCron, Shards: snapshotShards, Timeout: snapshotTimeout,
			Backoff: func(int) time.Duration { return snapshotRetryDelay },
			Run: func(ctx context.Context, r *jobs.Run) error {
				defer taken()
				return hourly.Run(ctx, r.Shard, r.Shards)
			},
		},
	}}
}

// partitionsJob makes the partitions of the coming months, and forgets what is older than is kept.
func partitionsJob(partitions *partition.Partitions, snapshots *store.Snapshots, cfg Config,
	log *slog.Logger) chassis.Job {
	maker := partition.NewMaker(partitions, cfg.History, log, time.Now).BeforeDrop(snapshots.PruneSnapshots)
	return chassis.Job{Job: maker.Job(partitionsTimeout)}
}

// partitionsTimeout bounds a run of partitionsJob; what is left is for the next one.
const partitionsTimeout = 30 * time.Minute

const (
	// recomputeShards is how many runs a tick has that takes snapshots again.
	recomputeShards  = 4
	recomputeTimeout = 10 * time.Minute
)

// recomputeJob takes snapshots again that are out of date, and values those anew whose prices changed.
func recomputeJob(self chassis.Identity, portfolios *store.Portfolios, service *snapshot.Service,
	prices *snapshot.PriceFollower, cfg Config, log *slog.Logger) chassis.Job {
	recompute := snapshot.NewRecomputeJob(portfolios, service, self, log, time.Now).FollowPrices(prices)
	return chassis.Job{
		CronSetting: "PURSER_RECOMPUTE_CRON",
		Job: jobs.Job{
			Name: "recompute_snapshots", Cron: cfg.RecomputeCron, Shards: recomputeShards, Timeout: recomputeTimeout,
			Backoff: func(int) time.Duration { return snapshotRetryDelay },
			Run:     func(ctx context.Context, r *jobs.Run) error { return recompute.Run(ctx, r.Shard, r.Shards) },
		},
	}
}
