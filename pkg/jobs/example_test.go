package jobs_test

import (
	"context"
	"fmt"
	"time"

	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit/pgserver"
)

// withLedger runs an example on a server of its own, with the ledger's tables
// and one of snapshots.
func withLedger(example func(ctx context.Context, db *postgres.DB) error) {
	ctx := context.Background()
	server, err := pgserver.Start(ctx, pgserver.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = server.Stop(ctx) }()
	db, err := postgres.Open(ctx, postgres.Options{URL: server.URL("postgres")})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = db.Close() }()
	err = db.Gorm(ctx).Exec(jobs.Schema + `CREATE TABLE snapshots (taken_at timestamptz, shard int)`).Error
	if err == nil {
		err = example(ctx, db)
	}
	if err != nil {
		fmt.Println(err)
	}
}

// A job of two shards writes its effects in the transaction that calls Commit,
// so that they happen once whatever befalls the process. Here it is triggered
// rather than waited for.
func Example() {
	withLedger(func(ctx context.Context, db *postgres.DB) error {
		done := make(chan struct{}, 2)
		runner := jobs.New(db, jobs.Options{Poll: 10 * time.Millisecond})
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

// Rows of the ledger are kept for a month.
func ExampleRunner_Pruning() {
	withLedger(func(_ context.Context, db *postgres.DB) error {
		runner := jobs.New(db, jobs.Options{})
		err := runner.Add(runner.Pruning("@daily", 30*24*time.Hour))
		fmt.Println("added:", err == nil)
		return err
	})
	// Output: added: true
}
