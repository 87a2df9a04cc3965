package jobs

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

// claimsPerTick has three replicas poll at once on each of n ticks and returns
// how many ticks were run more than once, or not at all.
func claimsPerTick(t *testing.T, n int, claim string) (wrong int) {
	f := setup(t)
	var mu sync.Mutex
	ran := map[string]int{}
	job := Job{Name: "tick", Cron: "* * * * *", Run: func(_ context.Context, run *Run) error {
		mu.Lock()
		defer mu.Unlock()
		ran[run.ScheduledAt.UTC().Format(time.RFC3339)]++
		return nil
	}}
	var replicas []*Runner
	for range 3 {
		r := f.runner(Options{}, job)
		r.ledger.claimQuery = claim
		replicas = append(replicas, r)
	}
	for range n {
		f.forward(time.Minute)
		var wg sync.WaitGroup
		for _, r := range replicas {
			wg.Go(func() {
				if err := r.poll(t.Context()); err != nil {
					t.Error(err)
				}
				r.runs.Wait()
			})
		}
		wg.Wait()
	}
	wrong = n - len(ran)
	for _, times := range ran {
		if times != 1 {
			wrong++
		}
	}
	return wrong
}

// heedlessClaim looks and takes without keeping others from doing the same.
const heedlessClaim = `
	WITH next AS MATERIALIZED (
	  SELECT job, scheduled_at, shard, pg_sleep(0.005) FROM job_runs
	  WHERE job = @job AND state = 'due' AND next_attempt_at <= {now} ORDER BY scheduled_at, shard LIMIT 1)
	UPDATE job_runs r SET state = 'running', sequence = nextval('job_runs_sequence'), attempt = attempt + 1,
	  claimed_by = @by, started_at = {now}, lease_until = {now} + @lease * interval '1 microsecond', error = ''
	FROM next WHERE r.job = next.job AND r.scheduled_at = next.scheduled_at AND r.shard = next.shard
	RETURNING r.job, r.scheduled_at, r.shard, r.shards, r.attempt, r.sequence`

func TestOfThreeReplicasOneClaimsEachTick(t *testing.T) {
	ticks := testkit.Size(100, 1000)
	if wrong := claimsPerTick(t, ticks, claimQuery); wrong != 0 {
		t.Fatalf("%d ticks not run exactly once", wrong)
	}
	testkit.Figure(t, "%d ticks, 3 replicas: one claim each", ticks)
	t.Run("control: without the lock on the row several do", func(t *testing.T) {
		if wrong := claimsPerTick(t, 20, heedlessClaim); wrong == 0 {
			t.Fatal("the replicas never meet, so the test shows nothing")
		}
	})
}
