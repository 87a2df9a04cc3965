package jobs

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

// trial has several replicas poll at once, round after round, and notes what
// they ran.
type trial struct {
	fixture
	replicas []*Runner
	inOrder  bool            // one polls after the other, so that a control always fails
	steps    []time.Duration // of the database's clock, in each round

	mu      sync.Mutex
	clock   time.Time
	goOn    chan struct{} // closed when every replica has polled twice
	running map[int]int
	claims  map[string]int // by tick and shard
	early   int            // runs before their tick
	beside  int            // runs beside another of their shard
}

func (f fixture) trial(replicas int, job Job) *trial {
	tr := &trial{fixture: f, running: map[int]int{}, claims: map[string]int{}, goOn: make(chan struct{}),
		steps: []time.Duration{time.Minute}, clock: time.Date(2026, 1, 1, 0, 0, 30, 0, time.UTC)}
	run := job.Run
	job.Run = func(ctx context.Context, r *Run) error {
		goOn := tr.begin(r)
		defer tr.end(r)
		<-goOn
		if run == nil {
			return nil
		}
		return run(ctx, r)
	}
	for range replicas {
		tr.replicas = append(tr.replicas, f.runner(Options{}, job))
	}
	return tr
}

func (tr *trial) begin(r *Run) <-chan struct{} {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.claims[fmt.Sprintf("%s %d", r.ScheduledAt.UTC().Format(time.RFC3339), r.Shard)]++
	if r.ScheduledAt.After(tr.clock) {
		tr.early++
	}
	if tr.running[r.Shard]++; tr.running[r.Shard] > 1 {
		tr.beside++
	}
	return tr.goOn
}

func (tr *trial) end(r *Run) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.running[r.Shard]--
}

func (tr *trial) rounds(n int) {
	tr.t.Helper()
	for range n {
		for _, step := range tr.steps {
			tr.mu.Lock()
			tr.clock = tr.clock.Add(step)
			tr.goOn = make(chan struct{})
			tr.mu.Unlock()
			tr.forward(step)
			tr.pollAll()
			tr.pollAll()
			close(tr.goOn)
			for _, r := range tr.replicas {
				tr.wait(r)
			}
		}
	}
}

func (tr *trial) pollAll() {
	var wg sync.WaitGroup
	for _, r := range tr.replicas {
		wg.Go(func() {
			if err := r.poll(tr.t.Context()); err != nil {
				tr.t.Error(err)
			}
		})
		if tr.inOrder {
			wg.Wait()
		}
	}
	wg.Wait()
}

// wrong is how many of n ticks were not claimed exactly once.
func (tr *trial) wrong(n int) int {
	wrong := max(0, n-len(tr.claims))
	for _, times := range tr.claims {
		if times != 1 {
			wrong++
		}
	}
	return wrong
}

// heedlessClaim looks and takes without keeping others from doing the same.
var heedlessClaim = strings.NewReplacer(
	"FOR UPDATE SKIP LOCKED", "",
	"WITH next AS (\n\t  SELECT", "WITH next AS MATERIALIZED (\n\t  SELECT pg_sleep(0.005),").Replace(claimQuery)

// withoutCheck is a claim that doesn't ask whether another run of the shard is running.
func withoutCheck(t *testing.T) string {
	t.Helper()
	before, after, found := strings.Cut(claimQuery, "AND (SELECT count(*)")
	_, after, ended := strings.Cut(after, "'running') = 0")
	if !found || !ended {
		t.Fatal("the claim has no such check")
	}
	return before + after
}

// A claim finds the first run that is due, and reads none of the others, also while the planner knows a small table.
func TestAClaimDoesNotReadTheBacklog(t *testing.T) {
	f := setup(t)
	f.exec(`ALTER TABLE job_runs SET (autovacuum_enabled = off)`)
	f.exec(`INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at)
		SELECT 'j', now() - i * interval '1 second', i % 2, 2, now() - interval '1 hour'
		FROM generate_series(1, 500) AS i`)
	read := func(query string) (rows int) {
		t.Helper()
		query = strings.NewReplacer("@job", "'j'", "@by", "'me'", "@lease", "1000000", "{now}", "now()").Replace(query)
		tx, err := f.SQL().BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback() }()
		var plan string
		err = tx.QueryRowContext(t.Context(), "EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) "+query).Scan(&plan)
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range regexp.MustCompile(`"Actual Rows": ([0-9]+)`).FindAllStringSubmatch(plan, -1) {
			one, _ := strconv.Atoi(n[1])
			rows = max(rows, one)
		}
		return rows
	}
	if n := read(claimQuery); n > 5 {
		t.Errorf("a claim reads %d of 500 runs", n)
	}
	asJoin := strings.Replace(strings.Replace(claimQuery, "AND (SELECT count(*)", "AND NOT EXISTS (SELECT", 1),
		"'running') = 0", "'running')", 1)
	f.exec(`DROP INDEX job_runs_open`)
	f.exec(`CREATE INDEX job_runs_open ON job_runs (job, scheduled_at) WHERE state IN ('due', 'running')`)
	if n := read(asJoin); n < 400 { // the control
		t.Errorf("a claim that has to sort and join reads %d: nothing is left to prove", n)
	}
}

var skews = []time.Duration{5 * time.Second, 0, -5 * time.Second}

func TestOfThreeReplicasWithClocksFiveSecondsOffOneClaimsEachTick(t *testing.T) {
	ticks := testkit.Size(100, 1000)
	tr := setup(t).trial(3, Job{Name: "tick", Cron: "* * * * *"})
	tr.steps = []time.Duration{27 * time.Second, 33 * time.Second} // at first the fast clock alone says that it's time
	for i, r := range tr.replicas {
		r.now = func() time.Time { return time.Now().Add(skews[i]) }
	}
	tr.rounds(ticks)
	if wrong := tr.wrong(ticks); wrong != 0 || tr.early != 0 {
		t.Fatalf("%d ticks not claimed once, %d before their time", wrong, tr.early)
	}
	testkit.Figure(t, "%d ticks, 3 replicas, clocks ±5 s: one claim each, none early", ticks)
}

func TestAReplicaWithAClockTenMinutesOffClaimsAsTheOthers(t *testing.T) {
	const ticks = 20
	tr := setup(t).trial(3, Job{Name: "tick", Cron: "* * * * *"})
	for i, r := range tr.replicas {
		off := []time.Duration{10 * time.Minute, 0, -10 * time.Minute}[i]
		r.now = func() time.Time { return time.Now().Add(off) }
	}
	tr.rounds(ticks)
	if wrong := tr.wrong(ticks); wrong != 0 || tr.early != 0 {
		t.Fatalf("%d ticks not claimed once, %d before their time", wrong, tr.early)
	}
}

func TestWhatKeepsAClaimAloneIsNeeded(t *testing.T) {
	const ticks = 20
	byOwnClock := func(i int, r *Runner) {
		r.ledger.now = fmt.Sprintf("(test_now() + interval '%d seconds')", int(skews[i].Seconds()))
		r.o.Lease = 3 * time.Second
	}
	t.Run("control: without the lock on the row several claim", func(t *testing.T) {
		tr := setup(t).trial(3, Job{Name: "tick", Cron: "* * * * *"})
		for _, r := range tr.replicas {
			r.ledger.claimQuery = heedlessClaim
		}
		tr.rounds(ticks)
		if tr.wrong(ticks) == 0 {
			t.Fatal("the replicas never meet, so the proof shows nothing")
		}
	})
	t.Run("control: by their own clocks they run ticks early", func(t *testing.T) {
		tr := setup(t).trial(3, Job{Name: "tick", Cron: "* * * * *"})
		tr.steps = []time.Duration{27 * time.Second, 33 * time.Second}
		for i, r := range tr.replicas {
			byOwnClock(i, r)
		}
		tr.rounds(ticks)
		if tr.early != ticks {
			t.Fatalf("%d of %d ticks early", tr.early, ticks)
		}
	})
	t.Run("control: by their own clocks they take living runs over", func(t *testing.T) {
		tr := setup(t).trial(3, Job{Name: "tick", Cron: "* * * * *"})
		tr.inOrder = true
		for i, r := range tr.replicas {
			byOwnClock(len(skews)-1-i, r) // the slow clock's is first
		}
		tr.rounds(ticks)
		if tr.wrong(ticks) != ticks || tr.beside == 0 {
			t.Fatalf("%d of %d ticks claimed twice, %d at once", tr.wrong(ticks), ticks, tr.beside)
		}
	})
}

// failing fails each tick's first attempt, whose retry then comes due together
// with the tick after the next.
func failing() Job {
	return Job{Name: "j", Cron: "* * * * *", Shards: 2, CatchUp: CatchUpAll,
		Backoff: func(int) time.Duration { return 2 * time.Minute },
		Run: func(_ context.Context, run *Run) error {
			if run.Attempt == 1 {
				return errors.New("once more")
			}
			return nil
		}}
}

func TestARetryNeverRunsBesideTheNextTick(t *testing.T) {
	ticks := testkit.Size(40, 400)
	tr := setup(t).trial(3, failing())
	tr.rounds(ticks)
	done := tr.count(`SELECT count(*) FROM job_runs WHERE state = 'done' AND attempt = 2`)
	if tr.beside != 0 || done < int64(ticks) {
		t.Fatalf("%d runs beside another of their shard, %d done", tr.beside, done)
	}
	testkit.Figure(t, "%d ticks of 2 shards, each retried while a later one is due, 3 replicas: never two running",
		ticks)
	t.Run("control: without the check and the index they do", func(t *testing.T) {
		tr := setup(t).trial(3, failing())
		tr.exec(`DROP INDEX job_runs_one_running`)
		for _, r := range tr.replicas {
			r.ledger.claimQuery = withoutCheck(t)
		}
		tr.rounds(20)
		if tr.beside == 0 {
			t.Fatal("never two at once, so the proof shows nothing")
		}
	})
	t.Run("the index alone is enough", func(t *testing.T) {
		tr := setup(t).trial(3, failing())
		for _, r := range tr.replicas {
			r.ledger.claimQuery = withoutCheck(t)
		}
		tr.rounds(20)
		if tr.beside != 0 {
			t.Fatalf("%d runs beside another", tr.beside)
		}
	})
}
