package jobs

import (
	"context"
	_ "embed" // for Schema
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
)

// Schema is the ledger's tables. A service puts it into a migration of its own.
//
//go:embed schema.sql
var Schema string

// ledger is the tables job_schedules and job_runs. All times in it are read
// from the database's clock.
type ledger struct {
	db  *postgres.DB
	now string // the database's clock as SQL; a field so that tests can set it
	// claimQuery is a field so that a test can remove a part of it and show that
	// the part is needed.
	claimQuery string
}

type args = map[string]any

// query replaces {now} in a statement by the clock.
func (l ledger) query(sql string) string { return strings.ReplaceAll(sql, "{now}", l.now) }

func (l ledger) exec(tx *gorm.DB, sql string, a args) (int64, error) {
	result := tx.Exec(l.query(sql), a)
	return result.RowsAffected, wrap(result.Error)
}

func (l ledger) scan(tx *gorm.DB, to any, sql string, a args) error {
	return wrap(tx.Raw(l.query(sql), a).Scan(to).Error)
}

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("jobs: ledger: %w", err)
}

// jobState is what a poll reads of one job.
type jobState struct {
	Job                string
	Now, PlannedUntil  time.Time
	Claimable, Expired bool
}

// jobStates returns the state of each job that has a schedule in the ledger.
func (l ledger) jobStates(ctx context.Context, jobs []string) (states []jobState, err error) {
	return states, l.scan(l.db.Gorm(ctx), &states, `
		SELECT s.job, s.planned_until, c.now,
		  EXISTS (SELECT FROM job_runs r
		    WHERE r.job = s.job AND state = 'due' AND next_attempt_at <= c.now) AS claimable,
		  EXISTS (SELECT FROM job_runs r
		    WHERE r.job = s.job AND state = 'running' AND lease_until < c.now) AS expired
		FROM job_schedules s, (SELECT {now} AS now) AS c WHERE s.job IN @jobs`, args{"jobs": jobs})
}

// insertSchedule begins a job's schedule: its ticks from now on are due.
func (l ledger) insertSchedule(ctx context.Context, job string) error {
	_, err := l.exec(l.db.Gorm(ctx), `
		INSERT INTO job_schedules (job, planned_until) VALUES (@job, {now}) ON CONFLICT DO NOTHING`, args{"job": job})
	return err
}

// insertTicks writes p's ticks with all their shards and one row that stands for
// the missed ones. Runs of older ticks that are still due and that the policy
// doesn't keep become skipped; superseded holds their number. It is empty when
// another replica has written these ticks, in which case nothing is changed.
func (l ledger) insertTicks(ctx context.Context, j *job, after time.Time, p dueTicks) (superseded []int, err error) {
	ticks, err := json.Marshal(append([]time.Time{}, p.ticks...))
	if err != nil {
		return nil, wrap(err)
	}
	return superseded, l.scan(l.db.Gorm(ctx), &superseded, `
		WITH moved AS (
		  UPDATE job_schedules SET planned_until = @until WHERE job = @job AND planned_until = @after RETURNING job),
		superseded AS (
		  UPDATE job_runs r SET state = 'skipped', finished_at = coalesce(finished_at, {now}) FROM moved
		  WHERE r.job = moved.job AND state = 'due' AND NOT manual AND scheduled_at <= (
		    SELECT scheduled_at FROM job_runs WHERE job = @job AND NOT manual AND shard = 0
		    ORDER BY scheduled_at DESC OFFSET @keep LIMIT 1)
		  RETURNING 1),
		missed AS (
		  INSERT INTO job_runs (job, scheduled_at, shard, shards, state, missed, next_attempt_at, finished_at)
		  SELECT job, @missed_until, 0, @shards, 'skipped', @missed, @missed_until, {now} FROM moved WHERE @missed > 0
		  ON CONFLICT DO NOTHING),
		planned AS (
		  INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at)
		  SELECT job, t::timestamptz, shard, @shards, t::timestamptz + random() * @jitter * interval '1 microsecond'
		  FROM moved, json_array_elements_text(CAST(@ticks AS json)) AS t, generate_series(0, @shards - 1) AS shard
		  ON CONFLICT DO NOTHING)
		SELECT (SELECT count(*) FROM superseded) FROM moved`,
		args{"job": j.Name, "shards": j.Shards, "jitter": j.Jitter.Microseconds(), "after": after, "until": p.until,
			"ticks": string(ticks), "missed": p.missed, "missed_until": p.missedUntil, "keep": p.keepEarlier})
}

// insertManual writes a run that is due now. Its time is never a whole second,
// which is reserved for ticks. When another manual run has the same microsecond
// it takes the next one. also runs in the same transaction; its error undoes all.
func (l ledger) insertManual(ctx context.Context, j *job, also func(tx *gorm.DB) error) error {
	for later := 0; ; later++ {
		err := postgres.InTx(ctx, l.db, func(tx *gorm.DB) error {
			if also != nil {
				if err := also(tx); err != nil {
					return err
				}
			}
			n, err := l.exec(tx, `
				INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at, manual)
				SELECT @job, at, shard, @shards, now, true
				FROM (SELECT now, now + @later * interval '1 microsecond' AS at
				  FROM (SELECT {now} AS now) AS c) AS c,
				  generate_series(0, @shards - 1) AS shard
				WHERE at <> date_trunc('second', at)`, args{"job": j.Name, "shards": j.Shards, "later": later})
			if err == nil && n == 0 {
				err = errWholeSecond
			}
			return err
		})
		if !errors.Is(err, errWholeSecond) && !postgres.IsUniqueViolation(err, "job_runs_pkey") {
			return err
		}
	}
}

// errWholeSecond undoes the transaction of a manual run whose time would be that of a tick.
var errWholeSecond = errors.New("jobs: a whole second")

// claimQuery claims the oldest run that is due and whose shard has no other run
// running. Rows that another replica is claiming are skipped. It reads the runs in
// the order of the index job_runs_open up to the first, however many are due: what
// runs is counted, since the planner may make a join of all due runs of NOT EXISTS.
const claimQuery = `
	WITH next AS (
	  SELECT job, scheduled_at, shard FROM job_runs r
	  WHERE job = @job AND state = 'due' AND next_attempt_at <= {now}
	    AND (SELECT count(*) FROM job_runs o WHERE o.job = r.job AND o.shard = r.shard AND o.state = 'running') = 0
	  ORDER BY scheduled_at, shard LIMIT 1 FOR UPDATE SKIP LOCKED)
	UPDATE job_runs r SET state = 'running', sequence = nextval('job_runs_sequence'), attempt = attempt + 1,
	  claimed_by = @by, started_at = {now}, finished_at = NULL, lease_until = {now} + @lease * interval '1 microsecond'
	FROM next WHERE r.job = next.job AND r.scheduled_at = next.scheduled_at AND r.shard = next.shard
	RETURNING r.job, r.scheduled_at, r.shard, r.shards, r.attempt, r.crashes, r.sequence`

// claimRun returns nil when no run can be claimed, or when another tick of the
// shard was claimed at the same moment.
func (l ledger) claimRun(ctx context.Context, job, by string, lease time.Duration) (claimed []*Run, err error) {
	err = l.scan(l.db.Gorm(ctx), &claimed, l.claimQuery, args{"job": job, "by": by, "lease": lease.Microseconds()})
	if postgres.IsUniqueViolation(err, "job_runs_one_running") {
		return nil, nil
	}
	return claimed, err
}

// whereClaimed selects the row of a run unless it was claimed again since.
const whereClaimed = ` WHERE job = @job AND scheduled_at = @at AND shard = @shard AND sequence = @sequence`

func (r *Run) args() args {
	return args{"job": r.Job, "at": r.ScheduledAt, "shard": r.Shard, "sequence": r.Sequence}
}

// renewLease reports whether the claim is still this replica's: nobody has claimed
// the run since and it is running, or done by [Run.Commit].
func (l ledger) renewLease(ctx context.Context, r *Run, lease time.Duration) (bool, error) {
	a := r.args()
	a["lease"] = lease.Microseconds()
	n, err := l.exec(l.db.Gorm(ctx), `UPDATE job_runs SET lease_until = {now} + @lease * interval '1 microsecond'`+
		whereClaimed+` AND state IN ('running', 'done')`, a)
	return n == 1, err
}

// finishAttempt writes how an attempt ended. It reports false, and changes
// nothing, when the run is not running or was claimed again since.
func (l ledger) finishAttempt(tx *gorm.DB, r *Run, o outcome) (bool, error) {
	a := r.args()
	a["done"], a["wait"], a["error"], a["crashes"] = o.done, o.retryAfter.Microseconds(), o.error, o.crashes
	n, err := l.exec(tx, `UPDATE job_runs SET
		state = CASE WHEN @done THEN 'done' ELSE 'due' END, finished_at = {now}, lease_until = NULL,
		next_attempt_at = CASE WHEN @done THEN next_attempt_at ELSE {now} + @wait * interval '1 microsecond' END,
		error = CASE WHEN @done THEN error ELSE @error END, crashes = crashes + @crashes`+
		whereClaimed+` AND state = 'running'`, a)
	return n == 1, err
}

// expireLeases ends the attempts of running runs whose lease has expired with
// the outcome that decide returns, and returns these runs. It skips rows locked
// by a transaction that has called [Run.Commit].
func (l ledger) expireLeases(ctx context.Context, job string, decide func(*Run) outcome) (expired []*Run, err error) {
	return expired, postgres.InTx(ctx, l.db, func(tx *gorm.DB) error {
		expired = nil // the transaction may be run again
		err := l.scan(tx, &expired, `SELECT job, scheduled_at, shard, shards, attempt, crashes, sequence FROM job_runs
			WHERE job = @job AND state = 'running' AND lease_until < {now} FOR UPDATE SKIP LOCKED`, args{"job": job})
		if err != nil {
			return err
		}
		for _, run := range expired {
			if _, err := l.finishAttempt(tx, run, decide(run)); err != nil {
				return err
			}
		}
		return nil
	})
}
