package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
)

// CountRows implements export.Store.
func (s *Snapshots) CountRows(ctx context.Context, portfolioID uuid.UUID, start,
	end time.Time) (hours, positions int, err error) {
	err = s.db.SQL().QueryRowContext(ctx, `SELECT count(*), coalesce(sum(position_count), 0) FROM snapshots
		WHERE portfolio_id = $1 AND bucket >= $2 AND bucket < $3`, portfolioID, start, end).Scan(&hours, &positions)
	if err != nil {
		return 0, 0, fmt.Errorf("count snapshots: %w", err)
	}
	return hours, positions, nil
}

// ListForward implements export.Store.
func (s *Snapshots) ListForward(ctx context.Context, portfolioID uuid.UUID, start, end time.Time,
	limit int) ([]snapshot.Snapshot, error) {
	var rows []snapshotRow
	err := s.db.Gorm(ctx).Where("portfolio_id = ? AND bucket >= ? AND bucket < ?", portfolioID, start, end).
		Order("bucket").Limit(limit).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	return snapshotsFromRows(rows)
}
