package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// batch is valuations of one portfolio, each in a bucket of its own.
type batch struct {
	portfolio  portfolio.Portfolio
	buckets    []time.Time
	values     []valuation.Valuation
	backfilled bool
}

// Save implements snapshot.Store: the row and its positions in one
// transaction.
func (s *Snapshots) Save(ctx context.Context, p portfolio.Portfolio, bucket time.Time,
	v valuation.Valuation) (snap snapshot.Snapshot, stored bool, err error) {
	b := batch{portfolio: p, buckets: []time.Time{bucket}, values: []valuation.Valuation{v}}
	err = s.save(ctx, b, func(tx *gorm.DB, better map[int64]bool) error {
		var row snapshotRow
		if err := tx.Where("portfolio_id = ? AND bucket = ?", p.ID, bucket).Take(&row).Error; err != nil {
			return fmt.Errorf("read snapshot: %w", err)
		}
		stored = len(better) > 0
		snap, err = snapshotFromRow(row)
		return err
	})
	return snap, stored, err
}

// SavePast implements snapshot.Store, in as many statements for a thousand hours
// as for one.
func (s *Snapshots) SavePast(ctx context.Context, p portfolio.Portfolio,
	hours []valuation.Valuation) (stored []snapshot.Snapshot, err error) {
	b := batch{portfolio: p, values: hours, backfilled: true}
	for _, v := range hours {
		b.buckets = append(b.buckets, v.At.UTC())
	}
	err = s.save(ctx, b, func(_ *gorm.DB, better map[int64]bool) error {
		stored = nil
		for i, v := range hours {
			if better[b.buckets[i].Unix()] {
				stored = append(stored, snapshot.Snapshot{
					Portfolio: p.ID, Bucket: b.buckets[i], TakenAt: b.buckets[i], Total: v.Total,
					Complete: v.Complete(), Positions: len(v.Positions), Unpriced: v.Unpriced, Backfilled: true,
				})
			}
		}
		return nil
	})
	return stored, err
}

// undefinedColumn is Postgres's code of it.
const undefinedColumn = "42703"

// save stores a batch and calls then in the same transaction, with the buckets
// that were stored by their Unix times. On a schema from before, it does without
// the columns that came later.
func (s *Snapshots) save(ctx context.Context, b batch,
	then func(tx *gorm.DB, better map[int64]bool) error) (err error) {
	for _, later := range [][]string{{"backfilled", "unsound_count", "stale_count"}, {"backfilled"}, {}} {
		err = cache.Change(ctx, s.db, func(tx *gorm.DB) (left []cache.Invalidation, err error) {
			var better map[int64]bool
			err = postgres.Raw(tx, func(conn *pgx.Conn) error {
				better, err = b.store(ctx, conn, later)
				return err
			})
			if err != nil {
				return nil, err
			}
			if len(better) > 0 {
				left = []cache.Invalidation{{Cache: s.caches.generations, Keys: []string{key(b.portfolio)}}}
			}
			return left, then(tx, better)
		})
		if missing := (*pgconn.PgError)(nil); !errors.As(err, &missing) || missing.Code != undefinedColumn {
			return err
		}
	}
	return err
}

// upsert is the statement that stores snapshots where there is no better one. A
// complete one is better than one that isn't; of two that aren't, the one
// that lacks fewer wallets, then fewer prices, then has fewer stale ones. Wallets
// come first, for one that can't be read hides any number of positions.
func upsert(later []string) string {
	better, columns, set := "excluded.complete", "", ""
	for _, c := range later {
		columns += ", " + c
		set += ", " + c + " = excluded." + c
	}
	if slices.Contains(later, "unsound_count") {
		better = `(excluded.complete OR (excluded.unsound_count, excluded.unpriced_count, excluded.stale_count)
		       < (snapshots.unsound_count, snapshots.unpriced_count, snapshots.stale_count))`
	}
	// In the order of the buckets, so that of two that store the same at once
	// neither waits for the other in a circle.
	return `
		INSERT INTO snapshots (portfolio_id, bucket, taken_at, currency, total, complete, position_count, unpriced_count` + columns + `)
		SELECT $1, bucket, taken, $2, total::numeric, complete, positions, unpriced` + columns + `
		FROM unnest($4::timestamptz[], $5::timestamptz[], $6::text[], $7::boolean[], $8::integer[], $9::integer[], $10::integer[], $11::integer[])
		  AS s (bucket, taken, total, complete, positions, unpriced, unsound_count, stale_count),
		  (SELECT $3::boolean) AS b (backfilled)
		ORDER BY bucket
		ON CONFLICT (portfolio_id, bucket) DO UPDATE
		SET taken_at = excluded.taken_at, currency = excluded.currency, total = excluded.total,
		    complete = excluded.complete, position_count = excluded.position_count, unpriced_count = excluded.unpriced_count` + set + `
		WHERE NOT snapshots.complete AND ` + better + `
		RETURNING bucket`
}

// store stores the snapshots of buckets that have no better one, and returns
// which those are.
func (b batch) store(ctx context.Context, conn *pgx.Conn, later []string) (better map[int64]bool, err error) {
	n := len(b.values)
	taken, totals, complete := make([]time.Time, n), make([]string, n), make([]bool, n)
	positions, unpriced := make([]int32, n), make([]int32, n)
	unsound, stale := make([]int32, n), make([]int32, n)
	for i, v := range b.values {
		taken[i], totals[i], complete[i] = v.At, v.Total.Text('f'), v.Complete()
		positions[i], unpriced[i] = int32(len(v.Positions)), int32(v.Unpriced)
		unsound[i], stale[i] = int32(v.Unsound), int32(v.Outdated)
	}
	rows, err := conn.Query(ctx, upsert(later), b.portfolio.ID, valuation.Currency, b.backfilled,
		b.buckets, taken, totals, complete, positions, unpriced, unsound, stale)
	if err != nil {
		return nil, fmt.Errorf("store snapshots: %w", err)
	}
	stored, err := pgx.CollectRows(rows, pgx.RowTo[time.Time])
	if err != nil {
		return nil, fmt.Errorf("store snapshots: %w", err)
	}
	better = map[int64]bool{}
	for _, bucket := range stored {
		better[bucket.Unix()] = true
	}
	if len(better) == 0 {
		return better, nil
	}
	if _, err := conn.Exec(ctx, "DELETE FROM snapshot_positions WHERE portfolio_id = $1 AND bucket = ANY($2)",
		b.portfolio.ID, stored); err != nil {
		return nil, fmt.Errorf("replace positions: %w", err)
	}
	var c columns
	for i, v := range b.values {
		if better[b.buckets[i].Unix()] {
			c.add(b.buckets[i], v.Positions)
		}
	}
	return better, c.store(ctx, conn, b.portfolio.ID)
}

// columns are positions as Postgres takes many of them.
type columns struct {
	buckets                                   []time.Time
	tokens, symbols, amounts, sources, reason []string
	prices, values                            []*string
	times                                     []*time.Time
	decimals                                  []int16
	verified, stale                           []bool
}

func (c *columns) add(bucket time.Time, positions []valuation.Position) {
	for _, p := range positions {
		var price, value *string
		var at *time.Time
		if p.Price != "" {
			price, at = &p.Price, &p.PriceTime
		}
		if p.Value != nil {
			text := p.Value.Text('f')
			value = &text
		}
		c.buckets, c.tokens, c.symbols = append(c.buckets, bucket), append(c.tokens, p.TokenID),
			append(c.symbols, p.Symbol)
		c.amounts, c.sources, c.reason = append(c.amounts, p.Amount.String()), append(c.sources, p.PriceSource),
			append(c.reason, p.Reason)
		c.prices, c.values, c.times = append(c.prices, price), append(c.values, value), append(c.times, at)
		c.decimals, c.verified, c.stale = append(c.decimals, int16(p.Decimals)), append(c.verified, p.Verified),
			append(c.stale, p.PriceStale)
	}
}

func (c *columns) store(ctx context.Context, conn *pgx.Conn, portfolio uuid.UUID) error {
	_, err := conn.Exec(ctx, `
		INSERT INTO snapshot_positions (portfolio_id, bucket, token_id, symbol, decimals, verified, amount,
		                                price, price_source, price_time, price_stale, value, unpriced_reason)
		SELECT $1, bucket, token, symbol, decimals, verified, amount::numeric,
		       price::numeric, source, at, stale, value::numeric, reason
		FROM unnest($2::timestamptz[], $3::text[], $4::text[], $5::smallint[], $6::boolean[], $7::text[], $8::text[],
		            $9::text[], $10::timestamptz[], $11::boolean[], $12::text[], $13::text[])
		  AS p (bucket, token, symbol, decimals, verified, amount, price, source, at, stale, value, reason)`,
		portfolio, c.buckets, c.tokens, c.symbols, c.decimals, c.verified, c.amounts, c.prices, c.sources, c.times,
		c.stale, c.values, c.reason)
	if err != nil {
		return fmt.Errorf("store positions: %w", err)
	}
	return nil
}

// Missing implements snapshot.Store.
func (s *Snapshots) Missing(ctx context.Context, portfolio uuid.UUID, first, until time.Time, limit int) ([]time.Time,
	error) {
	var hours []time.Time
	err := s.db.Gorm(ctx).Raw(`
		SELECT hour FROM generate_series(?::timestamptz, ?::timestamptz - interval '1 hour', interval '1 hour') AS hour
		WHERE NOT EXISTS (SELECT FROM snapshots WHERE portfolio_id = ? AND bucket = hour AND complete)
		ORDER BY hour LIMIT ?`, first, until, portfolio, limit).Scan(&hours).Error
	if err != nil {
		return nil, fmt.Errorf("read missing hours: %w", err)
	}
	for i := range hours {
		hours[i] = hours[i].UTC()
	}
	return hours, nil
}
