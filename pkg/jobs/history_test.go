package jobs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/purserhq/purser/pkg/errs"
)

func TestHistoryIsPagedWithoutGapOrRepetition(t *testing.T) {
	f := setup(t)
	r := f.runner(Options{})
	f.exec(`INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at)
		SELECT 'job' || j, timestamptz '2026-01-01Z' + (n / 3) * interval '1.000001 seconds', s, 2, now()
		FROM generate_series(1, 3) AS j, generate_series(1, 12) AS n, generate_series(0, 1) AS s
		ON CONFLICT DO NOTHING`)
	rapid.Check(t, func(rt *rapid.T) {
		job := rapid.SampledFrom([]string{"", "job1", "job3", "none"}).Draw(rt, "job")
		limit := rapid.IntRange(1, 40).Draw(rt, "limit")
		want := f.count(`SELECT count(*) FROM job_runs WHERE ? IN ('', job)`, job)
		seen := map[string]bool{}
		var after *Key
		for {
			page, err := r.Runs(t.Context(), job, after, limit)
			if err != nil {
				rt.Fatal(err)
			}
			for _, record := range page {
				if after != nil && record.ScheduledAt.After(after.ScheduledAt) || seen[fmt.Sprint(record.Key)] ||
					job != "" && record.Job != job {
					rt.Fatalf("%+v after %+v", record.Key, after)
				}
				seen[fmt.Sprint(record.Key)] = true
				after = through(rt, record.Key)
			}
			if len(page) < limit {
				break
			}
		}
		if int64(len(seen)) != want {
			rt.Fatalf("%d rows, want %d", len(seen), want)
		}
	})
}

// through returns a key as a page token hands it back.
func through(t *rapid.T, k Key) *Key {
	text, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	var back Key
	if err := json.Unmarshal(text, &back); err != nil {
		t.Fatal(err)
	}
	return &back
}

func TestHistoryTellsHowARunWentByTheDatabasesClock(t *testing.T) {
	f := setup(t)
	r := f.runner(Options{}, Job{Name: "j", Cron: "* * * * *", Backoff: func(int) time.Duration { return time.Second },
		Run: func(_ context.Context, run *Run) error {
			f.forward(7 * time.Second)
			if run.Attempt == 1 {
				return errors.New("not yet")
			}
			return nil
		}})
	f.forward(time.Minute)
	f.poll(r)
	f.forward(time.Second)
	f.poll(r)
	records, err := r.Runs(t.Context(), "j", nil, 10)
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	got := records[0]
	if got.State != "done" || got.Attempt != 2 || got.Error != "not yet" || got.Duration != 7*time.Second ||
		got.StartedAt.UTC().Format(time.TimeOnly) != "00:01:38" ||
		got.FinishedAt.Sub(*got.StartedAt) != got.Duration || got.ClaimedBy != r.o.Name {
		t.Errorf("%+v", got)
	}
}

func TestPruningDeletesOnlyWhatIsOver(t *testing.T) {
	f := setup(t)
	r := f.runner(Options{}, Job{Name: "j", Cron: "* * * * *", CatchUp: CatchUpAll,
		Run: func(context.Context, *Run) error { return nil }})
	f.forward(3 * time.Minute)
	f.poll(r)
	f.exec(`INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at)
		VALUES ('removed', test_now(), 0, 1, test_now())`)
	f.exec(`INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at, state, finished_at)
		SELECT 'many', test_now() + n * interval '1 millisecond', 0, 1, test_now(), 'done', test_now()
		FROM generate_series(1, ?) AS n`, pruneBatch+1)
	f.forward(2 * time.Hour)
	f.exec(`INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at)
		VALUES ('waits', test_now() - interval '3 hours', 0, 1, test_now() + interval '1 hour')`)
	f.exec(`INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at, state, lease_until)
		VALUES ('runs', test_now() - interval '3 hours', 0, 1, test_now() - interval '3 hours', 'running',
		  test_now())`)
	prune := r.Pruning("@daily", time.Hour)
	if err := prune.Run(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if n := f.count(`SELECT count(*) FROM job_runs`); n != 2 {
		t.Errorf("%d rows, want the one that waits and the one that runs", n)
	}
	f.poll(r)
	if n := f.count(`SELECT count(*) FROM job_runs WHERE job = 'j'`); n != 101 {
		t.Errorf("%d rows after pruning, want the 100 newest since the last tick, and one for those before", n)
	}
}

// A page goes on where the last one ended, for the same caller and query only.
func TestAPageIsOfOneCallersQuery(t *testing.T) {
	f := setup(t)
	r := f.runner(Options{})
	f.exec(`INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at)
		SELECT 'job', timestamptz '2026-01-01Z' + n * interval '1 hour', 0, 1, now() FROM generate_series(1, 5) AS n`)
	first, next, err := r.Page(t.Context(), "ann", "job", 3, "")
	if err != nil || len(first) != 3 || next == "" {
		t.Fatalf("%d rows, next %q, %v", len(first), next, err)
	}
	rest, end, err := r.Page(t.Context(), "ann", "job", 3, next)
	if err != nil || len(rest) != 2 || end != "" || !rest[0].ScheduledAt.Before(first[2].ScheduledAt) {
		t.Fatalf("%d rows, next %q, %v", len(rest), end, err)
	}
	for _, other := range [][2]string{{"bob", "job"}, {"ann", ""}} {
		if _, _, err := r.Page(t.Context(), other[0], other[1], 3, next); !errs.Is(err, errs.KindInvalid) {
			t.Errorf("%v: %v", other, err)
		}
	}
}
