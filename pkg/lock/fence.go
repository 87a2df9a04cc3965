package lock

import (
	"context"
	_ "embed" // for Schema
	"errors"
	"fmt"

	"gorm.io/gorm"
)

// Schema is the table that [Fenced] and [Floor] need. A service puts it into
// a migration of its own.
//
//go:embed schema.sql
var Schema string

// ErrFenced says that a newer holder of the lock has already written.
var ErrFenced = errors.New("lock: a newer holder has written")

// Fenced is the first statement of a transaction that writes under g. It lets
// the transaction go on only while no holder with a greater fence has written,
// and keeps newer holders waiting until the transaction ends; otherwise it
// returns [ErrFenced] and the transaction must be rolled back.
func Fenced(tx *gorm.DB, g *Guard) error {
	if g.fence == 0 {
		return errors.New("lock: an unfenced lock protects no write")
	}
	result := tx.Exec(`INSERT INTO lock_fences AS f (name, fence) VALUES (?, ?)
		ON CONFLICT (name) DO UPDATE SET fence = EXCLUDED.fence, updated_at = now() WHERE f.fence <= EXCLUDED.fence`,
		g.name, g.fence)
	if result.Error != nil {
		return fmt.Errorf("lock: fence: %w", result.Error)
	}
	if result.RowsAffected == 0 {
		return ErrFenced
	}
	return nil
}

// Floor is an [Options.Floor] that reads the table of [Fenced]. db returns
// the service's handle for a context.
func Floor(db func(context.Context) *gorm.DB) func(context.Context, string) (int64, error) {
	return func(ctx context.Context, name string) (int64, error) {
		var fence int64
		err := db(ctx).Raw(`SELECT coalesce(max(fence), 0) FROM lock_fences WHERE name = ?`, name).Scan(&fence).Error
		return fence, err
	}
}
