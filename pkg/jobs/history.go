package jobs

import (
	"context"
	"strings"
	"time"
)

// Key names a row of the ledger, and the place in its history.
type Key struct {
	ScheduledAt time.Time
	Job         string
	Shard       int
}

// Record is one row of the ledger. Its instants are the database's.
type Record struct {
	Key
	Shards        int
	Manual        bool   // by Trigger
	State         string // due, running, done or skipped; due after Attempt > 0 waits to be tried again
	Missed        int    // of a skipped row: how many ticks up to this one it stands for; 0 is itself alone
	Attempt       int    // begun so far
	Crashes       int    // of those, ended with their process
	ClaimedBy     string
	NextAttemptAt time.Time
	StartedAt     *time.Time // of the last attempt, as are the next two
	FinishedAt    *time.Time
	Duration      time.Duration `gorm:"column:took"` // 0 while it runs
	Error         string        // of the last attempt that failed
}

// Runs returns rows of a job, or of all for "", newest first: at most limit,
// after the given last row of the page before or from the newest for nil.
func (r *Runner) Runs(ctx context.Context, job string, after *Key, limit int) ([]Record, error) {
	if strings.ContainsRune(job, 0) { // which no text in Postgres can hold
		return nil, nil
	}
	q := r.ledger.db.Gorm(ctx).Table("job_runs").Select(`*, coalesce((extract(epoch FROM duration) * 1e9)::bigint, 0) AS took`).
		Order("scheduled_at DESC, job DESC, shard DESC").Limit(limit)
	if job != "" {
		q = q.Where("job = ?", job)
	}
	if after != nil {
		q = q.Where("(scheduled_at, job, shard) < (?, ?, ?)", after.ScheduledAt, after.Job, after.Shard)
	}
	var records []Record
	return records, wrap(q.Scan(&records).Error)
}

// pruneMost is how many rows one statement deletes, to stay within its timeout.
const pruneMost = 5000

// Pruning is a job, to be added like any other, that deletes rows in which
// nothing has happened for longer than keep. Those of a job that no replica
// has any more go too, run or not.
func (r *Runner) Pruning(cron string, keep time.Duration) Job {
	return Job{Name: "prune_job_runs", Cron: cron, Run: func(ctx context.Context, _ *Run) error {
		for {
			n, err := r.ledger.exec(r.ledger.db.Gorm(ctx), `DELETE FROM job_runs WHERE (job, scheduled_at, shard) IN (
				SELECT job, scheduled_at, shard FROM job_runs
				WHERE greatest(next_attempt_at, lease_until, finished_at) < {now} - @keep * interval '1 microsecond' LIMIT @most)`,
				args{"keep": keep.Microseconds(), "most": pruneMost})
			if err != nil || n < pruneMost {
				return err
			}
		}
	}}
}
