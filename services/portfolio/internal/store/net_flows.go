package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
)

// lockPortfolio lets one transaction after the other store snapshots of a portfolio:
// the net flow of a snapshot depends on the one before, which another transaction may
// be storing. Reads don't wait for it.
const lockPortfolio = `SELECT FROM portfolios WHERE id = $1 FOR NO KEY UPDATE`

// updateNetFlows sets the net flows of portfolio $1 that the snapshots of the buckets
// $2 change: their own, and those of the next measurable snapshot after each. It
// returns those that differ from what was stored.
//
// A net flow is the total less what was held before, at the prices of now. A token whose
// amount didn't change is worth its value, so that the flow is exactly 0; one that is
// gone or has no price any more counts at its last value.
const updateNetFlows = `
WITH changed AS (
  SELECT unnest($2::timestamptz[]) AS bucket
), touched AS (
  SELECT bucket FROM changed
  UNION
  SELECT next.bucket
  FROM changed CROSS JOIN LATERAL (
    SELECT bucket FROM snapshots
    WHERE portfolio_id = $1 AND bucket > changed.bucket AND measurable
    ORDER BY bucket LIMIT 1) AS next
), flows AS (
  SELECT s.bucket, CASE WHEN previous.bucket IS NOT NULL THEN s.total - (
      SELECT coalesce(sum(CASE
          WHEN now.value IS NULL THEN held.value
          WHEN now.amount = held.amount THEN now.value
          ELSE round(held.amount * now.price * ('1e-' || held.decimals)::numeric, 8) END), 0)
      FROM snapshot_positions AS held
      LEFT JOIN snapshot_positions AS now
        ON now.portfolio_id = $1 AND now.bucket = s.bucket AND now.token_id = held.token_id
      WHERE held.portfolio_id = $1 AND held.bucket = previous.bucket AND held.verified AND held.value IS NOT NULL
    ) END AS net_flow
  FROM touched
  JOIN snapshots s ON s.portfolio_id = $1 AND s.bucket = touched.bucket AND s.measurable
  LEFT JOIN LATERAL (
    SELECT bucket FROM snapshots
    WHERE portfolio_id = $1 AND bucket < s.bucket AND measurable
    ORDER BY bucket DESC LIMIT 1) AS previous ON true
)
UPDATE snapshots SET net_flow = flows.net_flow
FROM flows
WHERE snapshots.portfolio_id = $1 AND snapshots.bucket = flows.bucket
  AND snapshots.net_flow IS DISTINCT FROM flows.net_flow
RETURNING snapshots.bucket, snapshots.net_flow::text`

// setNetFlows updates the net flows of the buckets that were stored, in the table and
// in rows.
func setNetFlows(ctx context.Context, conn *pgx.Conn, portfolioID uuid.UUID, buckets []time.Time,
	rows []snapshotRow) error {
	result, err := conn.Query(ctx, updateNetFlows, portfolioID, buckets)
	if err != nil {
		return fmt.Errorf("update net flows: %w", err)
	}
	flows := make(map[int64]*string) // by Unix time
	var bucket time.Time
	var flow *string
	_, err = pgx.ForEachRow(result, []any{&bucket, &flow}, func() error {
		flows[bucket.Unix()] = flow
		return nil
	})
	if err != nil {
		return fmt.Errorf("update net flows: %w", err)
	}
	for i := range rows {
		if flow, ok := flows[rows[i].Bucket.Unix()]; ok {
			rows[i].NetFlow = flow
		}
	}
	return nil
}
