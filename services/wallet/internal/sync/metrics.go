package sync

import (
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
)

type metrics struct {
	synced, failed metric.Int64Counter
	oldest         metric.Float64Gauge
}

// newMetrics takes no-op instruments where one can't be made.
func newMetrics() metrics {
	meter := otel.Meter("purser/wallet/sync")
	var m metrics
	m.synced, _ = meter.Int64Counter("wallets_synced_total", metric.WithDescription("Wallets that the job synced."))
	m.failed, _ = meter.Int64Counter("wallets_sync_failed_total",
		metric.WithDescription("Wallets whose sync by the job failed."))
	m.oldest, _ = meter.Float64Gauge("wallets_oldest_sync_seconds", metric.WithUnit("s"),
		metric.WithDescription("Age of the balances that wait longest for a sync, at the end of a run."))
	return m
}
