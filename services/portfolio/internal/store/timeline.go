package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/services/portfolio/internal/timeline"
)

// Buckets implements timeline.Store: one statement that reads each snapshot
// once, by the primary key.
func (s *Snapshots) Buckets(ctx context.Context, portfolio uuid.UUID, bounds []time.Time) ([]timeline.Bucket, error) {
	rows, err := s.db.SQL().QueryContext(ctx, `
		SELECT width_bucket(bucket, $2::timestamptz[]) - 1 AS index,
		       (array_agg(total::text ORDER BY bucket))[1],
		       (array_agg(total::text ORDER BY bucket DESC))[1],
		       min(total)::text, max(total)::text, count(*), bool_and(complete)
		FROM snapshots
		WHERE portfolio_id = $1 AND bucket >= $3 AND bucket < $4
		GROUP BY 1 ORDER BY 1`,
		portfolio, bounds, bounds[0], bounds[len(bounds)-1])
	if err != nil {
		return nil, fmt.Errorf("read timeline: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	var out []timeline.Bucket
	for rows.Next() {
		var b timeline.Bucket
		if err := rows.Scan(&b.Index, &b.Open, &b.Close, &b.Min, &b.Max, &b.Snapshots, &b.Complete); err != nil {
			return nil, fmt.Errorf("read timeline: %w", err)
		}
		out = append(out, b)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read timeline: %w", err)
	}
	return out, nil
}

// Before implements timeline.Store.
func (s *Snapshots) Before(ctx context.Context, portfolio uuid.UUID, t time.Time) (timeline.Value, bool, error) {
	var row snapshotRow
	err := s.db.Gorm(ctx).Select("total", "complete").
		Where("portfolio_id = ? AND bucket < ?", portfolio, t).Order("bucket DESC").Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return timeline.Value{}, false, nil
	}
	if err != nil {
		return timeline.Value{}, false, fmt.Errorf("read value before the timeline: %w", err)
	}
	return timeline.Value{Total: row.Total, Complete: row.Complete}, true, nil
}
