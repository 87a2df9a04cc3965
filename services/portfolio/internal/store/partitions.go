package store

import (
	"context"
	"log/slog"
	"time"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/partition"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// NewPartitions returns the partitions of the history in db: those of the prices of hours.
func NewPartitions(db *postgres.DB, log *slog.Logger) *partition.Partitions {
	return partition.NewPartitions(db, log, partition.Table{Name: "hour_prices", Hour: "bucket", Dropped: true})
}

// MakePartitions has the partitions of past months made before prices of theirs are stored. It returns s, and is
// called before s is used.
func (s *Snapshots) MakePartitions(p *partition.Partitions) *Snapshots {
	s.partitions = p
	return s
}

// ensurePast makes the partitions of hours of past months. The job has made the others.
func (s *Snapshots) ensurePast(ctx context.Context, hours []valuation.Assets) {
	if s.partitions == nil {
		return
	}
	var past []time.Time
	present := partition.Month(time.Now())
	for _, h := range hours {
		month := partition.Month(h.At)
		if month.Before(present) && (len(past) == 0 || !past[len(past)-1].Equal(month)) {
			past = append(past, month)
		}
	}
	s.partitions.Ensure(ctx, past, "hour_prices")
}
