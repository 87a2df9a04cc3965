package app

import (
	"context"
	"errors"
	"time"

	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/services/auth/internal/admin"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/deletion"
	"github.com/purserhq/purser/services/auth/internal/mail"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/internal/chassis"
)

const (
	// sessionRetention is how long sessions that have ended are kept.
	sessionRetention = 30 * 24 * time.Hour
	// mailRetention is how long it is kept that a mail was sent.
	mailRetention = 7 * 24 * time.Hour
)

// addJobs adds the service's jobs. sender is nil when there is no SMTP server.
func addJobs(b *chassis.Builder, rotator *signing.Rotator, mails *store.Mails, sender *mail.Outbox,
	users *admin.Service, deletions *deletion.Service, cfg Config) (*chassis.Jobs, error) {
	sessions, revocations := store.NewSessions(b.DB), store.NewRevocations(b.DB)
	auditChain := audit.NewChain(store.NewAudit(b.DB), b.Log, time.Now)
	all := []chassis.Job{
		{
			CronSetting: "PURSER_KEYS_ROTATION_CRON",
			Job: jobs.Job{
				Name: "rotate_signing_keys", Cron: cfg.Keys.Cron, Timeout: time.Minute,
				Run: func(ctx context.Context, _ *jobs.Run) error { return rotator.Rotate(ctx, false) },
			},
		},
		job("forget_used_tokens", "* * * * *", time.Minute, jobs.CatchUpSkip, func(ctx context.Context) error {
			return sessions.EraseSuccessors(ctx, cfg.Session.Recoverable())
		}),
		job("delete_accounts", "* * * * *", 10*time.Minute, jobs.CatchUpSkip, deletions.DeleteDue),
		job("seal_audit", "* * * * *", 10*time.Minute, jobs.CatchUpSkip, auditChain.Seal),
		job("remove_second_factors", "* * * * *", time.Minute, jobs.CatchUpSkip, users.RemoveDue),
		job("prune_sessions", "17 3 * * *", 10*time.Minute, jobs.CatchUpLast, func(ctx context.Context) error {
			return errors.Join(sessions.Prune(ctx, sessionRetention), sessions.PruneDevices(ctx))
		}),
		job("prune_revocations", "*/10 * * * *", 5*time.Minute, jobs.CatchUpSkip, func(ctx context.Context) error {
			return revocations.Prune(ctx, cfg.revocations().Retention())
		}),
		job("prune_mails", "27 3 * * *", 10*time.Minute, jobs.CatchUpLast, func(ctx context.Context) error {
			return mails.Prune(ctx, mailRetention)
		}),
	}
	if sender != nil {
		all = append(all, job("send_mails", "* * * * *", 10*time.Minute, jobs.CatchUpSkip, sender.SendDue))
	}
	return b.AddJobs(all...)
}

// job is one with a fixed schedule.
func job(name, cron string, timeout time.Duration, catchUp jobs.CatchUpPolicy,
	run func(context.Context) error) chassis.Job {
	return chassis.Job{Job: jobs.Job{
		Name: name, Cron: cron, Timeout: timeout, CatchUp: catchUp,
		Run: func(ctx context.Context, _ *jobs.Run) error { return run(ctx) },
	}}
}
