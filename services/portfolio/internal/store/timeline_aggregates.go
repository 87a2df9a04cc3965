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
// the first and the last of an interval once more. $4 are the numbers of the memberships
// that are valid in the intervals, or severalMemberships, where each hour's is looked up.
var aggregateSnapshots = `
SELECT i.n - 1, opening.total::text, closing.total::text, inside.lowest::text, inside.highest::text, inside.snapshots,
       inside.complete AND inside.out_of_date = 0, inside.out_of_date, coalesce(inside.net_flow::text, '')
FROM unnest($2::timestamptz[], $3::timestamptz[], $4::integer[]) WITH ORDINALITY AS i (start, until, membership, n)
CROSS JOIN LATERAL (
  SELECT min(bucket) AS first, max(bucket) AS last, min(total) AS lowest, max(total) AS highest,
         count(*) AS snapshots, bool_and(complete) AS complete, sum(net_flow) AS net_flow,
         count(*) FILTER (WHERE s.membership <> CASE WHEN i.membership <> -2 THEN i.membership
                          ELSE ` + fmt.Sprintf(membershipAt, "$1", "s.bucket") + ` END) AS out_of_date
  FROM snapshots s WHERE portfolio_id = $1 AND bucket >= i.start AND bucket < i.until) AS inside
JOIN snapshots opening ON opening.portfolio_id = $1 AND opening.bucket = inside.first
JOIN snapshots closing ON closing.portfolio_id = $1 AND closing.bucket = inside.last
ORDER BY i.n`

// severalMemberships stands for the number of an interval with several memberships.
const severalMemberships = -2

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
	numbers, err := s.membershipsOf(ctx, portfolioID, bounds)
	if err != nil {
		return nil, err
	}
	rows, err := s.db.SQL().QueryContext(ctx, aggregateSnapshots, portfolioID, bounds[:len(bounds)-1], bounds[1:],
		numbers)
	if err != nil {
		return nil, fmt.Errorf("aggregate snapshots: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err returns its error
	var out []timeline.Aggregate
	for rows.Next() {
		var a timeline.Aggregate
		err := rows.Scan(&a.Index, &a.Open, &a.Close, &a.Min, &a.Max, &a.Snapshots, &a.Complete, &a.OutOfDate,
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

// membershipsOf returns the numbers of the memberships that are valid in the intervals
// between bounds.
func (s *Snapshots) membershipsOf(ctx context.Context, portfolioID uuid.UUID, bounds []time.Time) ([]int32, error) {
	var rows []membershipRow
	err := s.db.Gorm(ctx).Raw("SELECT number, valid_from FROM memberships WHERE portfolio_id = ? AND valid_from < ? "+
		"ORDER BY valid_from", portfolioID, bounds[len(bounds)-1]).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read the numbers of memberships: %w", err)
	}
	numbers := make([]int32, len(bounds)-1)
	next := 0 // the first that begins after the start of the interval
	for i := range numbers {
		for next < len(rows) && !rows[next].ValidFrom.After(bounds[i]) {
			next++
		}
		switch {
		case next < len(rows) && rows[next].ValidFrom.Before(bounds[i+1]):
			numbers[i] = severalMemberships
		case next > 0:
			numbers[i] = int32(rows[next-1].Number)
		}
	}
	return numbers, nil
}

// lastValueBefore returns the value of the newest snapshot before t, nil when there
// is none.
func (s *Snapshots) lastValueBefore(ctx context.Context, portfolioID uuid.UUID,
	t time.Time) (*timeline.Value, error) {
	var row snapshotRow
	err := s.db.Gorm(ctx).Select(readColumns).
		Where("portfolio_id = ? AND bucket < ?", portfolioID, t).Order("bucket DESC").Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return nil, nil //nolint:nilnil // no snapshot before t is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read the last snapshot before the timeline: %w", err)
	}
	return &timeline.Value{Total: row.Total, Complete: row.Complete && !row.OutOfDate, OutOfDate: row.OutOfDate}, nil
}
