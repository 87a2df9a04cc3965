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
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// upsertSnapshots stores the snapshots that are better than the stored one of their
// hour, if any, and returns the buckets of those that it stored, and whether these are up
// to date. $1 is a JSON array of rows of the table, with decimals as strings so that they
// stay exact.
//
// A snapshot with the membership that is valid in its hour is better than one that is out of date, which never
// replaces another. Of two that are up to date a complete one is better than an incomplete one. Of two incomplete ones
// the better one has fewer incomplete wallets; if equal, fewer unpriced positions; if equal, fewer stale prices. On a
// tie the stored one is kept; with $2, for hours that are read again, it is replaced. Wallets count most, since a
// wallet that could not be read may hold any number of positions.
//
// Rows are locked in the order of their buckets, so that two transactions that store
// the same hours don't deadlock.
var upsertSnapshots = `
INSERT INTO snapshots AS stored (portfolio_id, bucket, snapshot_time, price_seq, total, complete, position_count,
                                 incomplete_wallet_count, unpriced_count, stale_price_count, backfilled,
                                 measurable, price_gap, net_flow, membership, held_digest, liabilities,
                                 collateral)
SELECT portfolio_id, bucket, snapshot_time, price_seq, total, complete, position_count,
       incomplete_wallet_count, unpriced_count, stale_price_count, backfilled, measurable, price_gap, net_flow,
       membership, held_digest, liabilities, collateral
FROM json_populate_recordset(null::snapshots, $1)
ORDER BY portfolio_id, bucket
ON CONFLICT (portfolio_id, bucket) DO UPDATE
SET snapshot_time           = excluded.snapshot_time,
    price_seq               = excluded.price_seq,
    total                   = excluded.total,
    liabilities             = excluded.liabilities,
    collateral              = excluded.collateral,
    complete                = excluded.complete,
    position_count          = excluded.position_count,
    incomplete_wallet_count = excluded.incomplete_wallet_count,
    unpriced_count          = excluded.unpriced_count,
    stale_price_count       = excluded.stale_price_count,
    backfilled              = excluded.backfilled,
    measurable              = excluded.measurable,
    price_gap               = excluded.price_gap,
    net_flow                = excluded.net_flow,
    membership              = excluded.membership,
    held_digest             = NULL -- the stored changes are those of the snapshot that this one replaces
WHERE excluded.membership = ` + fmt.Sprintf(membershipAt, "excluded.portfolio_id", "excluded.bucket") + `
  AND (stored.membership <> excluded.membership
       OR NOT stored.complete
          AND (excluded.complete
               OR (excluded.incomplete_wallet_count, excluded.unpriced_count, excluded.stale_price_count)
                  < (stored.incomplete_wallet_count, stored.unpriced_count, stored.stale_price_count))
       OR $2::boolean
          AND (excluded.complete
               OR NOT stored.complete
                  AND (excluded.incomplete_wallet_count, excluded.unpriced_count, excluded.stale_price_count)
                      = (stored.incomplete_wallet_count, stored.unpriced_count, stored.stale_price_count)))
RETURNING portfolio_id, bucket,
          membership = ` + fmt.Sprintf(membershipAt, "stored.portfolio_id", "stored.bucket") + ` AS up_to_date`

// Save implements snapshot.Store.
func (s *Snapshots) Save(ctx context.Context, p portfolio.Portfolio, bucket time.Time,
	v valuation.Valuation) (snap snapshot.Snapshot, stored bool, err error) {
	one := candidate{row: snapshotToRow(p.ID, bucket, v, false), positions: v.Positions}
	batch := []portfolioCandidates{{p, []candidate{one}}}
	err = s.upsert(ctx, batch, false, func(tx *gorm.DB, existing map[uuid.UUID]bool, upserted []snapshotRow) error {
		if !existing[p.ID] {
			return noPortfolio(p.ID)
		}
		var row snapshotRow
		err := tx.Select(readColumns).Where("portfolio_id = ? AND bucket = ?", p.ID, bucket).
			Take(&row).Error
		if err != nil {
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
	return s.saveHours(ctx, p, hours, false)
}

// ReplaceHours implements snapshot.Store.
func (s *Snapshots) ReplaceHours(ctx context.Context, p portfolio.Portfolio,
	hours []valuation.Valuation) (stored []snapshot.Snapshot, err error) {
	return s.saveHours(ctx, p, hours, true)
}

// saveHours stores hours of the past; with ties also those that are as good as the stored
// ones.
func (s *Snapshots) saveHours(ctx context.Context, p portfolio.Portfolio, hours []valuation.Valuation,
	ties bool) (stored []snapshot.Snapshot, err error) {
	if len(hours) == 0 {
		return nil, nil
	}
	candidates := make([]candidate, len(hours))
	for i, v := range hours {
		candidates[i] = candidate{row: snapshotToRow(p.ID, v.ValuationTime, v, true), positions: v.Positions}
	}
	err = s.upsert(ctx, []portfolioCandidates{{p, candidates}}, ties,
		func(_ *gorm.DB, existing map[uuid.UUID]bool, upserted []snapshotRow) error {
			if !existing[p.ID] {
				return noPortfolio(p.ID)
			}
			stored, err = snapshotsFromRows(upserted)
			return err
		})
	return stored, err
}

// SaveHour implements snapshot.Store. The number of statements doesn't depend on the
// number of portfolios.
func (s *Snapshots) SaveHour(ctx context.Context, bucket time.Time, values []snapshot.Valued) (stored int, err error) {
	if len(values) == 0 {
		return 0, nil
	}
	batch := make([]portfolioCandidates, len(values))
	for i, v := range values {
		row := snapshotToRow(v.Portfolio.ID, bucket, v.Valuation, false)
		batch[i] = portfolioCandidates{v.Portfolio, []candidate{{row: row, positions: v.Valuation.Positions}}}
	}
	err = s.upsert(ctx, batch, false, func(_ *gorm.DB, _ map[uuid.UUID]bool, upserted []snapshotRow) error {
		stored = len(upserted)
		return nil
	})
	return stored, err
}

// candidate is a snapshot that is stored if it is better than the stored one of its
// hour, if any.
type candidate struct {
	row       snapshotRow
	positions []valuation.Position
	lines     []line // of the positions
}

// portfolioCandidates are candidates of one portfolio, at most one an hour.
type portfolioCandidates struct {
	portfolio  portfolio.Portfolio
	candidates []candidate
}

// upsert stores the candidates that are better than the stored snapshots of their hours,
// and calls afterUpsert before it commits: with which of the portfolios exist, and with
// the stored rows. The transaction, and with it afterUpsert, may run more than once.
func (s *Snapshots) upsert(ctx context.Context, batch []portfolioCandidates, ties bool,
	afterUpsert func(tx *gorm.DB, existing map[uuid.UUID]bool, upserted []snapshotRow) error) error {
	return cache.Change(ctx, s.db, func(tx *gorm.DB) (stale []cache.Invalidation, err error) {
		var existing map[uuid.UUID]bool
		var upserted []snapshotRow
		err = postgres.Raw(tx, func(conn *pgx.Conn) error {
			existing, upserted, err = upsertCandidates(ctx, conn, batch, ties)
			return err
		})
		if err != nil {
			return nil, err
		}
		changed := make(map[uuid.UUID]bool)
		for _, row := range upserted {
			changed[row.PortfolioID] = true
		}
		var keys []string
		for _, of := range batch {
			if changed[of.portfolio.ID] {
				keys = append(keys, portfolioKey(of.portfolio))
			}
		}
		if len(keys) > 0 {
			stale = []cache.Invalidation{{Cache: s.caches.generations, Keys: keys}}
		}
		return stale, afterUpsert(tx, existing, upserted)
	})
}

// portfolioHour is an hour of a portfolio, by its Unix time.
type portfolioHour struct {
	portfolio uuid.UUID
	hour      int64
}

// upsertCandidates returns which of the portfolios exist, and the rows that it stored in
// the order of batch.
func upsertCandidates(ctx context.Context, conn *pgx.Conn, batch []portfolioCandidates, ties bool) (
	existing map[uuid.UUID]bool, upserted []snapshotRow, err error) {
	if existing, err = lockPortfolios(ctx, conn, batch); err != nil {
		return nil, nil, err
	}
	var candidates []candidate
	var positions []valuation.Position
	for _, of := range batch {
		if !existing[of.portfolio.ID] {
			continue
		}
		candidates = append(candidates, of.candidates...)
		for _, c := range of.candidates {
			positions = append(positions, c.positions...)
		}
	}
	lines, err := lineIDs(ctx, conn, positions)
	if err != nil {
		return nil, nil, err
	}
	for i := range candidates {
		c, n := &candidates[i], len(candidates[i].positions)
		c.lines, lines = lines[:n:n], lines[n:]
		c.row.HeldDigest = c.heldDigest()
	}
	seq, replaced, err := storeHourPrices(ctx, conn, pricesOf(candidates))
	if err != nil {
		return nil, nil, err
	}
	stored, err := upsertRows(ctx, conn, candidates, seq, ties)
	if err != nil || len(stored) == 0 {
		return existing, nil, err
	}
	if replaced {
		if err := noteReprice(ctx, conn, stored); err != nil {
			return nil, nil, err
		}
	}
	if err := storeAround(ctx, conn, stored); err != nil {
		return nil, nil, err
	}
	for _, c := range candidates {
		if s := stored[c.row.key()]; s != nil {
			upserted = append(upserted, s.row)
		}
	}
	return existing, upserted, nil
}

// storeAround stores what depends on the rows that were stored: changes of positions, price gaps and net flows.
func storeAround(ctx context.Context, conn *pgx.Conn, stored map[portfolioHour]*candidate) error {
	w, changes, err := readWindows(ctx, conn, stored)
	if err != nil {
		return err
	}
	if err := w.storeChanges(ctx, conn, changes); err != nil {
		return err
	}
	if err := w.storePriceGaps(ctx, conn); err != nil {
		return err
	}
	return w.setNetFlows(ctx, conn)
}

// lockPortfolios lets one transaction after the other store snapshots of a portfolio: the
// positions and the net flow of a snapshot depend on the one before, which another
// transaction may be storing. Reads don't wait for it. It returns those that exist.
func lockPortfolios(ctx context.Context, conn *pgx.Conn, batch []portfolioCandidates) (map[uuid.UUID]bool, error) {
	ids := make([]uuid.UUID, len(batch))
	for i, of := range batch {
		ids[i] = of.portfolio.ID
	}
	rows, err := conn.Query(ctx, "SELECT id FROM portfolios WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE", ids)
	if err != nil {
		return nil, fmt.Errorf("lock portfolios: %w", err)
	}
	locked, err := pgx.CollectRows(rows, pgx.RowTo[uuid.UUID])
	if err != nil {
		return nil, fmt.Errorf("lock portfolios: %w", err)
	}
	existing := make(map[uuid.UUID]bool, len(locked))
	for _, id := range locked {
		existing[id] = true
	}
	return existing, nil
}

// pricesOf returns the prices that candidates were valued at.
func pricesOf(candidates []candidate) (prices []assetPrice) {
	for _, c := range candidates {
		for i, p := range c.positions {
			prices = append(prices, assetPrice{assetHour{c.lines[i].asset, c.row.Bucket.Unix()}, storedPrice(p)})
		}
	}
	return prices
}

// upsertRows stores the candidates that are better than what is stored, and returns them.
func upsertRows(ctx context.Context, conn *pgx.Conn, candidates []candidate, priceSeq int64,
	ties bool) (map[portfolioHour]*candidate, error) {
	rows := make([]snapshotRow, len(candidates))
	for i, c := range candidates {
		rows[i] = c.row
		rows[i].PriceSeq = priceSeq
	}
	records, err := json.Marshal(rows)
	if err != nil {
		return nil, fmt.Errorf("encode snapshots: %w", err)
	}
	result, err := conn.Query(ctx, upsertSnapshots, records, ties)
	if err != nil {
		return nil, fmt.Errorf("upsert snapshots: %w", err)
	}
	accepted := make(map[portfolioHour]bool) // and whether they are up to date
	var id uuid.UUID
	var bucket time.Time
	var upToDate bool
	var late []portfolioHour
	_, err = pgx.ForEachRow(result, []any{&id, &bucket, &upToDate}, func() error {
		accepted[portfolioHour{id, bucket.Unix()}] = upToDate
		if !upToDate {
			late = append(late, portfolioHour{id, bucket.Unix()})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("upsert snapshots: %w", err)
	}
	if err := noteLate(ctx, conn, late); err != nil {
		return nil, err
	}
	stored := make(map[portfolioHour]*candidate, len(accepted))
	for i, c := range candidates {
		if upToDate, ok := accepted[c.row.key()]; ok {
			rows[i].OutOfDate = !upToDate
			stored[c.row.key()] = &candidate{rows[i], c.positions, c.lines}
		}
	}
	return stored, nil
}

// key returns the hour of the row.
func (r snapshotRow) key() portfolioHour { return portfolioHour{r.PortfolioID, r.Bucket.Unix()} }

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
