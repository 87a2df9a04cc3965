package lock

import (
	"context"
	_ "embed" // for Schema
	"errors"
	"fmt"

	"gorm.io/gorm"
)

// Schema is the table that [Fenced] and [Floor] need, lock_fences. A service copies
// it into one of its migrations.
//
//go:embed schema.sql
var Schema string

// ErrFenced is returned when a newer holder of the lock has already written.
var ErrFenced = errors.New("lock: a newer holder has written")

// Fenced checks g's fence in Postgres. It is for code that holds a lock of its own
// and writes to Postgres under it: a holder that was paused past its lease may not
// overwrite what a newer one wrote. Package jobs doesn't need it: its runs are
// fenced by jobs.Run.Sequence, with jobs.Run.Commit.
//
// Call it first in a transaction that writes under g. It returns [ErrFenced] when a
// holder with a greater fence has written, or another one with the same, which a
// failover of Redis can give: roll the transaction back. Otherwise newer holders
// wait in their Fenced until this transaction ends.
func Fenced(tx *gorm.DB, g *Guard) error {
	if g.fence == 0 {
		return errors.New("lock: Fenced needs a fence, and Options.Unfenced is set")
	}
	result := tx.Exec(`INSERT INTO lock_fences AS f (name, fence, holder) VALUES (?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET fence = EXCLUDED.fence, holder = EXCLUDED.holder, updated_at = now()
		WHERE f.fence < EXCLUDED.fence OR f.fence = EXCLUDED.fence AND f.holder = EXCLUDED.holder`,
		g.name, g.fence, g.token)
	if result.Error != nil {
		return fmt.Errorf("lock: fence: %w", result.Error)
	}
	if result.RowsAffected == 0 {
		return ErrFenced
	}
	return nil
}

// Floor returns an [Options.Floor] that reads the table of [Fenced]. db returns a
// handle for a context, such as postgres.DB.Gorm.
func Floor(db func(context.Context) *gorm.DB) func(context.Context, string) (int64, error) {
	return func(ctx context.Context, name string) (int64, error) {
		var fence int64
		err := db(ctx).Raw(`SELECT coalesce(max(fence), 0) FROM lock_fences WHERE name = ?`, name).Scan(&fence).Error
		return fence, err
	}
}
