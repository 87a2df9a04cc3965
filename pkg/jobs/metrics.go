package jobs

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const scope = "github.com/purserhq/purser/pkg/jobs"

type metrics struct {
	success, failure, skipped metric.Int64Counter
	duration                  metric.Float64Histogram
}

// newMetrics ignores errors: an instrument that can't be made is a no-op.
func newMetrics() metrics {
	meter := otel.Meter(scope)
	var m metrics
	m.success, _ = meter.Int64Counter("task_success_total", metric.WithDescription("Runs that succeeded."))
	m.failure, _ = meter.Int64Counter("task_error_total",
		metric.WithDescription("Attempts that failed or whose lease expired."))
	m.skipped, _ = meter.Int64Counter("task_skipped_total",
		metric.WithDescription("Ticks and polls that this replica skipped, by reason."))
	m.duration, _ = meter.Float64Histogram("task_duration_seconds", metric.WithUnit("s"),
		metric.WithDescription("Duration of runs."))
	return m
}

func jobName(name string) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("task_name", name))
}

// begin makes the counters of a job exist, so that its first error is an increase.
func (m metrics) begin(job string) {
	ctx := context.Background()
	m.success.Add(ctx, 0, jobName(job))
	m.failure.Add(ctx, 0, jobName(job))
	for _, reason := range []string{"missed", "superseded", "busy", "locked"} {
		m.skipped.Add(ctx, 0, jobName(job), metric.WithAttributes(attribute.String("reason", reason)))
	}
}

func (m metrics) skip(ctx context.Context, job, reason string, n int) {
	if n > 0 {
		m.skipped.Add(ctx, int64(n), jobName(job), metric.WithAttributes(attribute.String("reason", reason)))
	}
}
