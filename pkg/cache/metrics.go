package cache

import (
	"context"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

const scope = "github.com/purserhq/purser/pkg/cache"

type metrics struct {
	hits, misses, degraded, undecodable, superseded, notInvalidated metric.Int64Counter

	loads      metric.Float64Histogram
	tracer     trace.Tracer
	label      metric.MeasurementOption
	entity     []metric.AddOption
	ok, failed []metric.RecordOption
	unobserve  func() // ends what observeLocal began
}

// observeLocal measures what is kept in this process.
func (m *metrics) observeLocal(size func() (entries, bytes int, hits int64)) {
	meter := otel.Meter(scope)
	entries, _ := meter.Int64ObservableGauge("cache_local_entries",
		metric.WithDescription("Entries that the process keeps in memory."))
	bytes, _ := meter.Int64ObservableGauge("cache_local_bytes", metric.WithUnit("By"),
		metric.WithDescription("Memory of the entries that the process keeps."))
	hits, _ := meter.Int64ObservableCounter("cache_local_hits_total",
		metric.WithDescription("Reads answered from the process's memory."))
	r, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		n, size, answered := size()
		o.ObserveInt64(entries, int64(n), m.label)
		o.ObserveInt64(bytes, int64(size), m.label)
		o.ObserveInt64(hits, answered, m.label)
		return nil
	}, entries, bytes, hits)
	m.unobserve = func() {
		if err == nil {
			_ = r.Unregister()
		}
	}
}

// counter ignores the error: an instrument that can't be made is a no-op.
func counter(name, what string) metric.Int64Counter {
	i, _ := otel.Meter(scope).Int64Counter(name, metric.WithDescription(what))
	return i
}

func newMetrics(entity string) metrics {
	label := attribute.String("entity", entity)
	outcome := func(outcome string) []metric.RecordOption {
		return []metric.RecordOption{metric.WithAttributeSet(
			attribute.NewSet(label, attribute.String("outcome", outcome)))}
	}
	m := metrics{
		hits:        counter("cache_hits_total", "Reads answered from the cache."),
		misses:      counter("cache_misses_total", "Reads that found no entry."),
		degraded:    counter("cache_degraded_total", "Reads that Redis gave no answer to."),
		undecodable: counter("cache_undecodable_total", "Entries removed because they couldn't be decoded."),
		superseded: counter("cache_superseded_total",
			"Loaded values that were not stored because of an invalidation during the load."),
		notInvalidated: counter("cache_invalidation_failures_total",
			"Keys that could not be invalidated because Redis gave no answer."),
		tracer: otel.Tracer(scope),
		label:  metric.WithAttributeSet(attribute.NewSet(label)),
		entity: []metric.AddOption{metric.WithAttributeSet(attribute.NewSet(label))},
		ok:     outcome("ok"),
		failed: outcome("error"),
	}
	for _, c := range []metric.Int64Counter{m.hits, m.misses, m.degraded, m.undecodable, m.superseded,
		m.notInvalidated} {
		c.Add(context.Background(), 0, m.entity...) // so that the first one is an increase
	}
	m.loads, _ = otel.Meter(scope).Float64Histogram("cache_load_duration_seconds", metric.WithUnit("s"),
		metric.WithDescription("Duration of loads from the source."))
	return m
}

func (m *metrics) add(ctx context.Context, c metric.Int64Counter, n int) {
	if n > 0 {
		c.Add(ctx, int64(n), m.entity...)
	}
}
