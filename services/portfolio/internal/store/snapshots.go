package store

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

type snapshotRow struct {
	PortfolioID   uuid.UUID
	Bucket        time.Time
	TakenAt       time.Time
	Currency      string
	Total         string
	Complete      bool
	PositionCount int
	UnpricedCount int
}

func (snapshotRow) TableName() string { return "snapshots" }

// Snapshots implements snapshot.Store, portfolio.Snapshots and
// timeline.Store.
type Snapshots struct {
	db     *postgres.DB
	caches *Caches
}

// NewSnapshots returns the snapshots in db.
func NewSnapshots(db *postgres.DB, c *Caches) *Snapshots { return &Snapshots{db: db, caches: c} }

// Save implements snapshot.Store: the row and its positions in one
// transaction.
func (s *Snapshots) Save(ctx context.Context, p portfolio.Portfolio, bucket time.Time, v valuation.Valuation) (snap snapshot.Snapshot, stored bool, err error) {
	err = cache.Change(ctx, s.db, func(tx *gorm.DB) (left []cache.Stale, err error) {
		if stored, err = saveOne(ctx, tx, p.ID, bucket, v); err != nil {
			return nil, err
		}
		var row snapshotRow
		if err := tx.Where("portfolio_id = ? AND bucket = ?", p.ID, bucket).Take(&row).Error; err != nil {
			return nil, fmt.Errorf("read snapshot: %w", err)
		}
		if stored {
			left = []cache.Stale{{Cache: s.caches.generations, Keys: []string{key(p)}}}
		}
		snap, err = snapshotFromRow(row)
		return left, err
	})
	return snap, stored, err
}

// saveOne stores a snapshot unless a better one is there, and tells whether.
func saveOne(ctx context.Context, tx *gorm.DB, portfolio uuid.UUID, bucket time.Time, v valuation.Valuation) (stored bool, err error) {
	res := tx.Exec(`
		INSERT INTO snapshots (portfolio_id, bucket, taken_at, currency, total, complete, position_count, unpriced_count)
		VALUES (?, ?, ?, ?, ?::numeric, ?, ?, ?)
		ON CONFLICT (portfolio_id, bucket) DO UPDATE
		SET taken_at = excluded.taken_at, currency = excluded.currency, total = excluded.total,
		    complete = excluded.complete, position_count = excluded.position_count, unpriced_count = excluded.unpriced_count
		WHERE excluded.complete AND NOT snapshots.complete`,
		portfolio, bucket, v.At, valuation.Currency, v.Total.Text('f'), v.Complete(), len(v.Positions), v.Unpriced)
	if res.Error != nil {
		return false, fmt.Errorf("store snapshot: %w", res.Error)
	}
	if res.RowsAffected == 0 {
		return false, nil
	}
	return true, postgres.Raw(tx, func(conn *pgx.Conn) error { return savePositions(ctx, conn, portfolio, bucket, v.Positions) })
}

func savePositions(ctx context.Context, conn *pgx.Conn, portfolio uuid.UUID, bucket time.Time, positions []valuation.Position) error {
	if _, err := conn.Exec(ctx, "DELETE FROM snapshot_positions WHERE portfolio_id = $1 AND bucket = $2", portfolio, bucket); err != nil {
		return fmt.Errorf("replace positions: %w", err)
	}
	n := len(positions)
	tokens, symbols, amounts := make([]string, n), make([]string, n), make([]string, n)
	prices, values, sources, reasons := make([]*string, n), make([]*string, n), make([]string, n), make([]string, n)
	decimals, verified, stale := make([]int16, n), make([]bool, n), make([]bool, n)
	times := make([]*time.Time, n)
	for i, p := range positions {
		tokens[i], symbols[i], amounts[i] = p.TokenID, p.Symbol, p.Amount.String()
		sources[i], reasons[i] = p.PriceSource, p.Reason
		decimals[i], verified[i], stale[i] = int16(p.Decimals), p.Verified, p.PriceStale
		if p.Price != "" {
			prices[i], times[i] = &p.Price, &p.PriceTime
		}
		if p.Value != nil {
			text := p.Value.Text('f')
			values[i] = &text
		}
	}
	_, err := conn.Exec(ctx, `
		INSERT INTO snapshot_positions (portfolio_id, bucket, token_id, symbol, decimals, verified, amount,
		                                price, price_source, price_time, price_stale, value, unpriced_reason)
		SELECT $1, $2, token, symbol, decimals, verified, amount::numeric,
		       price::numeric, source, at, stale, value::numeric, reason
		FROM unnest($3::text[], $4::text[], $5::smallint[], $6::boolean[], $7::text[], $8::text[],
		            $9::text[], $10::timestamptz[], $11::boolean[], $12::text[], $13::text[])
		  AS p (token, symbol, decimals, verified, amount, price, source, at, stale, value, reason)`,
		portfolio, bucket, tokens, symbols, decimals, verified, amounts, prices, sources, times, stale, values, reasons)
	if err != nil {
		return fmt.Errorf("store positions: %w", err)
	}
	return nil
}

// List implements snapshot.Store.
func (s *Snapshots) List(ctx context.Context, portfolio uuid.UUID, before time.Time, limit int) ([]snapshot.Snapshot, error) {
	q := s.db.Gorm(ctx).Where("portfolio_id = ?", portfolio).Order("bucket DESC").Limit(limit)
	if !before.IsZero() {
		q = q.Where("bucket < ?", before)
	}
	var rows []snapshotRow
	if err := q.Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	out := make([]snapshot.Snapshot, len(rows))
	for i, r := range rows {
		var err error
		if out[i], err = snapshotFromRow(r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func snapshotFromRow(r snapshotRow) (snapshot.Snapshot, error) {
	total, err := decimal(r.Total)
	return snapshot.Snapshot{
		Portfolio: r.PortfolioID, Bucket: r.Bucket.UTC(), TakenAt: r.TakenAt.UTC(), Total: total,
		Complete: r.Complete, Positions: r.PositionCount, Unpriced: r.UnpricedCount,
	}, err
}

type positionRow struct {
	TokenID        string
	Symbol         string
	Decimals       int16
	Verified       bool
	Amount         string
	Price          *string
	PriceSource    string
	PriceTime      *time.Time
	PriceStale     bool
	Value          *string
	UnpricedReason string
}

func (positionRow) TableName() string { return "snapshot_positions" }

// Last implements portfolio.Snapshots.
func (s *Snapshots) Last(ctx context.Context, portfolio uuid.UUID) (valuation.Valuation, error) {
	var row snapshotRow
	err := s.db.Gorm(ctx).Where("portfolio_id = ?", portfolio).Order("bucket DESC").Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return valuation.Valuation{}, errs.NotFound("snapshot")
	}
	if err != nil {
		return valuation.Valuation{}, fmt.Errorf("read last snapshot: %w", err)
	}
	var rows []positionRow
	err = s.db.Gorm(ctx).Where("portfolio_id = ? AND bucket = ?", portfolio, row.Bucket).
		Find(&rows).Error
	if err != nil {
		return valuation.Valuation{}, fmt.Errorf("read positions: %w", err)
	}
	positions := make([]valuation.Position, len(rows))
	for i, r := range rows {
		if positions[i], err = positionFromRow(r); err != nil {
			return valuation.Valuation{}, err
		}
	}
	return valuation.Restore(row.TakenAt.UTC(), positions)
}

func positionFromRow(r positionRow) (valuation.Position, error) {
	amount, ok := new(big.Int).SetString(r.Amount, 10)
	if !ok {
		return valuation.Position{}, fmt.Errorf("amount %q in the database", r.Amount)
	}
	p := valuation.Position{
		TokenID: r.TokenID, Symbol: r.Symbol, Decimals: uint8(r.Decimals), Verified: r.Verified,
		Amount: amount, PriceSource: r.PriceSource, PriceStale: r.PriceStale, Reason: r.UnpricedReason,
	}
	if r.Price != nil {
		p.Price = *r.Price
	}
	if r.PriceTime != nil {
		p.PriceTime = r.PriceTime.UTC()
	}
	if r.Value == nil {
		return p, nil
	}
	var err error
	p.Value, err = decimal(*r.Value)
	return p, err
}

func decimal(text string) (*apd.Decimal, error) {
	d, _, err := apd.NewFromString(text)
	if err != nil {
		return nil, fmt.Errorf("decimal %q in the database: %w", text, err)
	}
	return d, nil
}
