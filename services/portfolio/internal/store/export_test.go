package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/timeline"
)

// AggregateUncached is Aggregate without the cache.
func (s *Snapshots) AggregateUncached(ctx context.Context, portfolioID uuid.UUID,
	bounds []time.Time) ([]timeline.Aggregate, error) {
	return s.aggregate(ctx, portfolioID, bounds, "")
}

// PruneInSteps is PruneSnapshots that deletes that many snapshots of a portfolio in a transaction.
func (s *Snapshots) PruneInSteps(ctx context.Context, before time.Time, step int) error {
	return s.forget(ctx, before, step)
}

// The statements that read prices of some hours.
const (
	PricesOfHours     = pricesOfHours
	UnpricedPositions = unpricedPositions
)
