package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/allocation"
)

const lastOfIntervals = `
SELECT i.n - 1, last.bucket, last.complete, last.position_count
FROM unnest($2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS i (start, until, n)
CROSS JOIN LATERAL (
  SELECT bucket, complete, position_count FROM snapshots
  WHERE portfolio_id = $1 AND bucket >= i.start AND bucket < i.until AND NOT price_gap
  ORDER BY bucket DESC LIMIT 1) AS last
ORDER BY i.n`

// LastOfIntervals implements allocation.Store.
func (s *Snapshots) LastOfIntervals(ctx context.Context, portfolioID uuid.UUID,
	bounds []time.Time) (found []allocation.Last, err error) {
	rows, err := s.db.SQL().QueryContext(ctx, lastOfIntervals, portfolioID, bounds[:len(bounds)-1], bounds[1:])
	if err != nil {
		return nil, fmt.Errorf("read last snapshots: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var l allocation.Last
		if err := rows.Scan(&l.Index, &l.Bucket, &l.Complete, &l.Positions); err != nil {
			return nil, fmt.Errorf("read last snapshots: %w", err)
		}
		l.Bucket = l.Bucket.UTC()
		found = append(found, l)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read last snapshots: %w", err)
	}
	return found, nil
}
