package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"

	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// A snapshot has a price gap if one of its verified positions has no price, and the token
// had one in an hour before and in an hour after, at most snapshot.MaxPriceGap apart. So it
// is found when the first snapshot after the gap is stored, which marks those before it; and
// hours that are filled in before a gap mark those after them.
//
// An hour of the past that lacks wallets, since they could not be read, is too low as well. It has a gap if a snapshot
// before and one after lack fewer, at most snapshot.MaxPriceGap apart. Where wallets can't be read for longer, the
// others are shown. One that was taken in its hour has the last balances of a wallet that fails, and lacks nothing.

// maxGap is snapshot.MaxPriceGap in the unit of assetHour.hour.
const maxGap = int64(snapshot.MaxPriceGap / time.Second)

// unpricedPositions finds the positions $2 to $4 of snapshots $1 that have no price, and for
// each whether the token has one before and after, at most $5 apart. $6 and $7 are the first
// and the last of their hours, as in pricesOfHours.
const unpricedPositions = `
WITH unpriced AS MATERIALIZED (
  SELECT w.n, w.asset, w.bucket, coalesce(p.reason, 'NO_PRICE') AS reason
  FROM unnest($1::integer[], $2::integer[], $3::timestamptz[], $4::bigint[]) AS w (n, asset, bucket, seq)
  LEFT JOIN LATERAL (
    SELECT price, reason FROM hour_prices p
    WHERE p.bucket = w.bucket AND p.bucket BETWEEN $6 AND $7 AND p.asset = w.asset AND p.seq <= w.seq
    ORDER BY p.seq DESC LIMIT 1) AS p ON true
  WHERE p.price IS NULL),
reach AS (
  SELECT asset, min(bucket) - $5::interval AS first, max(bucket) + $5::interval AS last FROM unpriced GROUP BY asset),
priced AS MATERIALIZED (
  SELECT r.asset, hour
  FROM reach r CROSS JOIN LATERAL generate_series(r.first, r.last, interval '1 hour') AS hour
  CROSS JOIN LATERAL (
    SELECT FROM hour_prices p
    WHERE p.bucket = hour AND p.bucket BETWEEN $6 - $5::interval AND $7 + $5::interval
      AND p.asset = r.asset AND p.price IS NOT NULL LIMIT 1) AS one)
SELECT u.n, u.reason, coalesce(following.hour - preceding.hour <= $5::interval, false)
FROM unpriced u
CROSS JOIN LATERAL (SELECT max(hour) AS hour FROM priced p WHERE p.asset = u.asset AND p.hour < u.bucket) AS preceding
CROSS JOIN LATERAL (SELECT min(hour) AS hour FROM priced p WHERE p.asset = u.asset AND p.hour > u.bucket) AS following`

// markPriceGaps marks the snapshots of the windows that have a price gap, not yet in the
// table. It returns false if one that was stored before is another than it was: there may be
// more around it, and the spans are widened for that.
func (w *windows) markPriceGaps(ctx context.Context, conn *pgx.Conn) (all bool, err error) {
	lacking := make(map[*storedSnapshot]bool)
	var affected []*storedSnapshot
	var owners []uuid.UUID
	var numbers, ids []int32
	var buckets []time.Time
	var seqs []int64
	for id, of := range w.of {
		of.markLackingWallets(lacking)
		for i := range of.snapshots {
			s, reach := &of.snapshots[i], w.spans[id]
			// The edges of a wider window are there for the net flows only.
			if at := s.bucket.Unix(); s.unpriced == 0 && !s.lacksWallets() && !s.priceGap ||
				w.widened && (at < reach[0] || at > reach[1]) {
				continue
			}
			for held := range s.held {
				if w.assets[held.asset].verified {
					numbers, ids = append(numbers, int32(len(affected))), append(ids, held.asset)
					buckets, seqs = append(buckets, s.bucket), append(seqs, s.priceSeq)
				}
			}
			affected, owners = append(affected, s), append(owners, id)
		}
	}
	if len(affected) == 0 {
		return true, nil
	}
	first, last := ends(buckets)
	rows, err := conn.Query(ctx, unpricedPositions, numbers, ids, buckets, seqs, snapshot.MaxPriceGap, first, last)
	if err != nil {
		return false, fmt.Errorf("find price gaps: %w", err)
	}
	gaps, measurable := make([]bool, len(affected)), make([]bool, len(affected))
	for i, s := range affected {
		measurable[i], gaps[i] = s.incomplete == 0, lacking[s]
	}
	var n int32
	var reason string
	var gap bool
	_, err = pgx.ForEachRow(rows, []any{&n, &reason, &gap}, func() error {
		gaps[n] = gaps[n] || gap
		measurable[n] = measurable[n] && !gap && reason != valuation.ReasonSourceUnavailable
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("find price gaps: %w", err)
	}
	all = true
	for i, s := range affected {
		if gaps[i] == s.priceGap && measurable[i] == s.measurable {
			continue
		}
		if !w.widened && s.candidate == nil {
			all = false
			reach, at := w.spans[owners[i]], s.bucket.Unix()
			w.spans[owners[i]] = span{min(reach[0], at-maxGap), max(reach[1], at+maxGap)}
		}
		s.mark(gaps[i], measurable[i])
	}
	return all, nil
}

// lacksWallets reports whether the total is without what wallets held that could not be read.
func (s *storedSnapshot) lacksWallets() bool { return s.backfilled && s.incomplete > 0 }

// markLackingWallets adds the snapshots of a window that have a gap since they lack wallets. Whatever lacks fewer of
// them, before and after, is in the window, which begins and ends with snapshots that lack none.
func (of *window) markLackingWallets(lacking map[*storedSnapshot]bool) {
	for i := range of.snapshots {
		s := &of.snapshots[i]
		if !s.lacksWallets() {
			continue
		}
		before, after := of.withFewerWallets(i, -1), of.withFewerWallets(i, 1)
		if before != nil && after != nil && after.bucket.Sub(before.bucket) <= snapshot.MaxPriceGap {
			lacking[s] = true
		}
	}
}

// withFewerWallets returns the next snapshot from i in a direction, 1 or -1, that lacks fewer wallets; nil if there is
// none at most snapshot.MaxPriceGap away.
func (of *window) withFewerWallets(i, direction int) *storedSnapshot {
	s := &of.snapshots[i]
	for i += direction; i >= 0 && i < len(of.snapshots); i += direction {
		other := &of.snapshots[i]
		if other.bucket.Sub(s.bucket).Abs() > snapshot.MaxPriceGap {
			return nil
		}
		if other.incomplete < s.incomplete {
			return other
		}
	}
	return nil
}

// mark notes whether the snapshot has a price gap, and whether it is measurable.
func (s *storedSnapshot) mark(gap, measurable bool) {
	s.marked, s.flipped = true, measurable != s.measurable
	s.priceGap, s.measurable = gap, measurable
	if !measurable {
		s.netFlow = nil
	}
	if c := s.candidate; c != nil {
		c.row.PriceGap, c.row.Measurable, c.row.NetFlow = gap, measurable, s.netFlow
	}
}

const updatePriceGaps = `
UPDATE snapshots s SET measurable = g.measurable, price_gap = g.price_gap,
       net_flow = CASE WHEN g.measurable THEN s.net_flow END
FROM unnest($1::uuid[], $2::timestamptz[], $3::boolean[], $4::boolean[])
     AS g (portfolio_id, bucket, measurable, price_gap)
WHERE s.portfolio_id = g.portfolio_id AND s.bucket = g.bucket`

// storePriceGaps stores what markPriceGaps has marked.
func (w *windows) storePriceGaps(ctx context.Context, conn *pgx.Conn) error {
	var portfolios []uuid.UUID
	var buckets []time.Time
	var measurables, gaps []bool
	for id, of := range w.of {
		for i := range of.snapshots {
			if s := &of.snapshots[i]; s.marked {
				portfolios, buckets = append(portfolios, id), append(buckets, s.bucket)
				measurables, gaps = append(measurables, s.measurable), append(gaps, s.priceGap)
			}
		}
	}
	if len(buckets) == 0 {
		return nil
	}
	if _, err := conn.Exec(ctx, updatePriceGaps, portfolios, buckets, measurables, gaps); err != nil {
		return fmt.Errorf("mark price gaps: %w", err)
	}
	return nil
}
