package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

const (
	// repricedHours is how many snapshots one transaction values anew, repricedSpan how far apart they are at most.
	repricedHours = 500
	repricedSpan  = 31 * 24 * time.Hour
)

const (
	// hoursToReprice finds the snapshots of portfolio $1 from $2 on that hold an asset whose mended price is newer
	// than theirs. Each asset in a place is one step in the index.
	hoursToReprice = `
WITH RECURSIVE known (asset, place) AS (
  (SELECT asset, place FROM position_changes WHERE portfolio_id = $1 ORDER BY asset, place LIMIT 1)
  UNION ALL
  SELECT next.asset, next.place
  FROM known CROSS JOIN LATERAL (
    SELECT c.asset, c.place FROM position_changes c
    WHERE c.portfolio_id = $1 AND (c.asset, c.place) > (known.asset, known.place)
    ORDER BY c.asset, c.place LIMIT 1) AS next
)
SELECT DISTINCT s.bucket
FROM known
JOIN hour_prices h ON h.asset = known.asset AND h.mended AND h.bucket >= $2
JOIN snapshots s ON s.portfolio_id = $1 AND s.bucket = h.bucket AND s.price_seq < h.seq
CROSS JOIN LATERAL (
  SELECT amount FROM position_changes c
  WHERE c.portfolio_id = $1 AND c.asset = known.asset AND c.place = known.place AND c.bucket <= s.bucket
  ORDER BY c.bucket DESC LIMIT 1) AS held
WHERE held.amount IS NOT NULL
ORDER BY s.bucket LIMIT $3`

	// takeNewPrices gives snapshots the last prices of their hours.
	takeNewPrices = `
UPDATE snapshots SET price_seq = (SELECT last FROM hour_price_sequence)
WHERE portfolio_id = $1 AND bucket = ANY($2)
RETURNING bucket, snapshot_time, price_seq, membership, position_count, incomplete_wallet_count, backfilled`

	pricedPositions = `
SELECT bucket, token_id, symbol, decimals, verified, amount::text, price::text, price_source, price_time,
       price_stale, unpriced_reason, protocol, market, kind, rate_mode, collateral
FROM snapshot_positions WHERE portfolio_id = $1 AND bucket = ANY($2)`

	updateRepriced = `
UPDATE snapshots s SET total = r.total::numeric, liabilities = r.liabilities::numeric,
       collateral = r.collateral::numeric, complete = r.complete,
       unpriced_count = r.unpriced,
       stale_price_count = r.stale, measurable = r.measurable, price_gap = false, net_flow = r.net_flow::numeric
FROM unnest($2::timestamptz[], $3::text[], $4::boolean[], $5::integer[], $6::integer[], $7::boolean[], $8::text[],
            $9::text[], $10::text[])
     AS r (bucket, total, complete, unpriced, stale, measurable, net_flow, liabilities, collateral)
WHERE s.portfolio_id = $1 AND s.bucket = r.bucket`
)

// Reprice implements snapshot.PriceChangeStore.
func (s *Snapshots) Reprice(ctx context.Context, p portfolio.Portfolio) (repriced int, more bool, err error) {
	err = cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
		err := postgres.Raw(tx, func(conn *pgx.Conn) (err error) {
			repriced, more, err = reprice(ctx, conn, p.ID)
			return err
		})
		if err != nil || repriced == 0 {
			return nil, wrap("reprice snapshots", err)
		}
		return []cache.Invalidation{{Cache: s.caches.generations, Keys: []string{portfolioKey(p)}}}, nil
	})
	return repriced, more, err
}

func reprice(ctx context.Context, conn *pgx.Conn, id uuid.UUID) (repriced int, more bool, err error) {
	// Whoever stores snapshots of the portfolio waits, and so does whoever notes that there is more to do.
	var from *time.Time
	err = conn.QueryRow(ctx, "SELECT (SELECT reprice_from FROM portfolios WHERE id = $1 FOR NO KEY UPDATE)", id).
		Scan(&from)
	if err != nil || from == nil {
		return 0, false, err
	}
	rows, err := conn.Query(ctx, hoursToReprice, id, from.UTC(), repricedHours)
	if err != nil {
		return 0, false, err
	}
	hours, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return 0, false, err
	}
	if len(hours) == 0 {
		_, err := conn.Exec(ctx, "UPDATE portfolios SET reprice_from = NULL WHERE id = $1", id)
		return 0, false, err
	}
	for hours[len(hours)-1].Sub(hours[0]) > repricedSpan {
		hours = hours[:len(hours)-1]
	}
	if err := repriceHours(ctx, conn, id, hours); err != nil {
		return 0, false, err
	}
	_, err = conn.Exec(ctx, "UPDATE portfolios SET reprice_from = $2 WHERE id = $1", id, hours[len(hours)-1])
	return len(hours), true, err
}

// repriceHours values snapshots anew, with what depends on them.
func repriceHours(ctx context.Context, conn *pgx.Conn, id uuid.UUID, hours []time.Time) error {
	before := make(map[int64]*snapshotRow, len(hours))
	rows, err := conn.Query(ctx, takeNewPrices, id, hours)
	if err != nil {
		return fmt.Errorf("take new prices: %w", err)
	}
	var r snapshotRow
	columns := []any{&r.Bucket, &r.SnapshotTime, &r.PriceSeq, &r.Membership, &r.PositionCount,
		&r.IncompleteWalletCount, &r.Backfilled}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		one := r
		before[r.Bucket.Unix()] = &one
		return nil
	})
	if err != nil {
		return fmt.Errorf("take new prices: %w", err)
	}
	positions, err := readPositions(ctx, conn, id, hours)
	if err != nil {
		return err
	}
	var all []valuation.Position
	for _, of := range positions {
		all = append(all, of...)
	}
	assets, err := assetIDs(ctx, conn, all)
	if err != nil {
		return err
	}
	places, err := placeIDs(ctx, conn, all)
	if err != nil {
		return err
	}
	stored := make(map[portfolioHour]*candidate, len(hours))
	for at, row := range before {
		c, err := repricedCandidate(id, *row, positions[at], assets, places)
		if err != nil {
			return err
		}
		stored[portfolioHour{id, at}] = c
	}
	if err := storeRepriced(ctx, conn, id, stored); err != nil {
		return err
	}
	return storeAround(ctx, conn, stored)
}

// repricedCandidate is a stored snapshot as its positions are worth now.
func repricedCandidate(id uuid.UUID, before snapshotRow, positions []valuation.Position,
	assets map[asset]int32, places map[valuation.Place]int32) (*candidate, error) {
	v, err := valuation.Assets{At: before.SnapshotTime, Positions: positions, Membership: before.Membership}.Value()
	if err != nil {
		return nil, err
	}
	wallets := before.IncompleteWalletCount
	v.IncompleteWallets = wallets
	row := snapshotToRow(id, before.Bucket, v, before.Backfilled)
	row.PriceSeq, row.Complete = before.PriceSeq, row.Complete && wallets == 0
	c := &candidate{row: row, positions: v.Positions, lines: make([]line, len(v.Positions))}
	for i, p := range v.Positions {
		c.lines[i] = line{assets[assetOf(p)], places[p.Place]}
	}
	return c, nil
}

// readPositions returns the positions of snapshots, by the Unix times of their hours.
func readPositions(ctx context.Context, conn *pgx.Conn, id uuid.UUID, hours []time.Time) (
	map[int64][]valuation.Position, error) {
	found := make(map[int64][]valuation.Position, len(hours))
	rows, err := conn.Query(ctx, pricedPositions, id, hours)
	if err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	var bucket time.Time
	var r positionRow
	columns := []any{&bucket, &r.TokenID, &r.Symbol, &r.Decimals, &r.Verified, &r.Amount, &r.Price, &r.PriceSource,
		&r.PriceTime, &r.PriceStale, &r.UnpricedReason, &r.Protocol, &r.Market, &r.Kind, &r.RateMode,
		&r.Collateral}
	_, err = pgx.ForEachRow(rows, columns, func() error {
		p, err := positionFromRow(r)
		found[bucket.Unix()] = append(found[bucket.Unix()], p)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	return found, nil
}

func storeRepriced(ctx context.Context, conn *pgx.Conn, id uuid.UUID, stored map[portfolioHour]*candidate) error {
	var buckets []time.Time
	var totals, liabilities, collateral []string
	var complete, measurable []bool
	var unpriced, stale []int32
	var flows []*string
	for _, c := range stored {
		buckets, totals = append(buckets, c.row.Bucket), append(totals, c.row.Total)
		liabilities = append(liabilities, c.row.Liabilities)
		collateral = append(collateral, c.row.Collateral)
		complete, measurable = append(complete, c.row.Complete), append(measurable, c.row.Measurable)
		unpriced = append(unpriced, int32(c.row.UnpricedCount))
		stale, flows = append(stale, int32(c.row.StalePriceCount)), append(flows, c.row.NetFlow)
	}
	_, err := conn.Exec(ctx, updateRepriced, id, buckets, totals, complete, unpriced, stale, measurable, flows,
		liabilities, collateral)
	if err != nil {
		return fmt.Errorf("store repriced snapshots: %w", err)
	}
	return nil
}
