package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// upsertSnapshots stores the snapshots that are better than the stored one of their
// hour, if any, and returns the buckets of those that it stored. $1 is a JSON array of rows of the table, with
// decimals as strings so that they stay exact.
//
// A complete snapshot is better than an incomplete one. Of two incomplete ones the
// better one has fewer incomplete wallets; if equal, fewer unpriced positions; if
// equal, fewer stale prices. On a tie the stored one is kept. Wallets count most,
// since a wallet that could not be read may hold any number of positions.
//
// Rows are locked in the order of their buckets, so that two transactions that store
// the same hours don't deadlock.
const upsertSnapshots = `
INSERT INTO snapshots AS stored (portfolio_id, bucket, snapshot_time, currency, total, complete, position_count,
                                 incomplete_wallet_count, unpriced_count, stale_price_count, backfilled,
                                 measurable, net_flow)
SELECT portfolio_id, bucket, snapshot_time, currency, total, complete, position_count,
       incomplete_wallet_count, unpriced_count, stale_price_count, backfilled, measurable, net_flow
FROM json_populate_recordset(null::snapshots, $1)
ORDER BY bucket
ON CONFLICT (portfolio_id, bucket) DO UPDATE
SET snapshot_time           = excluded.snapshot_time,
    currency                = excluded.currency,
    total                   = excluded.total,
    complete                = excluded.complete,
    position_count          = excluded.position_count,
    incomplete_wallet_count = excluded.incomplete_wallet_count,
    unpriced_count          = excluded.unpriced_count,
    stale_price_count       = excluded.stale_price_count,
    backfilled              = excluded.backfilled,
    measurable              = excluded.measurable,
    net_flow                = excluded.net_flow
WHERE NOT stored.complete
  AND (excluded.complete
       OR (excluded.incomplete_wallet_count, excluded.unpriced_count, excluded.stale_price_count)
          < (stored.incomplete_wallet_count, stored.unpriced_count, stored.stale_price_count))
RETURNING bucket`

// deletePositions deletes the positions of the snapshots that were replaced.
const deletePositions = `DELETE FROM snapshot_positions WHERE portfolio_id = $1 AND bucket = ANY($2)`

// positionColumns are the columns that positionValues returns the values of.
var positionColumns = []string{
	"portfolio_id", "bucket", "token_id", "symbol", "decimals", "verified", "amount",
	"price", "price_source", "price_time", "price_stale", "value", "unpriced_reason",
}

// Save implements snapshot.Store.
func (s *Snapshots) Save(ctx context.Context, p portfolio.Portfolio, bucket time.Time,
	v valuation.Valuation) (snap snapshot.Snapshot, stored bool, err error) {
	candidates := []candidate{{snapshotToRow(p.ID, bucket, v, false), v.Positions}}
	err = s.upsert(ctx, p, candidates, func(tx *gorm.DB, upserted []snapshotRow) error {
		var row snapshotRow
		if err := tx.Where("portfolio_id = ? AND bucket = ?", p.ID, bucket).Take(&row).Error; err != nil {
			return fmt.Errorf("read snapshot: %w", err)
		}
		stored = len(upserted) > 0
		snap, err = snapshotFromRow(row)
		return err
	})
	return snap, stored, err
}

// SaveBackfilled implements snapshot.Store. The number of statements doesn't depend
// on the number of hours.
func (s *Snapshots) SaveBackfilled(ctx context.Context, p portfolio.Portfolio,
	hours []valuation.Valuation) (stored []snapshot.Snapshot, err error) {
	candidates := make([]candidate, len(hours))
	for i, v := range hours {
		candidates[i] = candidate{snapshotToRow(p.ID, v.ValuationTime, v, true), v.Positions}
	}
	err = s.upsert(ctx, p, candidates, func(_ *gorm.DB, upserted []snapshotRow) error {
		stored, err = snapshotsFromRows(upserted)
		return err
	})
	return stored, err
}

// candidate is a snapshot that is stored if it is better than the stored one of its
// hour, if any.
type candidate struct {
	row       snapshotRow
	positions []valuation.Position
}

// upsert stores the candidates that are better than the stored snapshots of their
// hours, and calls afterUpsert with the stored rows before it commits. The
// transaction, and with it afterUpsert, may run more than once.
func (s *Snapshots) upsert(ctx context.Context, p portfolio.Portfolio, candidates []candidate,
	afterUpsert func(tx *gorm.DB, upserted []snapshotRow) error) error {
	err := cache.Change(ctx, s.db, func(tx *gorm.DB) (stale []cache.Invalidation, err error) {
		var upserted []snapshotRow
		err = postgres.Raw(tx, func(conn *pgx.Conn) error {
			upserted, err = upsertCandidates(ctx, conn, p.ID, candidates)
			return err
		})
		if err != nil {
			return nil, err
		}
		if len(upserted) > 0 {
			stale = []cache.Invalidation{{Cache: s.caches.generations, Keys: []string{portfolioKey(p)}}}
		}
		return stale, afterUpsert(tx, upserted)
	})
	if postgres.IsForeignKeyViolation(err) { // its owner was deleted meanwhile
		return errs.NotFound("portfolio")
	}
	return err
}

// upsertCandidates returns the rows that it stored, in the order of candidates.
func upsertCandidates(ctx context.Context, conn *pgx.Conn, portfolioID uuid.UUID,
	candidates []candidate) (upserted []snapshotRow, err error) {
	rows := make([]snapshotRow, len(candidates))
	for i, c := range candidates {
		rows[i] = c.row
	}
	records, err := json.Marshal(rows)
	if err != nil {
		return nil, fmt.Errorf("encode snapshots: %w", err)
	}
	if _, err := conn.Exec(ctx, lockPortfolio, portfolioID); err != nil {
		return nil, fmt.Errorf("lock the portfolio: %w", err)
	}
	result, err := conn.Query(ctx, upsertSnapshots, records)
	if err != nil {
		return nil, fmt.Errorf("upsert snapshots: %w", err)
	}
	buckets, err := pgx.CollectRows(result, pgx.RowTo[time.Time])
	if err != nil {
		return nil, fmt.Errorf("upsert snapshots: %w", err)
	}
	if len(buckets) == 0 {
		return nil, nil
	}
	if _, err := conn.Exec(ctx, deletePositions, portfolioID, buckets); err != nil {
		return nil, fmt.Errorf("delete positions: %w", err)
	}
	stored := make(map[int64]bool, len(buckets)) // by Unix time
	for _, bucket := range buckets {
		stored[bucket.Unix()] = true
	}
	var positions [][]any
	for _, c := range candidates {
		if !stored[c.row.Bucket.Unix()] {
			continue
		}
		upserted = append(upserted, c.row)
		for _, p := range c.positions {
			values, err := positionValues(portfolioID, c.row.Bucket, p)
			if err != nil {
				return nil, err
			}
			positions = append(positions, values)
		}
	}
	_, err = conn.CopyFrom(ctx, pgx.Identifier{positionRow{}.TableName()}, positionColumns,
		pgx.CopyFromRows(positions))
	if err != nil {
		return nil, fmt.Errorf("copy positions: %w", err)
	}
	return upserted, setNetFlows(ctx, conn, portfolioID, buckets, upserted)
}

// positionValues returns the values of positionColumns.
func positionValues(portfolioID uuid.UUID, bucket time.Time, p valuation.Position) ([]any, error) {
	var price *apd.Decimal
	var priceTime *time.Time
	if p.Price.Known() {
		var err error
		if price, _, err = apd.NewFromString(p.Price.Amount); err != nil {
			return nil, fmt.Errorf("price of %s: %q: %w", p.TokenID, p.Price.Amount, err)
		}
		priceTime = &p.Price.Time
	}
	return []any{
		pgtype.UUID{Bytes: portfolioID, Valid: true}, // a uuid.UUID is encoded by way of its text
		bucket, p.TokenID, p.Symbol, int16(p.Decimals), p.Verified,
		pgtype.Numeric{Int: p.Amount, Valid: true},
		numeric(price), p.Price.Source, priceTime, p.Price.Stale, numeric(p.Value), p.Price.UnpricedReason,
	}, nil
}

// numeric returns d exactly, as an integer and an exponent; NULL for nil.
func numeric(d *apd.Decimal) pgtype.Numeric {
	if d == nil {
		return pgtype.Numeric{}
	}
	n := d.Coeff.MathBigInt()
	if d.Negative {
		n.Neg(n)
	}
	return pgtype.Numeric{Int: n, Exp: d.Exponent, Valid: true}
}
