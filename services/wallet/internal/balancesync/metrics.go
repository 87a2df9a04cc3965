package balancesync

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
)

type metrics struct {
	synced, failed metric.Int64Counter
	oldest         metric.Float64Gauge
}

// newMetrics uses the no-op instrument for one that can't be made.
func newMetrics() metrics {
	meter := otel.Meter("purser/wallet/sync")
	var m metrics
	m.synced, _ = meter.Int64Counter("wallets_synced_total", metric.WithDescription("Wallets synced by the job."))
	m.failed, _ = meter.Int64Counter("wallets_sync_failed_total",
		metric.WithDescription("Wallets whose sync by the job failed."))
	m.synced.Add(context.Background(), 0)
	m.failed.Add(context.Background(), 0)
	m.oldest, _ = meter.Float64Gauge("wallets_oldest_sync_seconds", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest balances at the end of a run."))
	return m
}
