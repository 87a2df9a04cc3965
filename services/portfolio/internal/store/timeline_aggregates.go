package store

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
)

// withMemberships begins a statement that joins the memberships of portfolio $1.
var withMemberships = "\nWITH valid AS MATERIALIZED (" + fmt.Sprintf(membershipPeriods, "$1") + ")"

// aggregateSnapshots sums up the snapshots of portfolio $1 within each of the intervals
// from $2 (included) to $3 (excluded). It reads each snapshot once, by the primary key, and
// the first and the last of an interval once more. One with a price gap is counted only.
// The membership of an hour is looked up only where an interval has several.
var aggregateSnapshots = withMemberships + `
SELECT i.n - 1, coalesce(opening.total::text, ''), coalesce(closing.total::text, ''),
       coalesce((closing.total + closing.liabilities)::text, ''), coalesce(closing.liabilities::text, ''),
       coalesce(closing.collateral::text, ''), coalesce(inside.lowest::text, ''), coalesce(inside.highest::text, ''),
       inside.snapshots, inside.left_out, inside.complete AND inside.out_of_date = 0, inside.out_of_date,
       coalesce(inside.net_flow::text, '')
FROM unnest($2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS i (start, until, n)
LEFT JOIN valid ON valid.valid_from <= i.start AND valid.valid_until >= i.until
CROSS JOIN LATERAL (
  SELECT min(bucket) FILTER (WHERE NOT price_gap) AS first, max(bucket) FILTER (WHERE NOT price_gap) AS last,
         min(total) FILTER (WHERE NOT price_gap) AS lowest, max(total) FILTER (WHERE NOT price_gap) AS highest,
         count(*) AS snapshots, count(*) FILTER (WHERE price_gap) AS left_out, bool_and(complete) AS complete,
         sum(net_flow) AS net_flow,
         count(*) FILTER (WHERE s.membership <> CASE WHEN valid.number IS NOT NULL THEN valid.number
                          ELSE ` + fmt.Sprintf(membershipAt, "$1", "s.bucket") + ` END) AS out_of_date
  FROM snapshots s WHERE portfolio_id = $1 AND bucket >= i.start AND bucket < i.until) AS inside
LEFT JOIN snapshots opening ON opening.portfolio_id = $1 AND opening.bucket = inside.first
LEFT JOIN snapshots closing ON closing.portfolio_id = $1 AND closing.bucket = inside.last
WHERE inside.snapshots > 0
ORDER BY i.n`

// aggregateHours is aggregateSnapshots of intervals of an hour each, from $2 to $3, which have a
// snapshot at most: it reads each once, and its total is all of open, close, min and max.
var aggregateHours = withMemberships + `
SELECT floor(extract(epoch FROM bucket - $2) / 3600)::integer, CASE WHEN price_gap THEN '' ELSE total::text END,
       CASE WHEN price_gap THEN '' ELSE (total + liabilities)::text END,
       CASE WHEN price_gap THEN '' ELSE liabilities::text END, CASE WHEN price_gap THEN '' ELSE collateral::text END,
       1, price_gap::integer, complete AND membership = coalesce(number, 0),
       (membership <> coalesce(number, 0))::integer, coalesce(net_flow::text, '')
FROM snapshots LEFT JOIN valid ON valid_from <= bucket AND valid_until > bucket
WHERE portfolio_id = $1 AND bucket >= $2 AND bucket < $3
ORDER BY bucket`

// aggregateInCurrency is aggregateSnapshots with the values in currency $4, each at the rate
// of its hour; $5 is the end of the last interval. A snapshot of an hour without a rate is
// counted only, as one with a price gap.
var aggregateInCurrency = withMemberships + `,
converted AS MATERIALIZED (
  SELECT width_bucket(s.bucket, $2::timestamptz[]) AS n, s.bucket, s.complete, s.membership,
         CASE WHEN NOT s.price_gap THEN in_currency(s.total, r.rate) END AS total,
         in_currency(s.liabilities, r.rate) AS liabilities, in_currency(s.collateral, r.rate) AS collateral,
         in_currency(s.net_flow, r.rate) AS net_flow
  FROM snapshots s LEFT JOIN currency_rates r ON r.currency = $4 AND r.bucket = s.bucket
  WHERE s.portfolio_id = $1 AND s.bucket >= ($2::timestamptz[])[1] AND s.bucket < $5),
of_intervals AS MATERIALIZED (
  SELECT array_agg(valid.number ORDER BY i.n) AS numbers
  FROM unnest($2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS i (start, until, n)
  LEFT JOIN valid ON valid.valid_from <= i.start AND valid.valid_until >= i.until),
inside AS (
  SELECT n, min(bucket) FILTER (WHERE total IS NOT NULL) AS first,
         max(bucket) FILTER (WHERE total IS NOT NULL) AS last, min(total) AS lowest, max(total) AS highest,
         count(*) AS snapshots, count(*) FILTER (WHERE total IS NULL) AS left_out,
         bool_and(complete AND total IS NOT NULL) AS complete, sum(net_flow) AS net_flow,
         count(*) FILTER (WHERE c.membership <> CASE WHEN numbers[n] IS NOT NULL THEN numbers[n]
                          ELSE ` + fmt.Sprintf(membershipAt, "$1", "c.bucket") + ` END) AS out_of_date
  FROM converted c CROSS JOIN of_intervals GROUP BY n)
SELECT inside.n - 1, coalesce(opening.total::text, ''), coalesce(closing.total::text, ''),
       coalesce((closing.total + closing.liabilities)::text, ''), coalesce(closing.liabilities::text, ''),
       coalesce(closing.collateral::text, ''), coalesce(lowest::text, ''), coalesce(highest::text, ''),
       snapshots, left_out, inside.complete AND out_of_date = 0, out_of_date, coalesce(inside.net_flow::text, '')
FROM inside
LEFT JOIN converted opening ON opening.bucket = inside.first
LEFT JOIN converted closing ON closing.bucket = inside.last
ORDER BY inside.n`

// Aggregate implements timeline.Store. It answers from the cache until a snapshot
// of the portfolio is stored; in another currency than US dollars, whose rates may
// still be read, it doesn't.
func (s *Snapshots) Aggregate(ctx context.Context, p portfolio.Portfolio, bounds []time.Time,
	code string) (timeline.Aggregates, error) {
	load := func(ctx context.Context) (timeline.Aggregates, error) {
		intervals, err := s.aggregate(ctx, p.ID, bounds, code)
		if err != nil {
			return timeline.Aggregates{}, err
		}
		before, err := s.lastValueBefore(ctx, p.ID, bounds[0])
		return timeline.Aggregates{Intervals: intervals, Before: before}, err
	}
	if !currency.IsUSD(code) || s.caches == nil {
		return load(ctx)
	}
	key := func(generation string) string { return portfolioKey(p) + "/" + generation + "/" + digest(bounds) }
	return cache.GetUnder(ctx, s.caches.generations, []string{portfolioKey(p)}, s.caches.timelines, key, load)
}

// FirstSnapshot implements timeline.Store.
func (s *Snapshots) FirstSnapshot(ctx context.Context, portfolioID uuid.UUID, from time.Time) (time.Time, error) {
	var first sql.NullTime
	err := s.db.SQL().QueryRowContext(ctx,
		"SELECT min(bucket) FROM snapshots WHERE portfolio_id = $1 AND bucket >= $2", portfolioID, from).Scan(&first)
	if err != nil {
		return first.Time, fmt.Errorf("find the first snapshot: %w", err)
	}
	return first.Time, nil
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
	bounds []time.Time, code string) ([]timeline.Aggregate, error) {
	last := len(bounds) - 1
	query, args := aggregateSnapshots, []any{portfolioID, bounds[:last], bounds[1:]}
	one := currency.IsUSD(code) && hours(bounds) // an interval has one snapshot at most
	switch {
	case !currency.IsUSD(code):
		query, args = aggregateInCurrency, append(args, code, bounds[last])
	case one:
		query, args = aggregateHours, []any{portfolioID, bounds[0], bounds[last]}
	}
	rows, err := s.db.SQL().QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("aggregate snapshots: %w", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err returns its error
	var a timeline.Aggregate
	values := []any{&a.Index, &a.Open, &a.Close, &a.Assets, &a.Liabilities, &a.Collateral, &a.Min, &a.Max,
		&a.Snapshots, &a.LeftOut, &a.Complete, &a.OutOfDate, &a.NetFlow}
	if one {
		values = []any{&a.Index, &a.Open, &a.Assets, &a.Liabilities, &a.Collateral,
			&a.Snapshots, &a.LeftOut, &a.Complete, &a.OutOfDate, &a.NetFlow}
	}
	var out []timeline.Aggregate
	for rows.Next() {
		if err := rows.Scan(values...); err != nil {
			return nil, fmt.Errorf("aggregate snapshots: %w", err)
		}
		if one {
			a.Close, a.Min, a.Max = a.Open, a.Open, a.Open
		}
		out = append(out, a)
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("aggregate snapshots: %w", err)
	}
	return out, nil
}

// hours reports whether each of the intervals between bounds is an hour.
func hours(bounds []time.Time) bool {
	for i, t := range bounds[1:] {
		if t.Sub(bounds[i]) != time.Hour {
			return false
		}
	}
	return true
}

// lastValueBefore returns the value of the newest snapshot before t without a price gap,
// nil when there is none.
func (s *Snapshots) lastValueBefore(ctx context.Context, portfolioID uuid.UUID,
	t time.Time) (*timeline.Value, error) {
	var row snapshotRow
	err := s.db.Gorm(ctx).Select(readColumns).
		Where("portfolio_id = ? AND bucket < ? AND NOT price_gap", portfolioID, t).Order("bucket DESC").
		Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return nil, nil //nolint:nilnil // no snapshot before t is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read the last snapshot before the timeline: %w", err)
	}
	snap, err := snapshotFromRow(row)
	if err != nil {
		return nil, err
	}
	assets, err := snap.Assets()
	if err != nil {
		return nil, err
	}
	return &timeline.Value{Total: row.Total, Assets: assets.Text('f'), Liabilities: row.Liabilities,
		Collateral: row.Collateral, Complete: row.Complete && !row.OutOfDate, OutOfDate: row.OutOfDate,
		Hour: row.Bucket.UTC()}, nil
}
