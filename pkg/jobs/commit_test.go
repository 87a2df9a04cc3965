package jobs

import (
	"context"
	"testing"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// From Commit on nobody can take the run over, so a transaction of effects may
// take longer than the lease.
func TestATransactionOfEffectsMayOutlastTheLease(t *testing.T) {
	t.Parallel()
	f := setup(t)
	attempts := 0
	r := f.runner(Options{Lease: 300 * time.Millisecond},
		Job{Name: "j", Cron: "* * * * *", Run: func(ctx context.Context, run *Run) error {
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
				return tx.Exec(`INSERT INTO effects VALUES (?, ?, ?, ?)`, run.Job, run.ScheduledAt, run.Shard,
					run.Attempt).Error
			})
		}})
	f.forward(time.Minute)
	f.poll(r)
	if done, effects := f.count(`SELECT count(*) FROM job_runs WHERE state = 'done'`),
		f.count(`SELECT count(*) FROM effects`); done != 1 || effects != 1 || attempts != 1 {
		t.Fatalf("%d done, %d effects after %d attempts; want one of each", done, effects, attempts)
	}
}

// Nor does it hold the polls of others up, which pass the row over.
func TestATransactionOfEffectsHoldsNoPollUp(t *testing.T) {
	f := setup(t)
	marked, goOn := make(chan struct{}), make(chan struct{})
	job := Job{Name: "j", Run: func(ctx context.Context, run *Run) error {
		return postgres.InTx(ctx, f.DB.DB, func(tx *gorm.DB) error {
			err := run.Commit(tx)
			close(marked)
			<-goOn
			return err
		})
	}}
	r, other := f.runner(Options{}, job), f.runner(Options{}, job)
	if err := r.Trigger(t.Context(), "j"); err != nil {
		t.Fatal(err)
	}
	if err := r.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, marked, time.Minute)
	f.forward(time.Hour)
	begin := time.Now()
	err := other.poll(t.Context())
	took := time.Since(begin)
	close(goOn)
	f.wait(r)
	if err != nil || took > 2*time.Second { // the lock timeout
		t.Errorf("a poll took %s: %v", took, err)
	}
	done := f.count(`SELECT count(*) FROM job_runs WHERE state = 'done' AND attempt = 1 AND crashes = 0`)
	if done != 1 {
		t.Errorf("%d done at the first attempt, want 1", done)
	}
}
