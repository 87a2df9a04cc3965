package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

func TestMain(m *testing.M) {
	testkit.Children(map[string]func(context.Context, []string) error{"crash": crash, "hang": hang, "stale": stale})
	testkit.LeakFree(m)
}

// The tests move the database's clock: the ledger asks test_now().
const testClock = `
CREATE TABLE test_clock (now timestamptz NOT NULL);
INSERT INTO test_clock VALUES ('2026-01-01 00:00:30Z');
CREATE FUNCTION test_now() RETURNS timestamptz LANGUAGE sql VOLATILE AS 'SELECT now FROM test_clock';
CREATE TABLE effects (job text, scheduled_at timestamptz, shard int, attempt int);
`

type fixture struct {
	*testkit.DB
	t testing.TB
}

func setup(t testing.TB) fixture {
	return fixture{testkit.Postgres(t, fstest.MapFS{"00001_jobs.sql": {Data: []byte(
		"-- +goose Up\n" + Schema + testClock)}}), t}
}

func (f fixture) exec(sql string, args ...any) {
	f.t.Helper()
	if err := f.Gorm(f.t.Context()).Exec(sql, args...).Error; err != nil {
		f.t.Fatal(err)
	}
}

func (f fixture) forward(d time.Duration) {
	f.t.Helper()
	f.exec(`UPDATE test_clock SET now = now + ? * interval '1 microsecond'`, d.Microseconds())
}

func (f fixture) count(sql string, args ...any) (n int64) {
	f.t.Helper()
	if err := f.Gorm(f.t.Context()).Raw(sql, args...).Scan(&n).Error; err != nil {
		f.t.Fatal(err)
	}
	return n
}

// runner polls only when the test says so.
func (f fixture) runner(o Options, jobs ...Job) *Runner {
	f.t.Helper()
	r := New(f.DB.DB, o)
	r.ledger.now = "test_now()"
	for _, j := range jobs {
		if err := r.Add(j); err != nil {
			f.t.Fatal(err)
		}
	}
	f.t.Cleanup(func() { f.shutdown(r) })
	f.poll(r) // from here on ticks are due
	return r
}

// poll claims, and waits for the runs.
func (f fixture) poll(r *Runner) {
	f.t.Helper()
	if err := r.poll(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	f.wait(r)
}

// wait waits for the runs of r.
func (f fixture) wait(r *Runner) {
	f.t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); r.runs.Wait() }()
	testkit.Receive(f.t, done, time.Minute)
}

func (f fixture) shutdown(r *Runner) {
	f.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.Shutdown(ctx); err != nil {
		f.t.Error(err)
	}
}

func TestAFailureIsTriedAgainAfterItsBackoffAlsoByAnotherProcess(t *testing.T) {
	f := setup(t)
	boom := true
	job := Job{Name: "j", CatchUp: CatchUpAll, Cron: "0 0 1 1 *", Run: func(_ context.Context, run *Run) error {
		if boom {
			return fmt.Errorf("boom\x00 %d", run.Attempt)
		}
		return nil
	}}
	r := f.runner(Options{}, job)
	if err := r.Trigger(t.Context(), "j"); err != nil {
		t.Fatal(err)
	}
	f.poll(r)
	f.forward(119 * time.Second)
	f.poll(r)
	if n := f.count(`SELECT attempt FROM job_runs WHERE state = 'due' AND error = 'boom 1'`); n != 1 {
		t.Fatalf("%d attempts before the backoff is over", n)
	}
	f.forward(time.Second)
	f.poll(r)
	boom = false
	f.forward(3 * time.Minute)
	f.poll(f.runner(Options{}, job))
	records, err := r.Runs(t.Context(), "j", nil, 10)
	if err != nil || len(records) != 1 || records[0].State != "done" || records[0].Attempt != 3 || !records[0].Manual {
		t.Fatalf("%+v, %v", records, err)
	}
	if err := r.Trigger(t.Context(), "unknown"); !errors.Is(err, ErrUnknown) {
		t.Fatal(err)
	}
}

func TestAPanicIsAFailedRunWithItsStackInTheLog(t *testing.T) {
	f := setup(t)
	var log bytes.Buffer
	r := f.runner(Options{Log: slog.New(slog.NewTextHandler(&log, nil))},
		Job{Name: "j", Cron: "* * * * *", Run: func(context.Context, *Run) error { panic("boom") }})
	f.forward(time.Minute)
	f.poll(r)
	if !strings.Contains(log.String(), "jobs_test.go") || !strings.Contains(log.String(), "boom") {
		t.Fatal(log.String())
	}
	if f.count(`SELECT count(*) FROM job_runs WHERE state = 'due' AND error LIKE 'panic: boom%'`) != 1 {
		t.Fatal("the ledger doesn't say so")
	}
}

func TestEveryShardOfATickRunsOnceWithTheNumberStoredWithIt(t *testing.T) {
	f := setup(t)
	var mu sync.Mutex
	ran := map[string]int{}
	job := func(shards int) Job {
		return Job{Name: "j", Cron: "* * * * *", Shards: shards, Run: func(_ context.Context, run *Run) error {
			mu.Lock()
			defer mu.Unlock()
			ran[fmt.Sprintf("%d/%d", run.Shard, run.Shards)]++
			return nil
		}}
	}
	a, b := f.runner(Options{}, job(3)), f.runner(Options{}, job(5))
	f.forward(time.Minute)
	f.poll(a)
	f.poll(b)
	if fmt.Sprint(ran) != "map[0/3:1 1/3:1 2/3:1]" {
		t.Fatal(ran)
	}
}

func commitEffect(f fixture, run *Run) error {
	return postgres.InTx(context.Background(), f.DB.DB, func(tx *gorm.DB) error {
		if err := run.Commit(tx); err != nil {
			return err
		}
		return tx.Exec(`INSERT INTO effects VALUES (?, ?, ?, ?)`, run.Job, run.ScheduledAt, run.Shard,
			run.Attempt).Error
	})
}

func TestARunWhoseReplicaDiedIsTakenOverAndTheOldOneIsFenced(t *testing.T) {
	f := setup(t)
	started, goOn := make(chan struct{}), make(chan struct{})
	var fenced error
	dead := f.runner(Options{Lease: time.Hour},
		Job{Name: "j", Cron: "* * * * *", Run: func(_ context.Context, run *Run) error {
			close(started)
			<-goOn // paused past its lease
			fenced = commitEffect(f, run)
			return fenced
		}})
	next := f.runner(Options{}, Job{Name: "j", Cron: "* * * * *", Run: func(_ context.Context, run *Run) error {
		return commitEffect(f, run)
	}})
	f.forward(time.Minute)
	if err := dead.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, started, time.Minute)
	f.exec(`UPDATE job_runs SET lease_until = test_now() - interval '1 second'`)
	f.poll(next)
	close(goOn)
	f.wait(dead)
	if !errors.Is(fenced, ErrFenced) {
		t.Fatal(fenced)
	}
	if f.count(`SELECT count(*) FROM effects WHERE attempt = 2`) != 1 || f.count(`SELECT count(*) FROM effects`) != 1 {
		t.Fatal("not the effect of the one who took over")
	}
}

func TestARunThatWasTakenOverIsTold(t *testing.T) {
	f := setup(t)
	started, cause := make(chan struct{}), make(chan error, 1)
	r := f.runner(Options{Lease: 300 * time.Millisecond},
		Job{Name: "j", Cron: "* * * * *", Run: func(ctx context.Context, _ *Run) error {
			close(started)
			<-ctx.Done()
			cause <- context.Cause(ctx)
			return ctx.Err()
		}})
	f.forward(time.Minute)
	if err := r.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, started, time.Minute)
	f.exec(`UPDATE job_runs SET sequence = nextval('job_runs_sequence')`)
	if err := testkit.Receive(t, cause, time.Minute); !errors.Is(err, ErrLost) {
		t.Fatal(err)
	}
	f.wait(r)
}

func TestShutdownDrainsThenCancelsAndLeavesTheRunDue(t *testing.T) {
	f := setup(t)
	started := make(chan struct{})
	r := New(f.DB.DB, Options{PollInterval: 10 * time.Millisecond})
	err := r.Add(Job{Name: "j", Run: func(ctx context.Context, _ *Run) error {
		close(started)
		<-ctx.Done()
		return ctx.Err()
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if err := r.Trigger(t.Context(), "j"); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, started, time.Minute)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	if f.count(`SELECT count(*) FROM job_runs WHERE state = 'due' AND next_attempt_at <= clock_timestamp()`) != 1 {
		t.Fatal("not due for another replica")
	}
}
