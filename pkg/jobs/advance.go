package jobs

import (
	"context"
	"encoding/json"
	"time"

	"github.com/purserhq/purser/pkg/postgres"
)

// endedRow is one run of a batch as advance and settle write it.
type endedRow struct {
	At       time.Time `json:"at"`
	Sequence int64     `json:"sequence"`
	Attempt  int       `json:"attempt"`
	Released bool      `json:"released"` // not begun: due again as if it had not been claimed
	Done     bool      `json:"done"`
	Wait     int64     `json:"wait"` // µs until the next attempt
	Ago      int64     `json:"ago"`  // µs since it ended
	Took     int64     `json:"took"` // µs
	Error    string    `json:"error"`
}

// endedRuns begins a statement that ends runs that are running, or held in a batch behind one that is.
const endedRuns = `
	WITH ended AS MATERIALIZED (
	  SELECT e.* FROM json_to_recordset(CAST(@ended AS json)) AS e(at timestamptz, sequence bigint, attempt integer,
	    released boolean, done boolean, wait bigint, ago bigint, took bigint, error text)),`

const finished = `
	finished AS (
	  UPDATE job_runs r SET
	    state = CASE WHEN e.done THEN 'done' ELSE 'due' END, lease_until = NULL, attempt = e.attempt,
	    claimed_by = CASE WHEN e.released THEN '' ELSE r.claimed_by END,
	    started_at = CASE WHEN e.released OR r.state = 'running' THEN r.started_at
	      ELSE {now} - (e.ago + e.took) * interval '1 microsecond' END,
	    finished_at = CASE WHEN e.released THEN r.finished_at
	      ELSE greatest({now} - e.ago * interval '1 microsecond', r.started_at) END,
	    next_attempt_at = CASE WHEN e.released OR e.done THEN r.next_attempt_at
	      ELSE {now} + e.wait * interval '1 microsecond' END,
	    error = CASE WHEN e.released OR e.done THEN r.error ELSE e.error END
	  FROM ended e
	  WHERE r.job = @job AND r.scheduled_at = e.at AND r.shard = @shard AND r.sequence = e.sequence
	    AND (r.state = 'running' OR r.state = 'due' AND r.lease_until IS NOT NULL)`

const returned = `
	  RETURNING r.sequence),`

// advanceQuery ends the runs of a batch and claims the next one: the oldest run that is due as claimQuery does, and
// with it up to @more that come after it in its shard. These stay due and are held: the one that is running keeps
// others out of the shard. The claim waits for the ends, which free the shard. A run that has failed, crashed or was
// held by a process that died is claimed alone, so that it is known which run ends its process.
const advanceQuery = endedRuns + finished + returned + `
	head AS (
	  SELECT r.job, r.scheduled_at, r.shard, attempt = 0 AND crashes = 0 AND lease_until IS NULL AS fresh
	  FROM job_runs r
	  WHERE @claim AND r.job = @job AND r.state = 'due' AND r.next_attempt_at <= {now}
	    AND r.sequence NOT IN (SELECT sequence FROM ended)
	    AND NOT EXISTS (SELECT FROM job_runs o WHERE o.job = r.job AND o.shard = r.shard AND o.state = 'running'
	      AND o.sequence NOT IN (SELECT sequence FROM ended))
	  ORDER BY r.scheduled_at, r.shard LIMIT 1 FOR UPDATE OF r SKIP LOCKED),
	behind AS (
	  SELECT r.job, r.scheduled_at, r.shard FROM head h
	  JOIN job_runs r ON r.job = h.job AND r.shard = h.shard AND r.scheduled_at > h.scheduled_at
	  WHERE h.fresh AND r.state = 'due' AND r.next_attempt_at <= {now}
	    AND r.attempt = 0 AND r.crashes = 0 AND r.lease_until IS NULL
	  ORDER BY r.scheduled_at LIMIT @more FOR UPDATE OF r SKIP LOCKED),
	taken AS MATERIALIZED (
	  SELECT x.*, nextval('job_runs_sequence') AS next FROM (
	    SELECT job, scheduled_at, shard, 1 AS begun FROM head
	    UNION ALL SELECT job, scheduled_at, shard, 0 FROM behind ORDER BY scheduled_at) AS x),
	claimed AS (
	  UPDATE job_runs r SET state = CASE WHEN t.begun = 1 THEN 'running' ELSE 'due' END, sequence = t.next,
	    attempt = r.attempt + t.begun, claimed_by = @by, finished_at = NULL,
	    started_at = CASE WHEN t.begun = 1 THEN {now} ELSE r.started_at END,
	    lease_until = {now} + @lease * interval '1 microsecond'
	  FROM taken t, (SELECT count(*) AS n FROM finished) AS f
	  WHERE r.job = t.job AND r.scheduled_at = t.scheduled_at AND r.shard = t.shard AND f.n >= 0
	  RETURNING r.job, r.scheduled_at, r.shard, r.shards, r.attempt + 1 - t.begun AS attempt, r.crashes, r.sequence)
	SELECT false AS ended, job, scheduled_at, shard, shards, attempt, crashes, sequence FROM claimed
	UNION ALL SELECT true, '', {now}, 0, 0, 0, 0, sequence FROM finished ORDER BY sequence`

// settleQuery ends runs of a batch and gives back those behind @sequence, which is from then on the one that is
// running. It changes nothing while a transaction that has called [Run.Commit] holds that row.
const settleQuery = endedRuns + `
	target AS MATERIALIZED (
	  SELECT job, scheduled_at, shard FROM job_runs` + whereClaimed + `
	    AND (state = 'running' OR state = 'due' AND lease_until IS NOT NULL) FOR UPDATE SKIP LOCKED),` + finished + `
	    AND EXISTS (SELECT FROM target)` + returned + `
	marked AS (
	  UPDATE job_runs r SET state = 'running', attempt = @attempt,
	    started_at = CASE WHEN r.state = 'due' THEN {now} - @took * interval '1 microsecond' ELSE r.started_at END,
	    lease_until = {now} + @lease * interval '1 microsecond'
	  FROM target t, (SELECT count(*) AS n FROM finished) AS f
	  WHERE r.job = t.job AND r.scheduled_at = t.scheduled_at AND r.shard = t.shard AND f.n >= 0
	  RETURNING r.sequence)
	SELECT sequence FROM marked UNION ALL SELECT sequence FROM finished`

// advance ends the runs of a batch of job and shard. With most above 0 it also claims the next batch of the job, of
// any shard, in order. ended holds the sequences of the rows that it ended.
func (l ledger) advance(ctx context.Context, job string, shard int, rows []endedRow, most int, by string,
	lease time.Duration) (ended map[int64]bool, claimed []*Run, err error) {
	text, err := json.Marshal(append([]endedRow{}, rows...))
	if err != nil {
		return nil, nil, wrap(err)
	}
	var answer []struct {
		Ended                           bool
		Job                             string
		ScheduledAt                     time.Time
		Shard, Shards, Attempt, Crashes int
		Sequence                        int64
	}
	err = l.scan(l.db.Gorm(ctx), &answer, l.advanceQuery, args{"job": job, "shard": shard, "ended": string(text),
		"claim": most > 0, "more": max(0, most-1), "by": by, "lease": lease.Microseconds()})
	ended = map[int64]bool{}
	for _, a := range answer {
		if a.Ended {
			ended[a.Sequence] = true
			continue
		}
		claimed = append(claimed, &Run{Job: a.Job, ScheduledAt: a.ScheduledAt, Shard: a.Shard, Shards: a.Shards,
			Attempt: a.Attempt, Crashes: a.Crashes, Sequence: a.Sequence})
	}
	return ended, claimed, err
}

// settle ends runs of r's batch and makes r the one that is running. It returns nothing when r can't be had.
func (l ledger) settle(ctx context.Context, r *Run, took time.Duration, rows []endedRow, lease time.Duration) (
	map[int64]bool, error) {
	text, err := json.Marshal(append([]endedRow{}, rows...))
	if err != nil {
		return nil, wrap(err)
	}
	a := r.args()
	a["ended"], a["took"], a["lease"] = string(text), took.Microseconds(), lease.Microseconds()
	var sequences []int64
	err = l.scan(l.db.Gorm(ctx), &sequences, settleQuery, a)
	ended := map[int64]bool{}
	for _, s := range sequences {
		ended[s] = true
	}
	if postgres.IsUniqueViolation(err, "job_runs_one_running") { // another replica has the shard
		err = nil
	}
	return ended, err
}
