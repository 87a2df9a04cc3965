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

// History implements timeline.Store, from the cache while no snapshot of the
// portfolio was written.
func (s *Snapshots) History(ctx context.Context, p portfolio.Portfolio, bounds []time.Time) (timeline.History, error) {
	generation, err := s.caches.generations.Get(ctx, key(p), func(context.Context) (string, error) {
		return rand.Text(), nil
	})
	if err != nil {
		return timeline.History{}, err
	}
	page := key(p) + "/" + generation + "/" + digest(bounds)
	return s.caches.timelines.Get(ctx, page, func(ctx context.Context) (timeline.History, error) {
		buckets, err := s.buckets(ctx, p.ID, bounds)
		if err != nil {
			return timeline.History{}, err
		}
		before, err := s.before(ctx, p.ID, bounds[0])
		return timeline.History{Buckets: buckets, Before: before}, err
	})
}

// digest names boundaries: all that a history depends on beside the snapshots.
func digest(bounds []time.Time) string {
	text := make([]byte, 0, 8*len(bounds))
	for _, t := range bounds {
		text = binary.BigEndian.AppendUint64(text, uint64(t.Unix()))
	}
	sum := sha256.Sum256(text)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// buckets takes one statement that reads each snapshot once, by the primary
// key.
func (s *Snapshots) buckets(ctx context.Context, portfolio uuid.UUID, bounds []time.Time) ([]timeline.Bucket, error) {
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

// before returns the newest value before t, nil when there is none.
func (s *Snapshots) before(ctx context.Context, portfolio uuid.UUID, t time.Time) (*timeline.Value, error) {
	var row snapshotRow
	err := s.db.Gorm(ctx).Select("total", "complete").
		Where("portfolio_id = ? AND bucket < ?", portfolio, t).Order("bucket DESC").Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return nil, nil //nolint:nilnil // no value before, no error
	}
	if err != nil {
		return nil, fmt.Errorf("read value before the timeline: %w", err)
	}
	return &timeline.Value{Total: row.Total, Complete: row.Complete}, nil
}
