package store

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
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
INSERT INTO snapshots AS stored (portfolio_id, bucket, snapshot_time, price_seq, total, complete, position_count,
                                 incomplete_wallet_count, unpriced_count, stale_price_count, backfilled,
                                 measurable, net_flow)
SELECT portfolio_id, bucket, snapshot_time, price_seq, total, complete, position_count,
       incomplete_wallet_count, unpriced_count, stale_price_count, backfilled, measurable, net_flow
FROM json_populate_recordset(null::snapshots, $1)
ORDER BY bucket
ON CONFLICT (portfolio_id, bucket) DO UPDATE
SET snapshot_time           = excluded.snapshot_time,
    price_seq               = excluded.price_seq,
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
	if len(candidates) == 0 {
		return nil, nil
	}
	if _, err := conn.Exec(ctx, lockPortfolio, portfolioID); err != nil {
		return nil, fmt.Errorf("lock the portfolio: %w", err)
	}
	var positions []valuation.Position
	for _, c := range candidates {
		positions = append(positions, c.positions...)
	}
	ids, err := assetIDs(ctx, conn, positions)
	if err != nil {
		return nil, err
	}
	seq, err := storeHourPrices(ctx, conn, pricesOf(candidates, ids))
	if err != nil {
		return nil, err
	}
	byHour, err := upsertRows(ctx, conn, candidates, seq)
	if err != nil || len(byHour) == 0 {
		return nil, err
	}
	first, last := slices.Min(slices.Collect(maps.Keys(byHour))), slices.Max(slices.Collect(maps.Keys(byHour)))
	w, err := readWindow(ctx, conn, portfolioID, time.Unix(first, 0), time.Unix(last, 0))
	if err != nil {
		return nil, err
	}
	if err := w.storeChanges(ctx, conn, w.replace(byHour, ids)); err != nil {
		return nil, err
	}
	if err := w.setNetFlows(ctx, conn); err != nil {
		return nil, err
	}
	for i := range candidates {
		if stored := byHour[candidates[i].row.Bucket.Unix()]; stored != nil {
			upserted = append(upserted, stored.row)
		}
	}
	return upserted, nil
}

// pricesOf returns the prices that candidates were valued at.
func pricesOf(candidates []candidate, ids map[asset]int32) (prices []assetPrice) {
	for _, c := range candidates {
		for _, p := range c.positions {
			prices = append(prices, assetPrice{assetHour{ids[assetOf(p)], c.row.Bucket.Unix()}, storedPrice(p)})
		}
	}
	return prices
}

// upsertRows stores the candidates that are better than what is stored, and returns them
// by the Unix time of their hour.
func upsertRows(ctx context.Context, conn *pgx.Conn, candidates []candidate, priceSeq int64) (map[int64]*candidate,
	error) {
	rows := make([]snapshotRow, len(candidates))
	for i, c := range candidates {
		rows[i] = c.row
		rows[i].PriceSeq = priceSeq
	}
	records, err := json.Marshal(rows)
	if err != nil {
		return nil, fmt.Errorf("encode snapshots: %w", err)
	}
	result, err := conn.Query(ctx, upsertSnapshots, records)
	if err != nil {
		return nil, fmt.Errorf("upsert snapshots: %w", err)
	}
	buckets, err := pgx.CollectRows(result, pgx.RowTo[time.Time])
	if err != nil {
		return nil, fmt.Errorf("upsert snapshots: %w", err)
	}
	byHour := make(map[int64]*candidate, len(buckets))
	for _, bucket := range buckets {
		byHour[bucket.Unix()] = nil
	}
	for i := range candidates {
		if _, ok := byHour[rows[i].Bucket.Unix()]; ok {
			byHour[rows[i].Bucket.Unix()] = &candidate{rows[i], candidates[i].positions}
		}
	}
	return byHour, nil
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
