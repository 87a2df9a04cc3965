package store

import (
	"log/slog"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/services/internal/partition"
)

// NewPartitions returns the partitions of the history in db. Prices are everybody's, and kept.
func NewPartitions(db *postgres.DB, log *slog.Logger) *partition.Partitions {
	return partition.NewPartitions(db, log,
		partition.Table{Name: "wallet_history", Hour: "hour", Dropped: true},
		partition.Table{Name: "balance_history", Hour: "hour", Dropped: true},
		partition.Table{Name: "position_history", Hour: "hour", Dropped: true},
		partition.Table{Name: "price_history", Hour: "hour"})
}
