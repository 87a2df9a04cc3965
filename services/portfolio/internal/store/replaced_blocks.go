package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
)

// outdatedPortfolios is how many portfolios one transaction of Outdate looks at.
const outdatedPortfolios = 500

// outdate gives the snapshots of up to @limit portfolios after @after no valid membership, those that were taken after
// @since of hours from @first to @until, if the portfolio ever held a token whose id begins with @chain. It returns
// the portfolios that it looked at, and whether each had one.
const outdate = `
WITH page AS (SELECT id, owner_id FROM portfolios WHERE id > @after ORDER BY id LIMIT @limit),
hit AS (
  SELECT p.id FROM portfolios p
  WHERE p.id IN (SELECT id FROM page)
    AND EXISTS (SELECT FROM snapshots WHERE portfolio_id = p.id AND bucket >= @first AND bucket < @until
                AND snapshot_time > @since)
    AND EXISTS (SELECT FROM position_changes c JOIN assets a ON a.id = c.asset
                WHERE c.portfolio_id = p.id AND a.token_id LIKE @chain)
  ORDER BY p.id FOR NO KEY UPDATE OF p),
outdated AS (
  UPDATE snapshots s SET membership = -1 FROM hit h
  WHERE s.portfolio_id = h.id AND s.bucket >= @first AND s.bucket < @until AND s.snapshot_time > @since),
marked AS (
  UPDATE portfolios p SET last_membership = p.last_membership + 1, recompute_from = least(p.recompute_from, @first),
         recompute_at = clock_timestamp()
  FROM hit h WHERE p.id = h.id)
SELECT id, owner_id, id IN (SELECT id FROM hit) AS hit FROM page ORDER BY id`

// Outdate implements snapshot.PriceChangeStore. A snapshot without a valid membership is out of date as one of other
// wallets is: it is not complete, any other replaces it, and the job takes it again.
func (s *Snapshots) Outdate(ctx context.Context, r snapshot.ReplacedBlocks) error {
	args := map[string]any{"after": uuid.Nil, "limit": outdatedPortfolios, "chain": r.Chain + "/%",
		"since": r.Since.UTC(), "first": r.Since.UTC().Truncate(time.Hour), "until": r.Until.UTC()}
	for {
		var last uuid.UUID
		err := cache.Change(ctx, s.db, func(tx *gorm.DB) ([]cache.Invalidation, error) {
			var page []struct {
				ID, OwnerID uuid.UUID
				Hit         bool
			}
			if err := tx.Raw(outdate, args).Scan(&page).Error; err != nil {
				return nil, fmt.Errorf("mark snapshots of replaced blocks: %w", err)
			}
			var keys []string
			for _, p := range page {
				if p.Hit {
					keys = append(keys, portfolioKey(portfolio.Portfolio{ID: p.ID, Owner: p.OwnerID}))
				}
			}
			if last = uuid.Nil; len(page) == outdatedPortfolios {
				last = page[len(page)-1].ID
			}
			if len(keys) == 0 {
				return nil, nil
			}
			return []cache.Invalidation{{Cache: s.caches.generations, Keys: keys}}, nil
		})
		if err != nil || last == uuid.Nil {
			return err
		}
		args["after"] = last
	}
}
