package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
)

// Limits of what one statement or transaction of PruneSnapshots does.
const (
	forgetPortfolios = 500  // that are looked up
	forgetSnapshots  = 5000 // of one portfolio that are deleted
)

// PruneSnapshots deletes the snapshots of the hours before a time. The first one that is left has the positions that
// it had, and no net flow, as any first one. A portfolio is shortened step by step, each in a transaction, so that
// what others read is always right; what was forgotten before an error stays forgotten, and the next call goes on.
//
// Positions are stored by change, so a row may be what positions years later rest on. The last change of each asset at
// or before the first snapshot that is left becomes a change at that snapshot, and those before are deleted.
func (s *Snapshots) PruneSnapshots(ctx context.Context, before time.Time) error {
	return s.forget(ctx, before.UTC(), forgetSnapshots)
}

// forget is PruneSnapshots in steps of that many snapshots.
func (s *Snapshots) forget(ctx context.Context, before time.Time, step int) error {
	var after uuid.UUID
	for {
		var rows []portfolioRow
		err := s.db.Gorm(ctx).Raw(`SELECT id, owner_id FROM portfolios p
			WHERE id > ? AND EXISTS (SELECT FROM snapshots s WHERE s.portfolio_id = p.id AND s.bucket < ?)
			ORDER BY id LIMIT ?`, after, before, forgetPortfolios).Scan(&rows).Error
		if err != nil {
			return fmt.Errorf("read portfolios with old snapshots: %w", err)
		}
		for _, r := range rows {
			for more := true; more; {
				if more, err = s.forgetSome(ctx, portfolioFromRow(r), before, step); err != nil {
					return fmt.Errorf("forget old snapshots: %w", err)
				}
			}
			after = r.ID
		}
		if len(rows) < forgetPortfolios {
			return nil
		}
	}
}

// forgetSome deletes up to step snapshots of a portfolio, the oldest ones, and reports whether there are more.
func (s *Snapshots) forgetSome(ctx context.Context, p portfolio.Portfolio, before time.Time, step int) (more bool,
	err error) {
	err = cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
		// As whoever stores snapshots does, which rest on those before them.
		if err := tx.Exec("SELECT FROM portfolios WHERE id = ? FOR NO KEY UPDATE", p.ID).Error; err != nil {
			return nil, err
		}
		var first *time.Time // that is left
		err := tx.Raw(`SELECT min(bucket) FROM (
			(SELECT bucket FROM snapshots WHERE portfolio_id = @id AND bucket < @before
			 ORDER BY bucket OFFSET @limit LIMIT 1)
			UNION ALL (SELECT bucket FROM snapshots WHERE portfolio_id = @id AND bucket >= @before
			 ORDER BY bucket LIMIT 1)) AS next`,
			map[string]any{"id": p.ID, "before": before, "limit": step}).Row().Scan(&first)
		if err != nil {
			return nil, err
		}
		until := before
		if more = first != nil && first.Before(before); more {
			until = *first
		}
		stale := []cache.Invalidation{{Cache: s.caches.generations, Keys: []string{portfolioKey(p)}}}
		err = tx.Exec("DELETE FROM snapshots WHERE portfolio_id = ? AND bucket < ?", p.ID, until).Error
		if err != nil {
			return nil, err
		}
		if first == nil {
			return stale, tx.Exec("DELETE FROM position_changes WHERE portfolio_id = ?", p.ID).Error
		}
		err = tx.Exec(`WITH gone AS (
				DELETE FROM position_changes WHERE portfolio_id = @id AND bucket <= @first
				RETURNING asset, place, bucket, amount),
			last AS (SELECT DISTINCT ON (asset, place) asset, place, amount FROM gone
			         ORDER BY asset, place, bucket DESC)
			INSERT INTO position_changes (portfolio_id, asset, place, bucket, amount)
			SELECT CAST(@id AS uuid), asset, place, CAST(@first AS timestamptz), amount FROM last
			WHERE amount IS NOT NULL`,
			map[string]any{"id": p.ID, "first": first.UTC()}).Error
		if err != nil {
			return nil, err
		}
		return stale, tx.Exec(`UPDATE snapshots SET net_flow = NULL WHERE portfolio_id = @id AND net_flow IS NOT NULL
			AND bucket = (SELECT min(bucket) FROM snapshots WHERE portfolio_id = @id AND measurable)`,
			map[string]any{"id": p.ID}).Error
	})
	return more, err
}
