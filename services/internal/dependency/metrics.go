package dependency

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

const scope = "purser/dependency"

func attributes(c Check) metric.MeasurementOption {
	return metric.WithAttributes(attribute.String("dependency", c.Name),
		attribute.String("server.address", c.Address))
}

// observe exports the states until end is called.
func (w *Watcher) observe() (end func(), err error) {
	meter := otel.Meter(scope)
	up, err := meter.Int64ObservableGauge("dependency_up",
		metric.WithDescription("1 when the last check found the dependency reachable, 0 when not."))
	if err != nil {
		return nil, fmt.Errorf("dependency: %w", err)
	}
	callback, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, r := range w.Reports() {
			switch r.State {
			case Reachable:
				o.ObserveInt64(up, 1, attributes(r.Check))
			case Unreachable:
				o.ObserveInt64(up, 0, attributes(r.Check))
			case Unknown:
			}
		}
		return nil
	}, up)
	if err != nil {
		return nil, fmt.Errorf("dependency: %w", err)
	}
	return func() { _ = callback.Unregister() }, nil
}

// observeCheck records how long a check took.
func (w *Watcher) observeCheck(ctx context.Context, c Check, took time.Duration) {
	// An instrument that can't be made is a no-op one.
	seconds, _ := otel.Meter(scope).Float64Histogram("dependency_latency_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time of a check of a dependency, also of one that failed."))
	seconds.Record(ctx, took.Seconds(), attributes(c))
}
