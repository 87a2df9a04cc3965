// Package store keeps portfolios and their snapshots in Postgres.
package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
	"gorm.io/gorm/clause"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

type portfolioRow struct {
	ID        uuid.UUID `gorm:"primaryKey"`
	OwnerID   uuid.UUID
	Name      string
	IsDefault bool
	CreatedAt time.Time
}

func (portfolioRow) TableName() string { return "portfolios" }

// Portfolios implements portfolio.Store.
type Portfolios struct {
	db       *postgres.DB
	defaults *cache.Cache[portfolio.Portfolio]
}

// NewPortfolios returns the portfolios in db; defaults caches each owner's
// default one.
func NewPortfolios(db *postgres.DB, defaults *cache.Cache[portfolio.Portfolio]) *Portfolios {
	return &Portfolios{db: db, defaults: defaults}
}

// ByID implements portfolio.Store.
func (s *Portfolios) ByID(ctx context.Context, owner, id uuid.UUID) (portfolio.Portfolio, error) {
	var row portfolioRow
	err := s.db.Gorm(ctx).Where("id = ? AND owner_id = ?", id, owner).Take(&row).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return portfolio.Portfolio{}, errs.NotFound("portfolio")
	}
	if err != nil {
		return portfolio.Portfolio{}, fmt.Errorf("read portfolio: %w", err)
	}
	return fromRow(row), nil
}

// Default implements portfolio.Store.
func (s *Portfolios) Default(ctx context.Context, fresh portfolio.Portfolio) (portfolio.Portfolio, error) {
	return s.defaults.Get(ctx, fresh.Owner.String(), func(ctx context.Context) (portfolio.Portfolio, error) {
		p, err := s.readDefault(ctx, fresh.Owner)
		if !errors.Is(err, gorm.ErrRecordNotFound) {
			return p, err
		}
		row := portfolioRow{ID: fresh.ID, OwnerID: fresh.Owner, Name: fresh.Name, IsDefault: true, CreatedAt: fresh.CreatedAt}
		if err := s.db.Gorm(ctx).Clauses(clause.OnConflict{DoNothing: true}).Create(&row).Error; err != nil {
			return portfolio.Portfolio{}, fmt.Errorf("create portfolio: %w", err)
		}
		// Of two that create at once one wins; both read the winner.
		return s.readDefault(ctx, fresh.Owner)
	})
}

func (s *Portfolios) readDefault(ctx context.Context, owner uuid.UUID) (portfolio.Portfolio, error) {
	var row portfolioRow
	if err := s.db.Gorm(ctx).Where("owner_id = ? AND is_default", owner).Take(&row).Error; err != nil {
		return portfolio.Portfolio{}, fmt.Errorf("read default portfolio: %w", err)
	}
	return fromRow(row), nil
}

func fromRow(r portfolioRow) portfolio.Portfolio {
	return portfolio.Portfolio{ID: r.ID, Owner: r.OwnerID, Name: r.Name, Default: r.IsDefault, CreatedAt: r.CreatedAt}
}
