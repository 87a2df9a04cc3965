package store

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
)

// aggregateSnapshots sums up the snapshots of portfolio $1 within each of the intervals
// from $2 (included) to $3 (excluded). It reads each snapshot once, by the primary key, and
// the first and the last of an interval once more. One with a price gap is counted only.
const aggregateSnapshots = `
SELECT i.n - 1, coalesce(opening.total::text, ''), coalesce(closing.total::text, ''),
       coalesce(inside.lowest::text, ''), coalesce(inside.highest::text, ''), inside.snapshots, inside.left_out,
       inside.complete, coalesce(inside.net_flow::text, '')
FROM unnest($2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS i (start, until, n)
CROSS JOIN LATERAL (
  SELECT min(bucket) FILTER (WHERE NOT price_gap) AS first, max(bucket) FILTER (WHERE NOT price_gap) AS last,
         min(total) FILTER (WHERE NOT price_gap) AS lowest, max(total) FILTER (WHERE NOT price_gap) AS highest,
         count(*) AS snapshots, count(*) FILTER (WHERE price_gap) AS left_out, bool_and(complete) AS complete,
         sum(net_flow) AS net_flow
  FROM snapshots WHERE portfolio_id = $1 AND bucket >= i.start AND bucket < i.until) AS inside
LEFT JOIN snapshots opening ON opening.portfolio_id = $1 AND opening.bucket = inside.first
LEFT JOIN snapshots closing ON closing.portfolio_id = $1 AND closing.bucket = inside.last
WHERE inside.snapshots > 0
ORDER BY i.n`

// Aggregate implements timeline.Store. It answers from the cache until a snapshot
// of the portfolio is stored.
func (s *Snapshots) Aggregate(ctx context.Context, p portfolio.Portfolio,
	bounds []time.Time) (timeline.Aggregates, error) {
	generation, err := s.caches.generations.Get(ctx, portfolioKey(p), func(context.Context) (string, error) {
		return rand.Text(), nil
	})
	if err != nil {
		return timeline.Aggregates{}, err
	}
	key := portfolioKey(p) + "/" + generation + "/" + digest(bounds)
	return s.caches.timelines.Get(ctx, key, func(ctx context.Context) (timeline.Aggregates, error) {
		intervals, err := s.aggregate(ctx, p.ID, bounds)
		if err != nil {
			return timeline.Aggregates{}, err
		}
		before, err := s.lastValueBefore(ctx, p.ID, bounds[0])
		return timeline.Aggregates{Intervals: intervals, Before: before}, err
	})
}

// digest identifies boundaries: besides the snapshots, aggregates depend on nothing
// else.
func digest(bounds []time.Time) string {
	text := make([]byte, 0, 8*len(bounds))
	for _, t := range bounds {
		text = binary.BigEndian.AppendUint64(text, uint64(t.Unix()))
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

func (s *Snapshots) aggregate(ctx context.Context, portfolioID uuid.UUID,
	bounds []time.Time) ([]timeline.Aggregate, error) {
	rows, err := s.db.SQL().QueryContext(ctx, aggregateSnapshots, portfolioID, bounds[:len(bounds)-1], bounds[1:])
	if err != nil {
		return nil, fmt.Errorf("aggregate snapshots: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err returns its error
	var out []timeline.Aggregate
	for rows.Next() {
		var a timeline.Aggregate
		err := rows.Scan(&a.Index, &a.Open, &a.Close, &a.Min, &a.Max, &a.Snapshots, &a.LeftOut, &a.Complete,
			&a.NetFlow)
		if err != nil {
			return nil, fmt.Errorf("aggregate snapshots: %w", err)
		}
		out = append(out, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("aggregate snapshots: %w", err)
	}
	return out, nil
}

// lastValueBefore returns the value of the newest snapshot before t without a price gap,
// nil when there is none.
func (s *Snapshots) lastValueBefore(ctx context.Context, portfolioID uuid.UUID,
	t time.Time) (*timeline.Value, error) {
	var row snapshotRow
	err := s.db.Gorm(ctx).Select("total", "complete").
		Where("portfolio_id = ? AND bucket < ? AND NOT price_gap", portfolioID, t).
		Order("bucket DESC").Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return nil, nil //nolint:nilnil // no snapshot before t is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read the last snapshot before the timeline: %w", err)
	}
	return &timeline.Value{Total: row.Total, Complete: row.Complete}, nil
}
