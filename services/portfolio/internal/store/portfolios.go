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
	db     *postgres.DB
	caches *Caches
}

// NewPortfolios returns the portfolios in db.
func NewPortfolios(db *postgres.DB, c *Caches) *Portfolios { return &Portfolios{db: db, caches: c} }

// ByID implements portfolio.Store. That there is none is not cached: ids are
// what callers make up.
func (s *Portfolios) ByID(ctx context.Context, owner, id uuid.UUID) (portfolio.Portfolio, error) {
	p, err := s.caches.portfolios.Get(ctx, key(portfolio.Portfolio{Owner: owner, ID: id}),
		func(ctx context.Context) (portfolio.Portfolio, error) {
			var row portfolioRow
			err := s.db.Gorm(ctx).Where("id = ? AND owner_id = ?", id, owner).Take(&row).Error
			return fromRow(row), err
		})
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return portfolio.Portfolio{}, errs.NotFound("portfolio")
	}
	if err != nil {
		return portfolio.Portfolio{}, fmt.Errorf("read portfolio: %w", err)
	}
	return p, nil
}

// Default implements portfolio.Store.
func (s *Portfolios) Default(ctx context.Context, fresh portfolio.Portfolio) (portfolio.Portfolio, error) {
	return s.caches.portfolios.Get(ctx, fresh.Owner.String()+"/default",
		func(ctx context.Context) (portfolio.Portfolio, error) {
			p, err := s.readDefault(ctx, fresh.Owner)
			if !errors.Is(err, gorm.ErrRecordNotFound) {
				return p, err
			}
			row := portfolioRow{ID: fresh.ID, OwnerID: fresh.Owner, Name: fresh.Name, IsDefault: true,
				CreatedAt: fresh.CreatedAt}
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

// Due implements snapshot.Everybody.
func (s *Portfolios) Due(ctx context.Context, bucket time.Time, shard, shards int, after uuid.UUID,
	limit int) ([]portfolio.Portfolio, error) {
	var rows []portfolioRow
	err := s.db.Gorm(ctx).Raw(`
		SELECT p.* FROM portfolios p
		WHERE p.id > ? AND get_byte(uuid_send(p.id), 15) % ? = ?
			AND NOT EXISTS (SELECT FROM snapshots s WHERE s.portfolio_id = p.id AND s.bucket = ? AND s.complete)
		ORDER BY p.id LIMIT ?`, after, shards, shard, bucket, limit).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read portfolios: %w", err)
	}
	list := make([]portfolio.Portfolio, len(rows))
	for i, row := range rows {
		list[i] = fromRow(row)
	}
	return list, nil
}

func fromRow(r portfolioRow) portfolio.Portfolio {
	return portfolio.Portfolio{ID: r.ID, Owner: r.OwnerID, Name: r.Name, Default: r.IsDefault, CreatedAt: r.CreatedAt}
}
