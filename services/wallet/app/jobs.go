package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/wallet/internal/sync"
)

const (
	// syncShards of a round, which replicas share.
	syncShards = 4
	// syncTimeout of one shard: less than the time between two rounds.
	syncTimeout = 4 * time.Minute
	// syncRetry is how long after a failure a shard is tried again.
	syncRetry = time.Minute
	keepRuns  = 30 * 24 * time.Hour
)

// runJobs adds the service's jobs to g. They need no account: what they touch
// is the service's own.
func runJobs(g *lifecycle.Group, db *postgres.DB, round *sync.Round, cfg Config, log *slog.Logger) (*jobs.Runner,
	error) {
	runner := jobs.New(db, jobs.Options{Log: log})
	for _, j := range []jobs.Job{
		{
			Name: "sync_wallets", Cron: cfg.SyncCron, Shards: syncShards, Timeout: syncTimeout,
			Backoff: func(int) time.Duration { return syncRetry },
			Run:     func(ctx context.Context, r *jobs.Run) error { return round.Run(ctx, r.Shard, r.Shards) },
		},
		runner.Pruning("@daily", keepRuns),
	} {
		if err := runner.Add(j); err != nil {
			return nil, fmt.Errorf("PURSER_SYNC_CRON: %w", err)
		}
	}
	g.Loop("jobs", func(ctx context.Context) error { return runner.Serve(ctx, cfg.Shutdown.Drain) })
	return runner, nil
}
