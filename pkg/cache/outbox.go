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

// Schema is the table of notes. A service puts it into a migration of its own.
//
//go:embed schema.sql
var Schema string

const (
	sweepEvery = 300 * time.Millisecond // so that the breaker's probe is never far
	sweepBatch = 500
)

// noteSQL keeps few rows for a key, however long Redis is away: it takes over
// those that should have been swept long ago and that nobody is at work on. The
// earliest time stays.
const noteSQL = `
WITH merged AS (
  DELETE FROM cache_invalidations WHERE id IN (
    SELECT c.id FROM unnest($1::bytea[]) AS k JOIN cache_invalidations AS c ON c.key = k
    WHERE c.noted_at < now() - interval '10 seconds' FOR UPDATE OF c SKIP LOCKED)
  RETURNING key, noted_at)
INSERT INTO cache_invalidations (key, noted_at)
SELECT k, coalesce(min(noted_at), now()) FROM unnest($1::bytea[]) AS k LEFT JOIN merged ON key = k GROUP BY k`

// Note writes that keys are to be invalidated into tx, the transaction of
// postgres.InTx that changes what they are loaded from; an [Outbox] sees to it
// after the commit. Invalidate, or Write, all the same: it is sooner. The notes
// stay when that has succeeded: to sweep them in batches costs less than to
// delete them one by one, and heals a failover of Redis that lost it.
//
// A note that waits for Redis for more than ten seconds is merged into the next
// one of its key, so an outage leaves a row for each key that has changed and
// those of its last seconds. A transaction that has merged holds the note back
// until it ends, and under repeatable read or above may have to be run again,
// as InTx does.
func (c *Cache[V]) Note(tx *gorm.DB, keys ...string) error {
	full := make([][]byte, len(keys))
	for i, key := range keys {
		full[i] = []byte(c.key(key))
	}
	err := postgres.Raw(tx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(tx.Statement.Context, noteSQL, full)
		return err
	})
	if err != nil {
		return fmt.Errorf("cache: note: %w", err)
	}
	return nil
}

// Outbox invalidates what was noted, for all caches of a database. Each replica
// may have one: no two work on the same notes.
type Outbox struct {
	db    *postgres.DB
	redis Redis
	log   *slog.Logger
	swept metric.Int64Counter
}

// NewOutbox makes an Outbox on a database that has [Schema]. r is a
// client of the Redis of its caches. log receives a line when sweeping begins
// and ceases to fail; nil means none.
func NewOutbox(db *postgres.DB, r Redis, log *slog.Logger) *Outbox {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Outbox{db, r, log, counter("cache_outbox_swept_total", "Notes of the outbox that were invalidated.")}
}

// Serve sweeps until ctx ends: every 300 ms what was noted more than a second
// ago. While Redis or the database is away it waits.
func (o *Outbox) Serve(ctx context.Context) error {
	tick := time.NewTicker(sweepEvery)
	defer tick.Stop()
	var away bool
	for {
		err := o.sweep(ctx)
		switch failed := err != nil; {
		case ctx.Err() != nil:
			return nil
		case failed && !away:
			o.log.WarnContext(ctx, "cache: the outbox can't be swept", "error", err)
		case away && !failed:
			o.log.InfoContext(ctx, "cache: the outbox is swept again")
		}
		away = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweep goes once through the notes. What can't be invalidated stays behind and
// doesn't keep the rest waiting, unless nothing of a batch can.
func (o *Outbox) sweep(ctx context.Context) error {
	var failure error
	for after := int64(0); ; {
		var notes []note
		var done []int64
		err := postgres.InTx(ctx, o.db, func(tx *gorm.DB) (err error) {
			notes, done = nil, nil // it may be run again
			err = tx.Raw(`SELECT id, key FROM cache_invalidations WHERE id > ? AND noted_at < now() - interval '1 second'
				ORDER BY id LIMIT ? FOR UPDATE SKIP LOCKED`, after, sweepBatch).Scan(&notes).Error
			if err != nil || len(notes) == 0 {
				return err
			}
			if done, failure = o.invalidate(ctx, notes, failure); len(done) == 0 {
				return nil
			}
			return tx.Exec(`DELETE FROM cache_invalidations WHERE id IN ?`, done).Error
		})
		if err != nil {
			return fmt.Errorf("cache: sweep: %w", err)
		}
		o.swept.Add(ctx, int64(len(done)))
		if len(notes) < sweepBatch || len(done) == 0 {
			return failure
		}
		after = notes[len(notes)-1].ID
	}
}

type note struct {
	ID  int64
	Key []byte
}

// invalidate returns which notes are done, and why others aren't or what failed
// before.
func (o *Outbox) invalidate(ctx context.Context, notes []note, failure error) ([]int64, error) {
	keys := make([]string, len(notes))
	for i, n := range notes {
		keys[i] = string(n.Key)
	}
	var done []int64
	for i, r := range run(ctx, o.redis, &budget{redisx.Budget}, 0, invalidateScript, keys, constant("")) {
		if r.err != nil {
			failure = redisx.Unavailable(r.err)
		} else {
			done = append(done, notes[i].ID)
		}
	}
	return done, failure
}
