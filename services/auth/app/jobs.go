package app

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
)

// How long the history of jobs, sessions that have ended, and that a mail was
// sent, are kept.
const (
	keepRuns     = 30 * 24 * time.Hour
	keepSessions = 30 * 24 * time.Hour
	keepMails    = 7 * 24 * time.Hour
)

// runJobs adds the service's jobs to g, and returns what runs them.
func runJobs(g *lifecycle.Group, db *postgres.DB, rotator *signing.Rotator, mails *store.Mails, post *mail.Outbox,
	cfg Config, log *slog.Logger) (*jobs.Runner, error) {
	chain := audit.NewChain(store.NewAudit(db), log, time.Now)
	sessions, revocations := store.NewSessions(db), store.NewRevocations(db)
	runner := jobs.New(db, jobs.Options{Log: log})
	all := []jobs.Job{
		{
			Name: "rotate_signing_keys", Cron: cfg.Keys.Cron, Timeout: time.Minute,
			Run: func(ctx context.Context, _ *jobs.Run) error { return rotator.Rotate(ctx, false) },
		},
		{
			Name: "forget_used_tokens", Cron: "* * * * *", CatchUp: jobs.CatchUpSkip, Timeout: time.Minute,
			Run: func(ctx context.Context, _ *jobs.Run) error {
				return sessions.Forget(ctx,
					cfg.Session.Recoverable())
			},
		},
		{
			Name: "seal_audit", Cron: "* * * * *", CatchUp: jobs.CatchUpSkip, Timeout: 10 * time.Minute,
			Run: func(ctx context.Context, _ *jobs.Run) error { return chain.Seal(ctx) },
		},
		{
			Name: "prune_sessions", Cron: "17 3 * * *", Timeout: 10 * time.Minute,
			Run: func(ctx context.Context, _ *jobs.Run) error { return sessions.Prune(ctx, keepSessions) },
		},
		{
			Name: "prune_revocations", Cron: "*/10 * * * *", CatchUp: jobs.CatchUpSkip, Timeout: 5 * time.Minute,
			Run: func(ctx context.Context, _ *jobs.Run) error {
				return revocations.Prune(ctx,
					cfg.revocations().Retention())
			},
		},
		{
			Name: "prune_mails", Cron: "27 3 * * *", Timeout: 10 * time.Minute,
			Run: func(ctx context.Context, _ *jobs.Run) error { return mails.Prune(ctx, keepMails) },
		},
		runner.Pruning("@daily", keepRuns),
	}
	if post != nil {
		all = append(all, jobs.Job{
			Name: "send_mails", Cron: "* * * * *", CatchUp: jobs.CatchUpSkip, Timeout: 10 * time.Minute,
			Run: func(ctx context.Context, _ *jobs.Run) error { return post.SendDue(ctx) },
		})
	}
	for _, j := range all {
		if err := runner.Add(j); err != nil {
			return nil, fmt.Errorf("PURSER_KEYS_ROTATION_CRON: %w", err)
		}
	}
	g.Loop("jobs", func(ctx context.Context) error { return runner.Serve(ctx, cfg.Shutdown.Drain) })
	return runner, nil
}
