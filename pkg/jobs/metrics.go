package jobs

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type metrics struct {
	success, failure, skipped metric.Int64Counter
	duration                  metric.Float64Histogram
}

// newMetrics takes no-op instruments where one can't be made.
func newMetrics() metrics {
	meter := otel.Meter("github.com/purserhq/purser/pkg/jobs")
	var m metrics
	m.success, _ = meter.Int64Counter("task_success_total", metric.WithDescription("Runs that succeeded."))
	m.failure, _ = meter.Int64Counter("task_error_total", metric.WithDescription("Runs that failed."))
	m.skipped, _ = meter.Int64Counter("task_skipped_total", metric.WithDescription("Ticks and polls that this replica let pass, by reason."))
	m.duration, _ = meter.Float64Histogram("task_duration_seconds", metric.WithUnit("s"), metric.WithDescription("Duration of runs."))
	return m
}

func (m metrics) skip(ctx context.Context, job, reason string, n int64) {
	if n > 0 {
		m.skipped.Add(ctx, n, metric.WithAttributes(attribute.String("task_name", job), attribute.String("reason", reason)))
	}
}

func (m metrics) ran(ctx context.Context, job string, took time.Duration, err error) {
	name := metric.WithAttributes(attribute.String("task_name", job))
	m.duration.Record(ctx, took.Seconds(), name)
	if err != nil {
		m.failure.Add(ctx, 1, name)
		return
	}
	m.success.Add(ctx, 1, name)
}
