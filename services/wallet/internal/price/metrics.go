package price

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

type sourceMetrics struct {
	failures, disagreements metric.Int64Counter
	age                     metric.Float64Histogram
}

// newSourceMetrics uses the no-op instrument for one that can't be made.
func newSourceMetrics(feeds []NamedFeed) sourceMetrics {
	meter := otel.Meter("purser/wallet/price")
	var m sourceMetrics
	m.failures, _ = meter.Int64Counter("price_source_failures_total",
		metric.WithDescription("Calls to a source of prices that failed, those during its rest included."))
	m.disagreements, _ = meter.Int64Counter("price_disagreements_total",
		metric.WithDescription("Prices that differ from another source's by more than the limit."))
	m.age, _ = meter.Float64Histogram("price_age_seconds", metric.WithUnit("s"),
		metric.WithDescription("Age of prices, by their source's time, when they are read for the cache."))
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

// read records the ages of the prices that quotes have.
func (m sourceMetrics) read(ctx context.Context, quotes map[string]Quote, now time.Time) {
	for _, q := range quotes {
		if q.Reason == "" {
			m.age.Record(ctx, now.Sub(q.At).Seconds(), metric.WithAttributes(attribute.String("source", q.Source)))
		}
	}
}

func (m sourceMetrics) failed(ctx context.Context, source string) {
	m.failures.Add(ctx, 1, metric.WithAttributes(attribute.String("source", source)))
}

func (m sourceMetrics) disagree(ctx context.Context, source, other string) {
	m.disagreements.Add(ctx, 1, between(source, other))
}
