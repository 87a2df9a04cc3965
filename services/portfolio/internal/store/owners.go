package store

import (
	"context"
	"fmt"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// maxErasedRows is how many rows of a table one transaction erases.
const maxErasedRows = 5000

// Owners implements erasure.Data: what there is of users.
type Owners struct {
	db         *postgres.DB
	caches     *Caches
	valuations *cache.Cache[valuation.Valuation]
}

// NewOwners returns the data of users in db. valuations caches their valuations by owner and portfolio; nil if nothing
// does.
func NewOwners(db *postgres.DB, c *Caches, valuations *cache.Cache[valuation.Valuation]) *Owners {
	return &Owners{db: db, caches: c, valuations: valuations}
}

// Owners implements erasure.Data.
func (s *Owners) Owners(ctx context.Context, after uuid.UUID, limit int) (ids []uuid.UUID, err error) {
	err = s.db.Gorm(ctx).Raw(`
		(SELECT DISTINCT owner_id FROM portfolios WHERE owner_id > @after ORDER BY owner_id LIMIT @limit)
		UNION (
			SELECT DISTINCT owner_id FROM lot_identifications WHERE owner_id > @after ORDER BY owner_id LIMIT @limit)
		UNION (SELECT DISTINCT owner_id FROM requests WHERE owner_id > @after ORDER BY owner_id LIMIT @limit)
		UNION (SELECT DISTINCT owner_id FROM alert_rules WHERE owner_id > @after ORDER BY owner_id LIMIT @limit)
		UNION (SELECT DISTINCT owner_id FROM alerts WHERE owner_id > @after ORDER BY owner_id LIMIT @limit)
		UNION (SELECT DISTINCT owner_id FROM webhook_endpoints WHERE owner_id > @after ORDER BY owner_id LIMIT @limit)
		ORDER BY owner_id LIMIT @limit`, map[string]any{"after": after, "limit": limit}).Scan(&ids).Error
	if err != nil {
		return nil, fmt.Errorf("read owners: %w", err)
	}
	return ids, nil
}

// EraseSome implements erasure.Data. A portfolio is deleted last, with what was stored in the meantime: whatever
// stores a snapshot holds a lock on it.
func (s *Owners) EraseSome(tx *gorm.DB, owner uuid.UUID) (stale []cache.Invalidation, more bool, err error) {
	var ids []uuid.UUID
	err = tx.Raw("SELECT id FROM portfolios WHERE owner_id = ? ORDER BY id LIMIT 100", owner).Scan(&ids).Error
	if err != nil {
		return nil, false, fmt.Errorf("read portfolios: %w", err)
	}
	stale = s.stale(owner, ids)
	if len(ids) == 0 {
		more, err := eraseByOwner(tx, owner)
		return stale, more, err
	}
	for _, statement := range []string{
		`DELETE FROM memberships WHERE (portfolio_id, valid_from) IN (
			SELECT portfolio_id, valid_from FROM memberships WHERE portfolio_id IN ? LIMIT ?)`,
		`DELETE FROM position_changes WHERE (portfolio_id, asset, place, bucket) IN (
			SELECT portfolio_id, asset, place, bucket FROM position_changes WHERE portfolio_id IN ? LIMIT ?)`,
		`DELETE FROM snapshots WHERE (portfolio_id, bucket) IN (
			SELECT portfolio_id, bucket FROM snapshots WHERE portfolio_id IN ? LIMIT ?)`,
	} {
		done := tx.Exec(statement, ids, maxErasedRows)
		if done.Error != nil {
			return nil, false, fmt.Errorf("erase snapshots: %w", done.Error)
		}
		if done.RowsAffected == maxErasedRows {
			return stale, true, nil
		}
	}
	if err := tx.Exec("DELETE FROM portfolios WHERE id IN ?", ids).Error; err != nil {
		return nil, false, fmt.Errorf("erase portfolios: %w", err)
	}
	return stale, true, nil
}

// eraseByOwner erases what is of no portfolio. Deliveries go with the alerts and the endpoints.
func eraseByOwner(tx *gorm.DB, owner uuid.UUID) (more bool, err error) {
	for _, statement := range []string{
		`DELETE FROM requests WHERE (owner_id, request_id) IN (
			SELECT owner_id, request_id FROM requests WHERE owner_id = ? LIMIT ?)`,
		`DELETE FROM lot_identifications WHERE (owner_id, id) IN (
			SELECT owner_id, id FROM lot_identifications WHERE owner_id = ? LIMIT ?)`,
		`DELETE FROM alert_owners WHERE owner_id IN (SELECT owner_id FROM alert_owners WHERE owner_id = ? LIMIT ?)`,
		`DELETE FROM alert_rules WHERE (owner_id, id) IN (
			SELECT owner_id, id FROM alert_rules WHERE owner_id = ? LIMIT ?)`,
		`DELETE FROM webhook_endpoints WHERE (owner_id, id) IN (
			SELECT owner_id, id FROM webhook_endpoints WHERE owner_id = ? LIMIT ?)`,
		`DELETE FROM alerts WHERE (owner_id, id) IN (SELECT owner_id, id FROM alerts WHERE owner_id = ? LIMIT ?)`,
	} {
		done := tx.Exec(statement, owner, maxErasedRows)
		if done.Error != nil {
			return false, fmt.Errorf("erase requests, identifications and alerts: %w", done.Error)
		}
		if done.RowsAffected == maxErasedRows {
			return true, nil
		}
	}
	return feed.Erase(tx, owner, OwnerErased, maxErasedRows)
}

// stale are the cached values of an owner and of some of their portfolios.
func (s *Owners) stale(owner uuid.UUID, portfolios []uuid.UUID) []cache.Invalidation {
	byPortfolio := make([]string, len(portfolios))
	for i, id := range portfolios {
		byPortfolio[i] = portfolioKey(portfolio.Portfolio{Owner: owner, ID: id})
	}
	stale := []cache.Invalidation{
		{Cache: s.caches.portfolios, Keys: append([]string{defaultKey(owner)}, byPortfolio...)},
	}
	if len(portfolios) == 0 {
		return stale
	}
	stale = append(stale, cache.Invalidation{Cache: s.caches.generations, Keys: byPortfolio})
	if s.valuations != nil {
		stale = append(stale, cache.Invalidation{Cache: s.valuations, Keys: byPortfolio})
	}
	return stale
}
