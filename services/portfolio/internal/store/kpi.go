package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/apd/v3"
	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/kpi"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

const highestInCurrency = `
SELECT s.bucket, s.total::text, coalesce(in_currency(s.total, r.rate)::text, ''),
       count(*) FILTER (WHERE r.rate IS NULL) OVER () AS missing
FROM snapshots s LEFT JOIN currency_rates r ON r.currency = $2 AND r.bucket = s.bucket
WHERE s.portfolio_id = $1 AND NOT s.price_gap
ORDER BY in_currency(s.total, r.rate) DESC NULLS LAST, s.bucket LIMIT 1`

// highestInCurrency returns the highest snapshot at the stored rates of the hours.
func (s *Snapshots) highestInCurrency(ctx context.Context, portfolioID uuid.UUID, code string) (*kpi.Peak, error) {
	var p kpi.Peak
	var dollars, total string
	var missing int
	err := s.db.SQL().QueryRowContext(ctx, highestInCurrency, portfolioID, code).Scan(&p.Bucket, &dollars, &total,
		&missing)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil //nolint:nilnil // no snapshot is no error
	}
	if err != nil {
		return nil, fmt.Errorf("read the highest snapshot: %w", err)
	}
	p.Bucket = p.Bucket.UTC()
	if p.Dollars, err = parseDecimal(dollars); err != nil || missing > 0 {
		return &p, err
	}
	p.Total, err = parseDecimal(total)
	return &p, err
}

// HighestSnapshot implements kpi.Store.
func (s *Snapshots) HighestSnapshot(ctx context.Context, portfolioID uuid.UUID, code string) (*kpi.Peak, error) {
	if !currency.IsUSD(code) {
		return s.highestInCurrency(ctx, portfolioID, code)
	}
	var rows []snapshotRow
	err := s.db.Gorm(ctx).Select("bucket", "total").Where("portfolio_id = ? AND NOT price_gap", portfolioID).
		Order("total DESC, bucket").Limit(1).Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read the highest snapshot: %w", err)
	}
	if len(rows) == 0 {
		return nil, nil //nolint:nilnil // no snapshot is no error
	}
	total, err := parseDecimal(rows[0].Total)
	return &kpi.Peak{Bucket: rows[0].Bucket.UTC(), Total: total, Dollars: total}, err
}

// positionAt is a row of the view with its snapshot.
type positionAt struct {
	Bucket   time.Time
	Position positionRow `gorm:"embedded"`
}

// PositionsAt implements kpi.Store.
func (s *Snapshots) PositionsAt(ctx context.Context, portfolioID uuid.UUID,
	buckets []time.Time) (map[time.Time][]valuation.Position, error) {
	found := make(map[time.Time][]valuation.Position, len(buckets))
	if len(buckets) == 0 {
		return found, nil
	}
	var rows []positionAt
	err := s.db.Gorm(ctx).Table("snapshot_positions").Where("portfolio_id = ? AND bucket IN ?", portfolioID, buckets).
		Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	unvalued := make(map[time.Time][]valuation.Position, len(buckets))
	for _, r := range rows {
		p, err := positionFromRow(r.Position)
		if err != nil {
			return nil, err
		}
		unvalued[r.Bucket.UTC()] = append(unvalued[r.Bucket.UTC()], p)
	}
	for bucket, positions := range unvalued {
		v, err := (valuation.Assets{At: bucket, Positions: positions}).Value()
		if err != nil {
			return nil, err
		}
		found[bucket] = v.Positions
	}
	return found, nil
}

// FlowSince implements kpi.Store.
func (s *Snapshots) FlowSince(now valuation.Valuation, before []valuation.Position,
	passed time.Duration) (*apd.Decimal, error) {
	return netFlow(now.Positions, before, passed, true)
}
