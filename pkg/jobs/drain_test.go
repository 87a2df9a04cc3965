package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// backlog writes n runs of the job "j" that are due, as n triggers do.
func (f fixture) backlog(n, shards int) {
	f.t.Helper()
	f.exec(`INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at, manual)
		SELECT 'j', test_now() - i * interval '1 microsecond', i % ?, ?, test_now(), true
		FROM generate_series(1, ?) AS i`, shards, shards, n)
}

func (f fixture) done() int64 {
	f.t.Helper()
	return f.count(`SELECT count(*) FROM job_runs WHERE job = 'j' AND state = 'done'`)
}

// executions counts what was executed, by run.
type executions struct {
	mu      sync.Mutex
	times   map[string]int
	running map[int]int // by shard
	beside  int         // runs beside another of their shard
}

func (e *executions) begin(run *Run) (nth int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.running[run.Shard]++; e.running[run.Shard] > 1 {
		e.beside++
	}
	e.times[run.ScheduledAt.UTC().Format(time.RFC3339Nano)]++
	return len(e.times)
}

func (e *executions) end(run *Run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running[run.Shard]--
}

func newExecutions() *executions { return &executions{times: map[string]int{}, running: map[int]int{}} }

// Two replicas drain a backlog. In its middle every connection to the database is
// cut; one run is slow, and some panic.
func TestABacklogIsDrainedOnceWhateverHappensToIt(t *testing.T) {
	f := setup(t)
	db, err := postgres.Open(t.Context(), postgres.Options{URL: f.URL, Name: "replicas"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	cutOff := fixture{&testkit.DB{DB: db, URL: f.URL}, t}
	n := testkit.Size(1000, 10_000)
	const shards, panics = 4, 5
	f.backlog(n, shards)
	e := newExecutions()
	slow := make(chan struct{})
	end := sync.OnceFunc(func() { close(slow) })
	var cut atomic.Bool
	job := Job{Name: "j", Shards: shards, Backoff: func(int) time.Duration { return 0 },
		Run: func(ctx context.Context, run *Run) error {
			nth := e.begin(run)
			defer e.end(run)
			switch micro := run.ScheduledAt.Nanosecond() / 1000; {
			case micro%(n/panics) == 7 && run.Attempt == 1:
				panic("the first time")
			case run.Shard == 0 && nth > n/4 && cut.CompareAndSwap(false, true):
				err := f.Gorm(ctx).Exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
					WHERE datname = current_database() AND application_name = 'replicas'`).Error
				if err != nil {
					t.Error(err)
				}
				<-slow // until the other shards are done
			}
			return nil
		}}
	replicas := []*Runner{cutOff.runner(Options{}), cutOff.runner(Options{})}
	for _, r := range replicas {
		if err := r.Add(job); err != nil {
			t.Fatal(err)
		}
	}
	pollAll := func() {
		for _, r := range replicas {
			_ = r.poll(t.Context()) // an error is one of the cut, and the next poll goes on
		}
	}
	t.Cleanup(end) // before the replicas shut down
	pollAll()
	testkit.Eventually(t, patience, func() bool { // the shard of the slow run waits, and no other
		pollAll()
		return f.count(`SELECT count(*) FROM job_runs WHERE state = 'due' AND shard > 0 AND lease_until IS NULL`) == 0
	})
	end()
	testkit.Eventually(t, patience, func() bool {
		for _, r := range replicas {
			f.wait(r)
		}
		f.forward(16 * time.Second) // a claim whose answer was cut off is claimed again after its lease
		pollAll()
		return f.done() == int64(n)
	})
	for _, r := range replicas {
		f.wait(r)
	}
	var twice, wrong int
	for _, times := range e.times {
		if times == 2 {
			twice++
		} else if times != 1 {
			wrong++
		}
	}
	if len(e.times) != n || wrong != 0 || twice > panics+1 || e.beside != 0 || !cut.Load() {
		t.Errorf("%d of %d runs, %d executed twice, %d more often, %d beside another of their shard", len(e.times), n,
			twice, wrong, e.beside)
	}
	testkit.Figure(t, "%d due runs, 2 replicas, all connections cut: each once but %d that panicked", n, twice)
}

// drainWithATick has one slot, which a backlog takes. In its middle a tick of another job becomes due. It returns
// how many runs of the backlog had begun when the tick ran, and how late it was.
func drainWithATick(t *testing.T, n int, turn time.Duration) (before int64, late time.Duration) {
	f := setup(t)
	f.backlog(n, 1)
	r := New(f.DB.DB, Options{Concurrency: 1, Lease: time.Hour}) // the clock moves by a minute
	r.ledger.now, r.turn = "test_now()", turn
	var begun atomic.Int64
	var due time.Time
	ticked := make(chan time.Time, 1)
	backlog := Job{Name: "j", Run: func(context.Context, *Run) error {
		if begun.Add(1) != int64(n/2) {
			return nil
		}
		due = time.Now()
		f.forward(time.Minute)
		testkit.Eventually(t, patience, func() bool { // a poll has seen it
			return r.othersWait(r.jobs["j"]) && time.Since(due) > maxTurn
		})
		return nil
	}}
	tick := Job{Name: "tick", Cron: "* * * * *", Run: func(context.Context, *Run) error {
		before = begun.Load()
		ticked <- time.Now()
		return nil
	}}
	if err := r.Add(tick); err != nil {
		t.Fatal(err)
	}
	f.poll(r) // from here on its ticks are due
	if err := r.Add(backlog); err != nil {
		t.Fatal(err)
	}
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	late = testkit.Receive(t, ticked, patience).Sub(due)
	testkit.Eventually(t, patience, func() bool { return f.done() == int64(n) })
	f.shutdown(r)
	return before, late
}

func TestATickWaitsForNoBacklog(t *testing.T) {
	n := testkit.Size(2000, 10_000)
	before, late := drainWithATick(t, n, maxTurn)
	if before >= int64(n) {
		t.Errorf("a tick waited for all %d runs of a backlog", n)
	}
	if n == 10_000 && late > time.Second {
		t.Errorf("a tick came %s late", late)
	}
	testkit.Figure(t, "%d due runs in the only slot: a minute's tick %s after its time, %d runs after it", n,
		late.Round(time.Millisecond), int64(n)-before)
	t.Run("control: without turns it waits for all", func(t *testing.T) {
		if before, _ := drainWithATick(t, n, time.Hour); before != int64(n) {
			t.Errorf("it ran after %d of %d runs, so the proof shows nothing", before, n)
		}
	})
}

// drain executes runs until the one with a number, which kills the process.
func drain(ctx context.Context, args []string) error {
	n := 0
	return inProcess(ctx, args[0], "test_now()", Options{}, func(context.Context, *postgres.DB, *Run) error {
		if n++; fmt.Sprint(n) == args[1] {
			die()
		}
		return nil
	})
}

func TestOthersTakeTheRestOfAReplicaThatWasKilledWithABatch(t *testing.T) {
	f := setup(t)
	n := testkit.Size(300, 10_000)
	e := newExecutions()
	r := f.runner(Options{}, Job{Name: "j", Run: func(_ context.Context, run *Run) error {
		e.begin(run)
		e.end(run)
		return nil
	}})
	f.backlog(n, 1)
	if testkit.Spawn(t, "drain", f.URL, "60").Wait() == nil {
		t.Fatal("the process lives")
	}
	recorded := map[string]bool{}
	var rows []time.Time
	if err := f.Gorm(t.Context()).Raw(`SELECT scheduled_at FROM job_runs WHERE state = 'done'`).Scan(
		&rows).Error; err != nil {
		t.Fatal(err)
	}
	for _, at := range rows {
		recorded[at.UTC().Format(time.RFC3339Nano)] = true
	}
	before := f.done()
	f.poll(r)
	if got := f.done(); got != before || len(e.times) != 0 {
		t.Errorf("%d runs were taken before the lease was over", got-before)
	}
	f.forward(16 * time.Second)
	testkit.Eventually(t, patience, func() bool { f.poll(r); return f.done() == int64(n) })
	for at, times := range e.times {
		if times != 1 || recorded[at] {
			t.Errorf("%s was executed %d times more; recorded before: %t", at, times, recorded[at])
		}
	}
	if len(e.times) != n-int(before) {
		t.Errorf("%d runs executed, want the %d that the process had not recorded", len(e.times), n-int(before))
	}
	if crashes := f.count(`SELECT sum(crashes) FROM job_runs`); crashes != 1 {
		t.Errorf("%d crashes were counted", crashes)
	}
	testkit.Figure(t, "a process killed in its 60th run of %d: %d recorded, the others claimed again once", n, before)
}

// A run that kills its process within a batch is found: the next time it is alone.
func TestTheRunOfABatchThatKillsItsProcessIsHeldBack(t *testing.T) {
	f := setup(t)
	f.backlog(3, 1)
	r := f.runner(Options{}, Job{Name: "other", Run: func(context.Context, *Run) error { return nil }})
	claim := func() []*Run {
		_, claimed, err := r.ledger.advance(t.Context(), "j", 0, nil, maxBatch, "one that dies", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return claimed
	}
	sizes := []int{len(claim())}
	for range 4 {
		f.forward(2 * time.Minute)
		_, err := r.ledger.expireLeases(t.Context(), "j", func(run *Run) outcome {
			o := outcome{crashes: 1}
			if run.Crashes > 0 {
				o.retryAfter = time.Hour
			}
			return o
		})
		if err != nil {
			t.Fatal(err)
		}
		sizes = append(sizes, len(claim()))
	}
	if got := fmt.Sprint(sizes); got != "[3 1 1 1 1]" {
		t.Errorf("batches of %s runs, want one that was shared and then each alone", got)
	}
}

func TestABatchThatWasTakenOverIsFenced(t *testing.T) {
	f := setup(t)
	f.backlog(4, 1)
	r := f.runner(Options{}, Job{Name: "other", Run: func(context.Context, *Run) error { return nil }})
	claim := func(ended []endedRow, most int) (map[int64]bool, []*Run) {
		recorded, claimed, err := r.ledger.advance(t.Context(), "j", 0, ended, most, "a", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return recorded, r.ours(claimed, time.Now())
	}
	commit := func(run *Run) error {
		return postgres.InTx(t.Context(), f.DB.DB, func(tx *gorm.DB) error { return run.Commit(tx) })
	}
	_, held := claim(nil, 4)
	if len(held) != 4 || held[0].Sequence >= held[1].Sequence || held[3].ScheduledAt.Before(held[2].ScheduledAt) {
		t.Fatalf("%d runs, not in order", len(held))
	}
	if _, more := claim(nil, 4); len(more) != 0 {
		t.Errorf("%d runs of a shard with a run that is running", len(more))
	}
	if err := commit(held[1]); err != nil { // control: within the lease
		t.Error(err)
	}
	f.forward(2 * time.Minute)
	if err := commit(held[2]); !errors.Is(err, ErrFenced) {
		t.Errorf("a run that was held committed past its lease: %v", err)
	}
	crashed := func(*Run) outcome { return outcome{crashes: 1} }
	if _, err := r.ledger.expireLeases(t.Context(), "j", crashed); err != nil {
		t.Fatal(err)
	}
	var next []*Run
	for range 3 {
		var rows []endedRow
		for _, run := range next {
			rows = append(rows, endedRow{At: run.ScheduledAt, Sequence: run.Sequence, Attempt: run.Attempt,
				Done: true})
		}
		_, next = claim(rows, 1)
	}
	rows := (&batch{left: held}).rows(time.Now())
	for i := range rows {
		rows[i].Released, rows[i].Done = false, true
	}
	if recorded, _ := claim(rows, 0); len(recorded) != 0 {
		t.Errorf("%v were recorded by the replica that had lost them", recorded)
	}
	if n := f.count(`SELECT count(*) FROM job_runs WHERE state = 'running'`); n != 1 {
		t.Errorf("%d runs are running, want the last that was claimed", n)
	}
}
