package jobs

import (
	"context"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit/versus"
)

// BenchmarkClaimAndFinish measures what the ledger costs a run: a claim and its
// settlement beside the least SQL that marks a row taken and given back.
func BenchmarkClaimAndFinish(b *testing.B) {
	f := setup(b)
	r := New(f.DB.DB, Options{})
	ctx := context.Background()
	f.exec(`CREATE TABLE raw (id int PRIMARY KEY, state text NOT NULL); INSERT INTO raw VALUES (1, 'due')`)
	f.exec(`INSERT INTO job_runs (job, scheduled_at, shard, shards, next_attempt_at) VALUES ('j', now(), 0, 1, now())`)
	must := func(err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	versus.Run(b, versus.Comparison{
		Raw: func() {
			must(f.Gorm(ctx).Exec(`UPDATE raw SET state = 'running' WHERE id = 1`).Error)
			must(f.Gorm(ctx).Exec(`UPDATE raw SET state = 'due' WHERE id = 1`).Error)
		},
		Ours: func() {
			claimed, err := r.ledger.claimRun(ctx, "j", "bench", time.Minute)
			must(err)
			_, err = r.ledger.finishAttempt(f.Gorm(ctx), claimed[0], outcome{}) // due again, for the next
			must(err)
		},
	})
}
