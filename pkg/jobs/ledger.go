package jobs

import (
	"context"
	_ "embed" // for Schema
	"encoding/json"
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

// ledger is the table job_runs. Every instant in it is the database's.
type ledger struct {
	db  *postgres.DB
	now string // the database's clock, in SQL
	// claimQuery is a field so that a test can show what it protects from.
	claimQuery string
}

type args = map[string]any

// query puts the clock into a statement.
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

// situation is what a poll sees of one job.
type situation struct {
	Job                string
	Now, PlannedUntil  time.Time
	Claimable, Expired bool
}

func (l ledger) look(ctx context.Context, jobs []string) (found []situation, err error) {
	return found, l.scan(l.db.Gorm(ctx), &found, `
		SELECT s.job, s.planned_until, c.now,
		  EXISTS (SELECT FROM job_runs r WHERE r.job = s.job AND state = 'due' AND next_attempt_at <= c.now) AS claimable,
		  EXISTS (SELECT FROM job_runs r WHERE r.job = s.job AND state = 'running' AND lease_until < c.now) AS expired
		FROM job_schedules s, (SELECT {now} AS now) AS c WHERE s.job IN @jobs`, args{"jobs": jobs})
}

// enter begins a job's schedule: ticks from now on are due.
func (l ledger) enter(ctx context.Context, job string) error {
	_, err := l.exec(l.db.Gorm(ctx), `INSERT INTO job_schedules VALUES (@job, {now}) ON CONFLICT DO NOTHING`,
		args{"job": job})
	return err
}

// plan writes ticks with all their shards, one row for those that were missed,
// and gives up runs older than the newest that the policy keeps: as many as it
// returns. It does nothing, and returns nothing, when another replica was first.
func (l ledger) plan(ctx context.Context, j *job, after time.Time, p plan) (superseded []int, err error) {
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
		    ORDER BY scheduled_at DESC OFFSET @kept LIMIT 1)
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
			"ticks": string(ticks), "missed": p.missed, "missed_until": p.missedUntil, "kept": p.kept})
}

// trigger never takes a tick's place, which is a whole second, and asks again
// when another trigger had the same microsecond.
func (l ledger) trigger(ctx context.Context, j *job) error {
	for later := 0; ; later++ {
		n, err := l.exec(l.db.Gorm(ctx), `
			INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at, manual)
			SELECT @job, at, shard, @shards, now, true
			FROM (SELECT now, now + @later * interval '1 microsecond' AS at FROM (SELECT {now} AS now) AS c) AS c,
			  generate_series(0, @shards - 1) AS shard
			WHERE at <> date_trunc('second', at)`, args{"job": j.Name, "shards": j.Shards, "later": later})
		if n > 0 || err != nil && !postgres.IsUniqueViolation(err, "job_runs_pkey") {
			return err
		}
	}
}

// claimQuery takes the oldest run that is due, unless another of its shard is
// under way. A row that another replica is just claiming is passed over.
const claimQuery = `
	WITH next AS (
	  SELECT job, scheduled_at, shard FROM job_runs r
	  WHERE job = @job AND state = 'due' AND next_attempt_at <= {now}
	    AND NOT EXISTS (SELECT FROM job_runs o WHERE o.job = r.job AND o.shard = r.shard AND o.state = 'running')
	  ORDER BY scheduled_at, shard LIMIT 1 FOR UPDATE SKIP LOCKED)
	UPDATE job_runs r SET state = 'running', sequence = nextval('job_runs_sequence'), attempt = attempt + 1, claimed_by = @by,
	  started_at = {now}, finished_at = NULL, lease_until = {now} + @lease * interval '1 microsecond'
	FROM next WHERE r.job = next.job AND r.scheduled_at = next.scheduled_at AND r.shard = next.shard
	RETURNING r.job, r.scheduled_at, r.shard, r.shards, r.attempt, r.crashes, r.sequence`

// claim returns nothing when there is nothing to claim, or when another tick of
// the shard was claimed at the same moment.
func (l ledger) claim(ctx context.Context, job, by string, lease time.Duration) (claimed []*Run, err error) {
	err = l.scan(l.db.Gorm(ctx), &claimed, l.claimQuery, args{"job": job, "by": by, "lease": lease.Microseconds()})
	if postgres.IsUniqueViolation(err, "job_runs_one_running") {
		return nil, nil
	}
	return claimed, err
}

// mine is the row of a run as long as nobody else has claimed it.
const mine = ` WHERE job = @job AND scheduled_at = @at AND shard = @shard AND sequence = @sequence`

func (r *Run) args() args {
	return args{"job": r.Job, "at": r.ScheduledAt, "shard": r.Shard, "sequence": r.Sequence}
}

// renew reports whether the run is still this replica's, under way or done.
func (l ledger) renew(ctx context.Context, r *Run, lease time.Duration) (bool, error) {
	a := r.args()
	a["lease"] = lease.Microseconds()
	n, err := l.exec(l.db.Gorm(ctx), `UPDATE job_runs SET lease_until = {now} + @lease * interval '1 microsecond'`+
		mine+` AND state IN ('running', 'done')`, a)
	return n == 1, err
}

// outcome is how an attempt ended: done, or due again after a wait.
type outcome struct {
	done    bool
	wait    time.Duration
	error   string
	crashes int
}

// settle reports false when the run isn't under way any more, or not for this
// replica.
func (l ledger) settle(tx *gorm.DB, r *Run, o outcome) (bool, error) {
	a := r.args()
	a["done"], a["wait"], a["error"], a["crashes"] = o.done, o.wait.Microseconds(), o.error, o.crashes
	n, err := l.exec(tx, `UPDATE job_runs SET state = CASE WHEN @done THEN 'done' ELSE 'due' END, finished_at = {now}, lease_until = NULL,
		next_attempt_at = CASE WHEN @done THEN next_attempt_at ELSE {now} + @wait * interval '1 microsecond' END,
		error = CASE WHEN @done THEN error ELSE @error END, crashes = crashes + @crashes`+mine+` AND state = 'running'`, a)
	return n == 1, err
}

// reap makes runs due again whose lease has run out, and returns them with how
// long each is to wait. A row that a transaction of effects holds is left.
func (l ledger) reap(ctx context.Context, job string, wait func(*Run) time.Duration) (gone []*Run, err error) {
	return gone, postgres.InTx(ctx, l.db, func(tx *gorm.DB) error {
		gone = nil
		err := l.scan(tx, &gone, `SELECT job, scheduled_at, shard, shards, attempt, crashes, sequence FROM job_runs
			WHERE job = @job AND state = 'running' AND lease_until < {now} FOR UPDATE SKIP LOCKED`, args{"job": job})
		for i := 0; i < len(gone) && err == nil; i++ {
			_, err = l.settle(tx, gone[i], outcome{wait: wait(gone[i]), error: "the lease ran out", crashes: 1})
		}
		return err
	})
}
