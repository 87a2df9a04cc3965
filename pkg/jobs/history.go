package jobs

import (
	"context"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/page"
)

// Key identifies a row of the ledger and its place in the history.
type Key struct {
	ScheduledAt time.Time
	Job         string
	Shard       int
}

// Record is one row of the ledger. Its times are read from the database's clock.
type Record struct {
	Key
	Shards        int
	Manual        bool   // by Trigger
	State         string // due, running, done or skipped; due with Attempt > 0 waits for a retry
	Missed        int    // of a skipped row: the number of ticks up to this one that it stands for; 0: itself
	Attempt       int    // attempts begun so far
	Crashes       int    // attempts whose lease expired
	ClaimedBy     string
	NextAttemptAt time.Time
	StartedAt     *time.Time // of the last attempt, as FinishedAt and Duration
	FinishedAt    *time.Time
	Duration      time.Duration `gorm:"column:took"` // 0 while it runs
	Error         string        // of the last attempt that failed
}

// Runs returns at most limit rows of a job, or of all jobs for "", newest first.
// They come after the row of key after, or begin with the newest when it is nil.
func (r *Runner) Runs(ctx context.Context, job string, after *Key, limit int) ([]Record, error) {
	if strings.ContainsRune(job, 0) { // no text in Postgres has one
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

const (
	defaultPageSize = 100
	maxPageSize     = 500
)

// Page is [Runner.Runs] for an API with page tokens. It returns the rows and the
// token of the next page, which is "" on the last page. size is 1 to 500, and 0 for
// 100; a page ends by its bytes too ([page.MaxBytes]). The error is errs.Invalid on page_token when the
// token belongs to another
// caller or query.
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
	limit := page.Size(size, defaultPageSize, maxPageSize)
	if records, err = r.Runs(ctx, job, after, limit+1); err != nil {
		return nil, "", err
	}
	n := min(limit, fitting(records))
	if n == len(records) {
		return records, "", nil
	}
	records = records[:n]
	next, err = page.Token(query, records[n-1].Key)
	return records, next, err
}

// recordBytes is what a row takes at most in a message, beside its texts: times, numbers and the names of fields.
const recordBytes = 160

// fitting returns how many of the rows fit into a page's bytes: at least one, if there is one.
func fitting(records []Record) int {
	size := 0
	for i, r := range records {
		if size += recordBytes + len(r.Job) + len(r.Error); size > page.MaxBytes && i > 0 {
			return i
		}
	}
	return len(records)
}

// pruneBatch is how many rows one statement deletes, to stay within the statement
// timeout.
const pruneBatch = 5000

// Pruning returns a job named prune_job_runs, to be added like any other. It
// deletes rows that nothing has happened to for longer than keep, also those of
// jobs that no replica has any more, in whatever state.
func (r *Runner) Pruning(cron string, keep time.Duration) Job {
	return Job{Name: "prune_job_runs", Cron: cron, Run: func(ctx context.Context, _ *Run) error {
		for {
			n, err := r.ledger.exec(r.ledger.db.Gorm(ctx), `DELETE FROM job_runs WHERE (job, scheduled_at, shard) IN (
				SELECT job, scheduled_at, shard FROM job_runs
				WHERE greatest(next_attempt_at, lease_until, finished_at) < {now} - @keep * interval '1 microsecond'
				LIMIT @batch)`,
				args{"keep": keep.Microseconds(), "batch": pruneBatch})
			if err != nil || n < pruneBatch {
				return err
			}
		}
	}}
}
