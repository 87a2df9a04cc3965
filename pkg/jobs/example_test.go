package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"testing/fstest"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

// withLedger runs an example on a database of its own, with the ledger's tables and
// one of snapshots.
func withLedger(example func(ctx context.Context, db *postgres.DB) error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	db, drop, err := testkit.Database(ctx, fstest.MapFS{"00001_jobs.sql": {Data: []byte("-- +goose Up\n" +
		jobs.Schema + "CREATE TABLE snapshots (snapshot_time timestamptz, shard int);")}})
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := errors.Join(example(ctx, db.DB), drop()); err != nil {
		fmt.Println(err)
	}
}

// A job of two shards writes its effects in the transaction that calls Commit, so
// that they happen once even when the process is killed. Here it is triggered
// instead of waiting for its tick.
func Example() {
	withLedger(func(ctx context.Context, db *postgres.DB) error {
		done := make(chan struct{}, 2)
		runner := jobs.New(db, jobs.Options{PollInterval: 10 * time.Millisecond})
		err := runner.Add(jobs.Job{
			Name: "snapshot", Cron: "CRON_TZ=Europe/Berlin 0 4 * * *", Shards: 2,
			Run: func(ctx context.Context, run *jobs.Run) error {
				defer func() { done <- struct{}{} }()
				return postgres.InTx(ctx, db, func(tx *gorm.DB) error {
					if err := run.Commit(tx); err != nil {
						return err
					}
					return tx.Exec(`INSERT INTO snapshots VALUES (?, ?)`, run.ScheduledAt, run.Shard).Error
				})
			},
		})
		if err != nil {
			return err
		}
		if err := runner.Start(); err != nil {
			return err
		}
		if err := runner.Trigger(ctx, "snapshot"); err != nil {
			return err
		}
		<-done
		<-done
		if err := runner.Shutdown(ctx); err != nil {
			return err
		}
		var snapshots int
		err = db.Gorm(ctx).Raw(`SELECT count(*) FROM snapshots`).Scan(&snapshots).Error
		fmt.Println(snapshots, "snapshots")
		return err
	})
	// Output: 2 snapshots
}

// After an outage CatchUpAll runs every missed tick, oldest first, up to MaxCatchUp.
// Here the job's last tick is set back by three years.
func ExampleCatchUpPolicy() {
	withLedger(func(ctx context.Context, db *postgres.DB) error {
		ticks := make(chan int, 3)
		runner := jobs.New(db, jobs.Options{PollInterval: 10 * time.Millisecond})
		err := runner.Add(jobs.Job{
			Name: "yearly_report", Cron: "0 0 1 1 *", CatchUp: jobs.CatchUpAll, MaxCatchUp: 2,
			Run: func(_ context.Context, run *jobs.Run) error {
				ticks <- time.Now().UTC().Year() - run.ScheduledAt.UTC().Year()
				return nil
			},
		})
		if err != nil {
			return err
		}
		err = db.Gorm(ctx).Exec(`INSERT INTO job_schedules
			VALUES ('yearly_report', date_trunc('year', now()) - interval '3 years')`).Error
		if err != nil {
			return err
		}
		if err := runner.Start(); err != nil {
			return err
		}
		fmt.Println(<-ticks, "year ago,", <-ticks, "years ago")
		return runner.Shutdown(ctx)
	})
	// Output: 1 year ago, 0 years ago
}

// The history of a job is read page by page, newest first.
func ExampleRunner_Runs() {
	withLedger(func(ctx context.Context, db *postgres.DB) error {
		runner := jobs.New(db, jobs.Options{})
		err := runner.Add(jobs.Job{Name: "report", Run: func(context.Context, *jobs.Run) error { return nil }})
		if err != nil {
			return err
		}
		for range 3 {
			if err := runner.Trigger(ctx, "report"); err != nil {
				return err
			}
		}
		var after *jobs.Key
		for {
			page, err := runner.Runs(ctx, "report", after, 2)
			if err != nil || len(page) == 0 {
				return err
			}
			fmt.Println(len(page), "rows, the first", page[0].State)
			after = &page[len(page)-1].Key
		}
	})
	// Output:
	// 2 rows, the first due
	// 1 rows, the first due
}

// Rows of the ledger are deleted after a month.
func ExampleRunner_Pruning() {
	withLedger(func(_ context.Context, db *postgres.DB) error {
		runner := jobs.New(db, jobs.Options{})
		err := runner.Add(runner.Pruning("@daily", 30*24*time.Hour))
		fmt.Println("added:", err == nil)
		return err
	})
	// Output: added: true
}
