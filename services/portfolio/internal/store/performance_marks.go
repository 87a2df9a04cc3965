package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/performance"
)

// readMarks reads the measurable snapshots of portfolio $1 that a performance from $2
// to $3 needs: the last one at or before each of the two, the first one between them,
// those with a flow, and the last one of each day, from $4 (excluded) to $5.
var readMarks = `
SELECT bucket, total::text, coalesce(net_flow, 0)::text, complete,
       membership <> ` + fmt.Sprintf(membershipAt, "$1", "bucket") + `
FROM (
  (SELECT bucket, total, net_flow, complete, membership FROM snapshots
   WHERE portfolio_id = $1 AND bucket <= $2 AND measurable ORDER BY bucket DESC LIMIT 1)
  UNION
  (SELECT bucket, total, net_flow, complete, membership FROM snapshots
   WHERE portfolio_id = $1 AND bucket > $2 AND bucket <= $3 AND measurable ORDER BY bucket LIMIT 1)
  UNION
  (SELECT bucket, total, net_flow, complete, membership FROM snapshots
   WHERE portfolio_id = $1 AND bucket > $2 AND bucket <= $3 AND measurable ORDER BY bucket DESC LIMIT 1)
  UNION
  SELECT bucket, total, net_flow, complete, membership FROM snapshots
  WHERE portfolio_id = $1 AND bucket > $2 AND bucket <= $3 AND net_flow <> 0
  UNION
  SELECT closing.* FROM unnest($4::timestamptz[], $5::timestamptz[]) AS day (after, until)
  CROSS JOIN LATERAL (
    SELECT bucket, total, net_flow, complete, membership FROM snapshots
    WHERE portfolio_id = $1 AND bucket > day.after AND bucket <= day.until AND measurable
    ORDER BY bucket DESC LIMIT 1) AS closing
) AS marks
ORDER BY bucket`

const countLeftOut = `
SELECT count(*) FROM snapshots WHERE portfolio_id = $1 AND bucket > $2 AND bucket <= $3 AND NOT measurable`

// Marks implements performance.Store.
func (s *Snapshots) Marks(ctx context.Context, portfolioID uuid.UUID, start, end time.Time,
	days []time.Time) (series performance.Series, err error) {
	var after, until []time.Time
	if len(days) > 1 {
		after, until = days[:len(days)-1], days[1:]
	}
	rows, err := s.db.SQL().QueryContext(ctx, readMarks, portfolioID, start, end, after, until)
	if err != nil {
		return series, fmt.Errorf("read marks: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var m performance.Mark
		var total, flow string
		var complete, outOfDate bool
		if err := rows.Scan(&m.Time, &total, &flow, &complete, &outOfDate); err != nil {
			return series, fmt.Errorf("read marks: %w", err)
		}
		if m.Value, err = parseDecimal(total); err != nil {
			return series, err
		}
		if m.NetFlow, err = parseDecimal(flow); err != nil {
			return series, err
		}
		m.Time = m.Time.UTC()
		if outOfDate {
			series.OutOfDate++
			complete = false
		}
		if len(series.Marks) == 0 {
			series.StartComplete = complete
		}
		series.EndComplete = complete
		series.Marks = append(series.Marks, m)
	}
	if err := rows.Err(); err != nil {
		return series, fmt.Errorf("read marks: %w", err)
	}
	err = s.db.SQL().QueryRowContext(ctx, countLeftOut, portfolioID, start, end).Scan(&series.LeftOut)
	if err != nil {
		return series, fmt.Errorf("count snapshots that are left out: %w", err)
	}
	return series, nil
}

// tokenPrices are those of token $3, wherever the portfolio has it. Each place is one step in the index.
const tokenPrices = `
WITH RECURSIVE known (asset, place) AS (
  SELECT a.id, (SELECT min(place) FROM position_changes WHERE portfolio_id = $1 AND asset = a.id)
  FROM assets a WHERE a.token_id = $3
  UNION ALL
  SELECT asset, (SELECT min(c.place) FROM position_changes c
                 WHERE c.portfolio_id = $1 AND c.asset = known.asset AND c.place > known.place)
  FROM known WHERE place IS NOT NULL
)
SELECT DISTINCT s.bucket, p.price::text
FROM known JOIN snapshots s ON s.portfolio_id = $1 AND s.bucket = ANY($2::timestamptz[])
CROSS JOIN LATERAL (
  SELECT amount FROM position_changes c
  WHERE c.portfolio_id = s.portfolio_id AND c.asset = known.asset AND c.place = known.place AND c.bucket <= s.bucket
  ORDER BY c.bucket DESC LIMIT 1) AS held
CROSS JOIN LATERAL (
  SELECT price FROM hour_prices p WHERE p.bucket = s.bucket AND p.asset = known.asset AND p.seq <= s.price_seq
  ORDER BY p.seq DESC LIMIT 1) AS p
WHERE held.amount IS NOT NULL AND p.price IS NOT NULL`

// Prices implements performance.Store.
func (s *Snapshots) Prices(ctx context.Context, portfolioID uuid.UUID, tokenID string,
	buckets []time.Time) (found map[time.Time]*apd.Decimal, err error) {
	rows, err := s.db.SQL().QueryContext(ctx, tokenPrices, portfolioID, buckets, tokenID)
	if err != nil {
		return nil, fmt.Errorf("read prices of snapshots: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	found = map[time.Time]*apd.Decimal{}
	for rows.Next() {
		var bucket time.Time
		var price string
		if err := rows.Scan(&bucket, &price); err != nil {
			return nil, fmt.Errorf("read prices of snapshots: %w", err)
		}
		if found[bucket.UTC()], err = parseDecimal(price); err != nil {
			return nil, err
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read prices of snapshots: %w", err)
	}
	return found, nil
}
