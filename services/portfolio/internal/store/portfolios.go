// Package store stores portfolios and their snapshots in Postgres, and caches what it
// reads in Redis.
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
	"github.com/purserhq/purser/services/internal/erasure"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

type portfolioRow struct {
	ID        uuid.UUID `gorm:"primaryKey"`
	OwnerID   uuid.UUID
	Name      string
	IsDefault bool
	CreatedAt time.Time
	UpdatedAt time.Time

	Version        int64
	LastMembership int
	RecomputeFrom  *time.Time
	RecomputeAt    *time.Time
}

func (portfolioRow) TableName() string { return "portfolios" }

// Portfolios implements portfolio.Store and snapshot.DuePortfolios. It is safe for
// concurrent use.
type Portfolios struct {
	db         *postgres.DB
	caches     *Caches
	valuations *cache.Cache[valuation.Valuation] // nil if none are cached
}

// NewPortfolios returns the portfolios in db.
func NewPortfolios(db *postgres.DB, c *Caches) *Portfolios { return &Portfolios{db: db, caches: c} }

// noPortfolio says that the caller has no portfolio with this id.
func noPortfolio(id uuid.UUID) error {
	return errs.NotFound("portfolio " + id.String()).ListedBy("PortfolioService.ListPortfolios")
}

// ByID implements portfolio.Store: the owner is part of the query and of the cache
// key, so nobody reads another owner's portfolio. That there is none is not cached,
// since callers can make up any number of ids.
func (s *Portfolios) ByID(ctx context.Context, owner, id uuid.UUID) (portfolio.Portfolio, error) {
	p, err := s.caches.portfolios.Get(ctx, portfolioKey(portfolio.Portfolio{Owner: owner, ID: id}),
		func(ctx context.Context) (portfolio.Portfolio, error) {
			var row portfolioRow
			err := s.db.Gorm(ctx).Where("id = ? AND owner_id = ?", id, owner).Take(&row).Error
			return portfolioFromRow(row), err
		})
	if errors.Is(err, gorm.ErrRecordNotFound) {
		return portfolio.Portfolio{}, noPortfolio(id)
	}
	if err != nil {
		return portfolio.Portfolio{}, fmt.Errorf("read portfolio: %w", err)
	}
	return p, nil
}

// Entry implements portfolio.Store.
func (s *Portfolios) Entry(owner, id uuid.UUID) cache.Entry {
	if id == uuid.Nil {
		return s.caches.portfolios.Entry(defaultKey(owner))
	}
	return s.caches.portfolios.Entry(portfolioKey(portfolio.Portfolio{Owner: owner, ID: id}))
}

// ValuationKeys returns the keys by which valuations of the portfolios of these owners are cached, with one statement.
func (s *Portfolios) ValuationKeys(ctx context.Context, owners []uuid.UUID) (keys []string, err error) {
	var rows []portfolioRow
	if err := s.db.Gorm(ctx).Select("id", "owner_id").Where("owner_id IN ?", owners).Find(&rows).Error; err != nil {
		return nil, fmt.Errorf("read portfolios: %w", err)
	}
	for _, r := range rows {
		keys = append(keys, portfolioKey(portfolio.Portfolio{Owner: r.OwnerID, ID: r.ID}))
	}
	return keys, nil
}

// Versions implements watch.Versions.
func (s *Portfolios) Versions(ctx context.Context, portfolios []portfolio.Portfolio) (map[uuid.UUID]int64, error) {
	pairs := make([][]any, len(portfolios))
	for i, p := range portfolios {
		pairs[i] = []any{p.Owner, p.ID}
	}
	var rows []portfolioRow
	err := s.db.Gorm(ctx).Select("id", "version").Where("(owner_id, id) IN ?", pairs).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read versions of portfolios: %w", err)
	}
	versions := make(map[uuid.UUID]int64, len(rows))
	for _, r := range rows {
		versions[r.ID] = r.Version
	}
	return versions, nil
}

// FindOrCreateDefault implements portfolio.Store.
func (s *Portfolios) FindOrCreateDefault(ctx context.Context, p portfolio.Portfolio) (portfolio.Portfolio, error) {
	return s.caches.portfolios.Get(ctx, defaultKey(p.Owner),
		func(ctx context.Context) (portfolio.Portfolio, error) {
			found, err := s.readDefault(ctx, p.Owner)
			if !errors.Is(err, gorm.ErrRecordNotFound) {
				return found, err
			}
			row := portfolioRow{ID: p.ID, OwnerID: p.Owner, Name: p.Name, IsDefault: true, CreatedAt: p.CreatedAt,
				UpdatedAt: p.CreatedAt, Version: 1}
			err = postgres.InTx(ctx, s.db, func(tx *gorm.DB) error {
				if err := erasure.Guard(tx, p.Owner); err != nil {
					return err
				}
				made := tx.Clauses(clause.OnConflict{DoNothing: true}).Create(&row)
				if made.Error != nil || made.RowsAffected == 0 {
					return made.Error
				}
				first := portfolio.Membership{From: portfolio.Beginning()}
				return insertMemberships(tx, p.ID, portfolio.Memberships{first}, first.From)
			})
			if err != nil {
				return portfolio.Portfolio{}, fmt.Errorf("create portfolio: %w", err)
			}
			// Of two calls that create one at once, one succeeds: both read that row.
			return s.readDefault(ctx, p.Owner)
		})
}

func (s *Portfolios) readDefault(ctx context.Context, owner uuid.UUID) (portfolio.Portfolio, error) {
	var row portfolioRow
	if err := s.db.Gorm(ctx).Where("owner_id = ? AND is_default", owner).Take(&row).Error; err != nil {
		return portfolio.Portfolio{}, fmt.Errorf("read default portfolio: %w", err)
	}
	return portfolioFromRow(row), nil
}

// DueForSnapshot implements snapshot.DuePortfolios.
func (s *Portfolios) DueForSnapshot(ctx context.Context, bucket time.Time,
	owners []uuid.UUID) ([]portfolio.Member, error) {
	var rows []memberRow
	// One that has no wallets any more has a last snapshot, which says so.
	err := s.db.Gorm(ctx).Raw(`
		SELECT p.*, `+memberColumns+currentMembers+`
		WHERE p.owner_id IN ?
			AND NOT EXISTS (SELECT FROM snapshots s WHERE s.portfolio_id = p.id AND s.bucket = ? AND s.complete
			                AND s.membership = m.number)
			AND (p.is_default OR NOT m.no_wallets OR (
				SELECT s.position_count FROM snapshots s WHERE s.portfolio_id = p.id AND s.bucket <= ?
				ORDER BY s.bucket DESC LIMIT 1) > 0)
		ORDER BY p.id`, bucket, owners, bucket, bucket).Scan(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read portfolios that are due for a snapshot: %w", err)
	}
	return membersFromRows(rows)
}

func portfolioFromRow(r portfolioRow) portfolio.Portfolio {
	return portfolio.Portfolio{ID: r.ID, Owner: r.OwnerID, Name: r.Name, Default: r.IsDefault, CreatedAt: r.CreatedAt,
		UpdatedAt: r.UpdatedAt, Version: r.Version}
}
