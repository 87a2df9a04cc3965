package cache

import (
	"context"
	_ "embed" // for Schema
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"
	"go.opentelemetry.io/otel/metric"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
)

// Schema is the table of recorded invalidations, cache_invalidations. A service
// copies it into one of its migrations.
//
//go:embed schema.sql
var Schema string

const (
	sweepInterval  = 300 * time.Millisecond // less than the breaker's time between two probes
	sweepBatchSize = 500
	sweepTimeout   = 30 * time.Second // of one batch
)

// recordSQL inserts one row for each key. Rows of the key that are older than ten seconds are merged into the new row,
// which gets the earliest of their times, so that a key has few rows however long Redis is down. Locked rows are left.
const recordSQL = `
WITH merged AS (
  DELETE FROM cache_invalidations WHERE id IN (
    SELECT c.id FROM unnest($1::bytea[]) AS k JOIN cache_invalidations AS c ON c.key = k
    WHERE c.noted_at < now() - interval '10 seconds' FOR UPDATE OF c SKIP LOCKED)
  RETURNING key, noted_at)
INSERT INTO cache_invalidations (key, noted_at)
SELECT k, coalesce(min(noted_at), now()) FROM unnest($1::bytea[]) AS k LEFT JOIN merged ON key = k GROUP BY k`

// RecordInvalidation records in tx that keys are to be invalidated. An [Outbox] invalidates them after the commit. tx
// is the transaction of postgres.InTx that changes the source of keys. Call Invalidate after the commit, or use Write,
// nevertheless: it takes effect sooner. The records remain after that: deleting them in batches is cheaper than one by
// one, and repeats what a failover of Redis may have lost.
//
// A record that is older than ten seconds, as in an outage of Redis, is merged into
// the next one of its key. The Outbox can't process a merged record before its
// transaction has ended, and under repeatable read or above the transaction may
// fail with a serialization error, which InTx retries.
func (c *Cache[V]) RecordInvalidation(tx *gorm.DB, keys ...string) error {
	full := make([][]byte, len(keys))
	for i, key := range keys {
		full[i] = []byte(c.key(key))
	}
	err := postgres.Raw(tx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(tx.Statement.Context, recordSQL, full)
		return err
	})
	if err != nil {
		return fmt.Errorf("cache: record invalidation: %w", err)
	}
	return nil
}

// Outbox carries out the recorded invalidations of all caches of a database. Each
// replica may run one: a row is processed by one of them.
type Outbox struct {
	db    *postgres.DB
	redis Redis
	log   *slog.Logger
	swept metric.Int64Counter
}

// NewOutbox makes an Outbox for a database that has [Schema] and the Redis of its
// caches. log receives a line when sweeps begin to fail and one when they succeed
// again; nil means none.
func NewOutbox(db *postgres.DB, r Redis, log *slog.Logger) *Outbox {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	swept := counter("cache_outbox_swept_total", "Recorded invalidations that the outbox has carried out.")
	swept.Add(context.Background(), 0)
	return &Outbox{db, r, log, swept}
}

// Serve sweeps every 300 ms until ctx ends. A sweep carries out the invalidations
// that were recorded more than a second ago. Errors of Redis and the database are
// logged and retried by the next sweep; Serve itself returns nil.
func (o *Outbox) Serve(ctx context.Context) error {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	var failedBefore bool
	for {
		err := o.sweep(ctx)
		switch failed := err != nil; {
		case ctx.Err() != nil:
			return nil
		case failed && !failedBefore:
			o.log.WarnContext(ctx, "cache: the outbox can't be swept", "error", err)
		case failedBefore && !failed:
			o.log.InfoContext(ctx, "cache: the outbox is swept again")
		}
		failedBefore = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweep processes the table once, in batches. Rows that can't be invalidated remain
// and don't delay the others, unless a whole batch fails.
func (o *Outbox) sweep(ctx context.Context) error {
	var failure error
	for after := int64(0); ; {
		rows, done, err := o.sweepBatch(ctx, after, &failure)
		if err != nil {
			return fmt.Errorf("cache: sweep: %w", err)
		}
		o.swept.Add(ctx, int64(done))
		if len(rows) < sweepBatchSize || done == 0 {
			return failure
		}
		after = rows[len(rows)-1].ID
	}
}

// sweepBatch returns the rows of a batch, which begins after an id, and how many of
// them were invalidated.
func (o *Outbox) sweepBatch(ctx context.Context, after int64, failure *error) (rows []invalidation, n int,
	err error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	err = postgres.InTx(ctx, o.db, func(tx *gorm.DB) (err error) {
		rows, n = nil, 0 // the transaction may be run again
		err = tx.Raw(`SELECT id, key FROM cache_invalidations
			WHERE id > ? AND noted_at < now() - interval '1 second'
			ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED`, after, sweepBatchSize).Scan(&rows).Error
		if err != nil || len(rows) == 0 {
			return err
		}
		var done []int64
		if done, *failure = o.invalidate(ctx, rows, *failure); len(done) == 0 {
			return nil
		}
		n = len(done)
		return tx.Exec(`DELETE FROM cache_invalidations WHERE id IN ?`, done).Error
	})
	return rows, n, err
}

// invalidation is a row of cache_invalidations.
type invalidation struct {
	ID  int64
	Key []byte
}

// invalidate returns the ids of the rows whose keys were invalidated, and the last
// error, which is failure when there was none.
func (o *Outbox) invalidate(ctx context.Context, rows []invalidation, failure error) ([]int64, error) {
	keys := make([]string, len(rows))
	for i, row := range rows {
		keys[i] = string(row.Key)
	}
	var done []int64
	for i, r := range run(ctx, o.redis, &budget{redisx.Budget}, 0, invalidateScript, keys, constant("")) {
		if r.err != nil {
			failure = redisx.Unavailable(r.err)
		} else {
			done = append(done, rows[i].ID)
		}
	}
	return done, failure
}
