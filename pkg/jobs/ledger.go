package jobs

import (
	"context"
	_ "embed" // for Schema
	"encoding/json"
	"fmt"
	"math/rand/v2"
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

func newLedger(db *postgres.DB) ledger {
	return ledger{db: db, now: "clock_timestamp()", claimQuery: claimQuery}
}

// query puts the clock into a statement.
func (l ledger) query(sql string) string { return strings.ReplaceAll(sql, "{now}", l.now) }

func (l ledger) exec(tx *gorm.DB, sql string, args ...any) (int64, error) {
	result := tx.Exec(l.query(sql), args...)
	if result.Error != nil {
		return 0, fmt.Errorf("jobs: ledger: %w", result.Error)
	}
	return result.RowsAffected, nil
}

// situation is what a poll sees of one job.
type situation struct {
	Name      string
	Now       time.Time
	Last      *time.Time // the newest planned tick
	Claimable bool
}

func (l ledger) look(ctx context.Context, jobs map[string]*job) ([]situation, error) {
	names := make([]string, 0, len(jobs))
	for name := range jobs {
		names = append(names, name)
	}
	list, err := json.Marshal(names)
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	var found []situation
	err = l.db.Gorm(ctx).Raw(l.query(`
		SELECT j.name, c.now,
		  (SELECT max(scheduled_at) FROM job_runs r WHERE r.job = j.name AND NOT manual) AS last,
		  EXISTS (SELECT FROM job_runs r WHERE r.job = j.name AND
		    (state = 'due' AND next_attempt_at <= c.now OR state = 'running' AND lease_until < c.now)) AS claimable
		FROM json_array_elements_text(?::json) AS j(name), (SELECT {now} AS now) AS c`), string(list)).Scan(&found).Error
	if err != nil {
		return nil, fmt.Errorf("jobs: ledger: %w", err)
	}
	return found, nil
}

// plan writes one tick with all its shards, unless another replica has. The
// first shard decides, so that replicas which disagree about the number of
// shards don't mix theirs.
func (l ledger) plan(ctx context.Context, j *job, tick time.Time) error {
	var jitter time.Duration
	if j.Jitter > 0 {
		jitter = rand.N(j.Jitter)
	}
	_, err := l.exec(l.db.Gorm(ctx), `
		WITH first AS (
		  INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at) VALUES (@job, @tick, 0, @shards, @begin)
		  ON CONFLICT DO NOTHING RETURNING job, scheduled_at, shards, next_attempt_at)
		INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at)
		SELECT job, scheduled_at, n, shards, next_attempt_at FROM first, generate_series(1, @shards - 1) AS n`,
		map[string]any{"job": j.Name, "tick": tick, "shards": j.Shards, "begin": tick.Add(jitter)})
	return err
}

// supersede gives up ticks before newest that aren't running.
func (l ledger) supersede(ctx context.Context, j *job, newest time.Time) (int64, error) {
	return l.exec(l.db.Gorm(ctx), `UPDATE job_runs SET state = 'skipped', finished_at = {now}
		WHERE job = ? AND scheduled_at < ? AND state = 'due' AND NOT manual`, j.Name, newest)
}

func (l ledger) trigger(ctx context.Context, j *job) error {
	_, err := l.exec(l.db.Gorm(ctx), `
		INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at, manual)
		SELECT ?, c.now, n, ?, c.now, true FROM (SELECT {now} AS now) AS c, generate_series(0, ? - 1) AS n`,
		j.Name, j.Shards, j.Shards)
	return err
}

// claimQuery takes the oldest run that is due or whose replica is gone, unless
// another of its shard is under way. A row that another replica is just
// claiming or committing is passed over.
const claimQuery = `
	WITH next AS (
	  SELECT job, scheduled_at, shard FROM job_runs r
	  WHERE job = @job
	    AND (state = 'due' AND next_attempt_at <= {now} OR state = 'running' AND lease_until < {now})
	    AND NOT EXISTS (SELECT FROM job_runs o WHERE o.job = r.job AND o.shard = r.shard
	      AND o.state = 'running' AND o.scheduled_at <> r.scheduled_at)
	  ORDER BY scheduled_at, shard LIMIT 1 FOR UPDATE SKIP LOCKED)
	UPDATE job_runs r SET state = 'running', sequence = nextval('job_runs_sequence'), attempt = attempt + 1,
	  claimed_by = @by, started_at = {now}, lease_until = {now} + @lease * interval '1 microsecond', error = ''
	FROM next WHERE r.job = next.job AND r.scheduled_at = next.scheduled_at AND r.shard = next.shard
	RETURNING r.job, r.scheduled_at, r.shard, r.shards, r.attempt, r.sequence`

// claim returns nil when there is nothing to claim.
func (l ledger) claim(ctx context.Context, j *job, by string, lease time.Duration) (*Run, error) {
	begin := time.Now()
	var claimed []Run
	err := l.db.Gorm(ctx).Raw(l.query(l.claimQuery), map[string]any{
		"job": j.Name, "by": by, "lease": lease.Microseconds(),
	}).Scan(&claimed).Error
	switch {
	case postgres.IsUniqueViolation(err, "job_runs_one_running"):
		return nil, nil //nolint:nilnil // another tick of this shard was claimed at the same moment
	case err != nil:
		return nil, fmt.Errorf("jobs: ledger: %w", err)
	case len(claimed) == 0:
		return nil, nil //nolint:nilnil // no run is no failure
	}
	claimed[0].since = begin
	return &claimed[0], nil
}

const mine = ` WHERE job = ? AND scheduled_at = ? AND shard = ? AND sequence = ? AND state = 'running'`

func (r *Run) id() []any { return []any{r.Job, r.ScheduledAt, r.Shard, r.Sequence} }

func (l ledger) renew(ctx context.Context, r *Run, lease time.Duration) (bool, error) {
	n, err := l.exec(l.db.Gorm(ctx), `UPDATE job_runs SET lease_until = {now} + ? * interval '1 microsecond'`+mine,
		append([]any{lease.Microseconds()}, r.id()...)...)
	return n == 1, err
}

// takenOver tells a run that another has claimed from one that is done.
func (l ledger) takenOver(ctx context.Context, r *Run) (bool, error) {
	var sequence int64
	err := l.db.Gorm(ctx).Raw(`SELECT sequence FROM job_runs WHERE job = ? AND scheduled_at = ? AND shard = ?`,
		r.Job, r.ScheduledAt, r.Shard).Scan(&sequence).Error
	return err == nil && sequence != r.Sequence, err
}

func (l ledger) finish(tx *gorm.DB, r *Run) (bool, error) {
	n, err := l.exec(tx, `UPDATE job_runs SET state = 'done', finished_at = {now}, lease_until = NULL`+mine, r.id()...)
	return n == 1, err
}

func (l ledger) fail(ctx context.Context, r *Run, cause error, wait time.Duration) error {
	text := cause.Error()
	if len(text) > 2000 {
		text = strings.ToValidUTF8(text[:2000], "")
	}
	text = strings.ReplaceAll(text, "\x00", "") // which a text column refuses
	_, err := l.exec(l.db.Gorm(ctx), `UPDATE job_runs SET state = 'due', finished_at = {now}, lease_until = NULL,
		next_attempt_at = {now} + ? * interval '1 microsecond', error = ?`+mine,
		append([]any{wait.Microseconds(), text}, r.id()...)...)
	return err
}
