package jobs

import (
	"context"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/page"
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
	q := r.ledger.db.Gorm(ctx).Table("job_runs").Select(
		`*, coalesce((extract(epoch FROM duration) * 1e9)::bigint, 0) AS took`).
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

// Sizes of a Page.
const (
	defaultPage = 100
	maxPage     = 500
)

// Page is [Runner.Runs] for a caller far away: the rows and the token of the next
// page, "" on the last. size is 1 to 500, and 100 for 0. The error is errs.Invalid
// on page_token for one of another caller or query.
func (r *Runner) Page(ctx context.Context, caller, job string, size int32, token string) (records []Record,
	next string, err error) {
	query := page.NewQuery("ListJobRuns", caller, job)
	last, some, err := page.Parse[Key](query, token)
	if err != nil {
		return nil, "", err
	}
	var after *Key
	if some {
		after = &last
	}
	limit := page.Size(size, defaultPage, maxPage)
	if records, err = r.Runs(ctx, job, after, limit+1); err != nil || len(records) <= limit {
		return records, "", err
	}
	records = records[:limit]
	next, err = page.Token(query, records[limit-1].Key)
	return records, next, err
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
