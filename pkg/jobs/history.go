package jobs

import (
	"context"
	"fmt"
	"time"
)

// Record is one row of the ledger.
type Record struct {
	Job           string
	ScheduledAt   time.Time
	Shard, Shards int
	Manual        bool
	State         string // due, running, done or skipped; due with an Error waits for its next attempt
	Attempt       int
	ClaimedBy     string
	NextAttemptAt time.Time
	StartedAt     *time.Time
	FinishedAt    *time.Time
	Error         string
}

// Runs returns the newest rows of a job, or of all for "", at most limit.
func (r *Runner) Runs(ctx context.Context, name string, limit int) ([]Record, error) {
	var records []Record
	err := r.ledger.db.Gorm(ctx).Raw(`SELECT job, scheduled_at, shard, shards, manual, state, attempt, claimed_by,
		next_attempt_at, started_at, finished_at, error
		FROM job_runs WHERE ? IN ('', job) ORDER BY scheduled_at DESC, job, shard LIMIT ?`, name, limit).Scan(&records).Error
	if err != nil {
		return nil, fmt.Errorf("jobs: ledger: %w", err)
	}
	return records, nil
}

// Pruning is a job, to be added like any other, that deletes rows which ended
// more than keep ago, but never a job's newest tick: the next is counted from it.
func (r *Runner) Pruning(cron string, keep time.Duration) Job {
	return Job{Name: "prune_job_runs", Cron: cron, Run: func(ctx context.Context, _ *Run) error {
		_, err := r.ledger.exec(r.ledger.db.Gorm(ctx), `DELETE FROM job_runs r
			WHERE state IN ('done', 'skipped') AND finished_at < {now} - ? * interval '1 microsecond'
			AND (manual OR scheduled_at < (SELECT max(scheduled_at) FROM job_runs m WHERE m.job = r.job AND NOT m.manual))`,
			keep.Microseconds())
		return err
	}}
}
