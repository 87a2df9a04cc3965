package store

import (
	"context"
	"errors"
	"fmt"
	"math/big"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
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
	Backfilled    bool
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

// List implements snapshot.Store.
func (s *Snapshots) List(ctx context.Context, portfolio uuid.UUID, before time.Time, limit int) ([]snapshot.Snapshot,
	error) {
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
		Backfilled: r.Backfilled,
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
