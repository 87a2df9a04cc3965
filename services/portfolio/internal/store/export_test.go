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
