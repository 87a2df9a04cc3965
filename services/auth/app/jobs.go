package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/signing"
)

// keepRuns is how long the history of jobs is kept.
const keepRuns = 30 * 24 * time.Hour

// runJobs adds the service's jobs to g.
func runJobs(g *lifecycle.Group, db *postgres.DB, rotator *signing.Rotator, cfg Config, log *slog.Logger) error {
	runner := jobs.New(db, jobs.Options{Log: log})
	for _, j := range []jobs.Job{
		{
			Name: "rotate_signing_keys", Cron: cfg.Keys.Cron, Timeout: time.Minute,
			Run: func(ctx context.Context, _ *jobs.Run) error { return rotator.Rotate(ctx, false) },
		},
		runner.Pruning("@daily", keepRuns),
	} {
		if err := runner.Add(j); err != nil {
			return fmt.Errorf("PURSER_KEYS_ROTATION_CRON: %w", err)
		}
	}
	g.Loop("jobs", func(ctx context.Context) error {
		if err := runner.Start(); err != nil {
			return err
		}
		<-ctx.Done()
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), cfg.Shutdown.Drain)
		defer cancel()
		return runner.Shutdown(limit)
	})
	return nil
}
