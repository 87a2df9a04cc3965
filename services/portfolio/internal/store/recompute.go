package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
)

// DueForRecompute implements snapshot.RecomputeStore.
func (s *Portfolios) DueForRecompute(ctx context.Context, shard, shards int, at time.Time, limit int) (
	due []snapshot.ToRecompute, err error) {
	var rows []portfolioRow
	err = s.db.Gorm(ctx).Raw(`
		SELECT * FROM portfolios
		WHERE recompute_from IS NOT NULL AND recompute_at <= ? AND get_byte(uuid_send(owner_id), 15) % ? = ?
		ORDER BY recompute_at, id LIMIT ?`, at.UTC(), shards, shard, limit).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read portfolios to recompute: %w", err)
	}
	for _, r := range rows {
		due = append(due, snapshot.ToRecompute{Portfolio: portfolioFromRow(r), From: r.RecomputeFrom.UTC(),
			Last: r.LastMembership})
	}
	return due, nil
}

// Recomputed implements snapshot.RecomputeStore. Whatever makes a snapshot out of date
// changes last_membership.
func (s *Portfolios) Recomputed(ctx context.Context, p snapshot.ToRecompute, next, at time.Time) error {
	var from, again *time.Time
	if !next.IsZero() {
		next, at = next.UTC(), at.UTC()
		from, again = &next, &at
	}
	err := s.db.Gorm(ctx).Exec(`UPDATE portfolios SET recompute_from = ?, recompute_at = ?
		WHERE id = ? AND last_membership = ?`, from, again, p.ID, p.Last).Error
	if err != nil {
		return fmt.Errorf("note recomputed snapshots: %w", err)
	}
	return nil
}

// RetryRecompute implements snapshot.RecomputeStore.
func (s *Portfolios) RetryRecompute(ctx context.Context, id uuid.UUID, at time.Time) error {
	err := s.db.Gorm(ctx).Exec("UPDATE portfolios SET recompute_at = ? WHERE id = ? AND recompute_from IS NOT NULL",
		at.UTC(), id).Error
	if err != nil {
		return fmt.Errorf("note when to recompute snapshots: %w", err)
	}
	return nil
}
