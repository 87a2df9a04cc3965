package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
)

func TestMissedTicksFollowThePolicy(t *testing.T) {
	for name, c := range map[string]struct {
		job                     Job
		away                    time.Duration // after 00:00:30
		want                    string
		rows, missed, unstarted int64 // skipped rows, the ticks they stand for, rows still due
	}{
		"the zero policy runs the newest": {Job{}, 5 * time.Minute, "00:05", 1, 4, 0},
		"skip runs none that are late":    {Job{CatchUp: CatchUpSkip}, 5 * time.Minute, "", 1, 5, 0},
		"skip runs the newest that is seen in time": {Job{CatchUp: CatchUpSkip}, 4*time.Minute + 40*time.Second,
			"00:05", 1, 4, 0},
		"skip takes a lease and a poll for in time": {Job{CatchUp: CatchUpSkip}, 45*time.Second + 500*time.Millisecond,
			"00:01", 0, 0, 0},
		"skip takes no more than that for in time": {Job{CatchUp: CatchUpSkip}, 46 * time.Second, "", 1, 1, 0},
		"all runs each": {Job{CatchUp: CatchUpAll}, 5 * time.Minute, "00:01 00:02 00:03 00:04 00:05", 0, 0, 0},
		"all runs the newest of more than it may": {Job{CatchUp: CatchUpAll, MaxCatchUp: 2}, 5 * time.Minute,
			"00:04 00:05", 1, 3, 0},
		"the cap is of all alone": {Job{MaxCatchUp: 3}, 5 * time.Minute, "00:05", 1, 4, 0},
		"a hundred ticks are the cap unless told": {Job{CatchUp: CatchUpAll, Cron: "@every 1s"}, 150 * time.Second,
			"", 1, 50, 0},
		"a tick with several shards counts once only": {Job{Shards: 3}, 2 * time.Minute, "00:02 00:02 00:02", 1, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			var mu sync.Mutex
			var ran []string
			job := c.job
			job.Name = "j"
			job.Run = func(_ context.Context, run *Run) error {
				mu.Lock()
				defer mu.Unlock()
				ran = append(ran, run.ScheduledAt.UTC().Format("15:04"))
				return nil
			}
			if job.Cron == "" {
				job.Cron = "* * * * *"
			}
			r := f.runner(Options{Lease: 15 * time.Second, PollInterval: 500 * time.Millisecond}, job)
			f.forward(c.away)
			f.poll(r)
			f.poll(r)
			if got := strings.Join(ran, " "); got != c.want && (c.want != "" || job.CatchUp != CatchUpAll) {
				t.Errorf("ran %q, want %q", got, c.want)
			}
			if job.CatchUp == CatchUpAll && c.want == "" && len(ran) != 100 {
				t.Errorf("ran %d, want 100", len(ran))
			}
			rows, missed := f.count(`SELECT count(*) FROM job_runs WHERE state = 'skipped'`),
				f.count(`SELECT coalesce(sum(missed), 0) FROM job_runs WHERE state = 'skipped'`)
			if due := f.count(`SELECT count(*) FROM job_runs WHERE state = 'due'`); rows != c.rows ||
				missed != c.missed || due != c.unstarted {
				t.Errorf("%d rows for %d skipped ticks, %d due; want %d, %d, %d", rows, missed, due, c.rows, c.missed,
					c.unstarted)
			}
		})
	}
}

func TestARetryIsGivenUpForTheNewestTicksThatThePolicyKeeps(t *testing.T) {
	for name, c := range map[string]struct {
		policy CatchUpPolicy
		most   int
		want   int64 // rows still due after four ticks
	}{"last": {CatchUpLast, 0, 1}, "skip": {CatchUpSkip, 0, 1}, "all": {CatchUpAll, 3, 3}} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			r := f.runner(Options{}, Job{Name: "j", Cron: "* * * * *", CatchUp: c.policy, MaxCatchUp: c.most,
				Backoff: func(int) time.Duration { return time.Hour },
				Run:     func(context.Context, *Run) error { return errors.New("boom") }})
			if err := r.Trigger(t.Context(), "j"); err != nil {
				t.Fatal(err)
			}
			f.forward(-20 * time.Second) // to 00:00:10, so that each is seen in time
			for range 4 {
				f.forward(time.Minute)
				f.poll(r)
			}
			due, skipped := f.count(`SELECT count(*) FROM job_runs WHERE state = 'due' AND NOT manual`),
				f.count(`SELECT count(*) FROM job_runs WHERE state = 'skipped' AND error = 'boom'`)
			if due != c.want || skipped != 4-c.want {
				t.Errorf("%d due and %d skipped, want %d and %d", due, skipped, c.want, 4-c.want)
			}
			if f.count(`SELECT count(*) FROM job_runs WHERE state = 'due' AND manual`) != 1 {
				t.Error("a triggered run was given up for a tick")
			}
		})
	}
}

func TestAHugeBacklogDoesNotHoldTheOthersUp(t *testing.T) {
	for name, policy := range map[string]CatchUpPolicy{"last": CatchUpLast, "skip": CatchUpSkip, "all": CatchUpAll} {
		t.Run(name, func(t *testing.T) {
			f := setup(t)
			var ran, other atomic.Int64
			r := f.runner(Options{}, Job{Name: "j", Cron: "* * * * *", CatchUp: policy,
				Run: func(context.Context, *Run) error { ran.Add(1); return nil }},
				Job{Name: "other", Cron: "0 0 1 * *",
					Run: func(context.Context, *Run) error { other.Add(1); return nil }})
			const ticks = 100_000
			f.forward(ticks * time.Minute)
			var slowest time.Duration
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			for polls := 0; polls < ticks/maxMissedPerPoll+1; polls++ {
				begin := time.Now()
				f.poll(r)
				slowest = max(slowest, time.Since(begin))
				if polls == 0 && other.Load() != 1 {
					t.Error("the other job waits for this one's backlog")
				}
			}
			runtime.ReadMemStats(&after)
			want := map[CatchUpPolicy]int64{CatchUpLast: 1, CatchUpSkip: 0, CatchUpAll: 100}[policy]
			if policy == CatchUpSkip {
				want = ran.Load() // the newest may be in time or not
			}
			missed := f.count(`SELECT sum(missed) FROM job_runs WHERE job = 'j'`)
			if ran.Load() != want || missed+ran.Load() != ticks {
				t.Errorf("%d ran, %d recorded as skipped, of %d", ran.Load(), missed, ticks)
			}
			if rows := f.count(`SELECT count(*) FROM job_runs`); rows > 200 {
				t.Errorf("%d rows", rows)
			}
			testkit.Figure(t, "%d missed ticks, %s: slowest poll %s, %d MB allocated in all", ticks, name,
				slowest.Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>20)
		})
	}
}

func TestReplicasThatDisagreePlanATickOnce(t *testing.T) {
	f := setup(t)
	var replicas []*Runner
	for i := range 3 { // each of another release, with other shards
		replicas = append(replicas, f.runner(Options{},
			Job{Name: "j", Cron: "* * * * *", Shards: i + 1, CatchUp: CatchUpAll,
				Run: func(context.Context, *Run) error { return nil }}))
	}
	for range 20 {
		f.forward(time.Minute)
		var wg sync.WaitGroup
		for _, r := range replicas {
			wg.Go(func() {
				if err := r.poll(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
	for _, r := range replicas {
		f.wait(r)
	}
	if n := f.count(`SELECT count(DISTINCT scheduled_at) FROM job_runs`); n != 20 {
		t.Errorf("%d ticks, want 20", n)
	}
	if n := f.count(`SELECT count(*) FROM (SELECT 1 FROM job_runs GROUP BY scheduled_at
		HAVING count(*) <> max(shards) OR min(shards) <> max(shards)) AS x`); n != 0 {
		t.Errorf("%d ticks with shards of two releases", n)
	}
}

func TestAMixOfTriggersInOneInstantLosesNone(t *testing.T) {
	f := setup(t)
	job := func(shards int) Job {
		return Job{Name: "j", Shards: shards, Cron: "* * * * *", CatchUp: CatchUpAll,
			Run: func(context.Context, *Run) error { return nil }}
	}
	a, b := f.runner(Options{}, job(1)), f.runner(Options{}, job(3))
	f.forward(30 * time.Second) // to the very instant of a tick; the clock stands still
	const each = 10
	var wg sync.WaitGroup
	for range each {
		for _, r := range []*Runner{a, b} {
			wg.Go(func() {
				if err := r.Trigger(t.Context(), "j"); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	if n := f.count(`SELECT count(*) FROM job_runs WHERE manual`); n != each+3*each {
		t.Errorf("%d rows, want %d", n, 4*each)
	}
	f.poll(a)
	f.poll(b)
	if n := f.count(`SELECT count(*) FROM job_runs WHERE state = 'done' AND NOT manual`); n < 1 {
		t.Error("the tick lost its place to a trigger")
	}
	if n := f.count(`SELECT count(*) FROM job_runs WHERE state <> 'done'`); n != 0 {
		t.Errorf("%d triggers not run", n)
	}
	testkit.Figure(t, "%d triggers at one microsecond: all run", 2*each)
	if got := fmt.Sprint(a.Trigger(t.Context(), "known elsewhere")); !strings.Contains(got, "known elsewhere") {
		t.Error(got)
	}
}
