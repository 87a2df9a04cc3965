package price

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type sourceMetrics struct {
	failures, disagreements metric.Int64Counter
}

// newSourceMetrics uses the no-op instrument for one that can't be made.
func newSourceMetrics(feeds []NamedFeed) sourceMetrics {
	meter := otel.Meter("purser/wallet/price")
	var m sourceMetrics
	m.failures, _ = meter.Int64Counter("price_source_failures_total",
		metric.WithDescription("Calls to a source of prices that failed, those during its rest included."))
	m.disagreements, _ = meter.Int64Counter("price_disagreements_total",
		metric.WithDescription("Prices that differ from another source's by more than the limit."))
	for _, f := range feeds {
		m.failures.Add(context.Background(), 0, metric.WithAttributes(attribute.String("source", f.Name)))
		for _, other := range feeds {
			if other.Name != f.Name {
				m.disagreements.Add(context.Background(), 0, between(f.Name, other.Name))
			}
		}
	}
	return m
}

func between(source, other string) metric.AddOption {
	return metric.WithAttributes(attribute.String("source", source), attribute.String("other", other))
}

func (m sourceMetrics) failed(ctx context.Context, source string) {
	m.failures.Add(ctx, 1, metric.WithAttributes(attribute.String("source", source)))
}

func (m sourceMetrics) disagree(ctx context.Context, source, other string) {
	m.disagreements.Add(ctx, 1, between(source, other))
}
