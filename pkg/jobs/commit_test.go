package jobs

import (
	"context"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
)

// From Commit on nobody can take the run over, so a transaction of effects may
// take longer than the lease.
func TestATransactionOfEffectsMayOutlastTheLease(t *testing.T) {
	f := setup(t)
	attempts := 0
	r := f.runner(Options{Lease: 300 * time.Millisecond}, Job{Name: "j", Cron: "* * * * *", Run: func(ctx context.Context, run *Run) error {
		attempts++
		return postgres.InTx(ctx, f.DB.DB, func(tx *gorm.DB) error {
			if err := run.Commit(tx); err != nil {
				return err
			}
			for range 9 { // three leases in all
				if err := tx.Exec(`SELECT pg_sleep(0.1)`).Error; err != nil {
					return err
				}
			}
			return tx.Exec(`INSERT INTO effects VALUES (?, ?, ?, ?)`, run.Job, run.ScheduledAt, run.Shard, run.Attempt).Error
		})
	}})
	f.forward(time.Minute)
	f.poll(r)
	if done, effects := f.count(`SELECT count(*) FROM job_runs WHERE state = 'done'`), f.count(`SELECT count(*) FROM effects`); done != 1 || effects != 1 || attempts != 1 {
		t.Fatalf("%d done, %d effects after %d attempts; want one of each", done, effects, attempts)
	}
}

func TestABackoffThatPanicsIsAFailedRunLikeAnother(t *testing.T) {
	f := setup(t)
	r := f.runner(Options{}, Job{
		Name: "j", Cron: "* * * * *",
		Backoff: func(int) time.Duration { panic("no idea") },
		Run:     func(context.Context, *Run) error { return context.DeadlineExceeded },
	})
	f.forward(time.Minute)
	f.poll(r)
	if n := f.count(`SELECT count(*) FROM job_runs WHERE next_attempt_at IS NOT NULL`); n != 1 {
		t.Fatalf("%d runs wait for another attempt, want 1", n)
	}
}
