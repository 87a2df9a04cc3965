package deletion

import (
	"context"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// unerasedTimeout bounds what is read for the metric.
const unerasedTimeout = 2 * time.Second

// Observe exports, until end is called, how long ago the oldest deletion was that each service has not erased.
// unerased returns that by the name of the service account.
func Observe(unerased func(context.Context) (map[string]time.Duration, error)) (end func(), err error) {
	meter := otel.Meter("purser/deletion")
	age, err := meter.Float64ObservableGauge("account_unerased_seconds", metric.WithUnit("s"),
		metric.WithDescription("Age of the oldest deletion of an account whose data a service has not erased."))
	if err != nil {
		return nil, fmt.Errorf("deletion: %w", err)
	}
	registration, err := meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		ctx, cancel := context.WithTimeout(ctx, unerasedTimeout)
		defer cancel()
		ages, err := unerased(ctx)
		for name, a := range ages {
			o.ObserveFloat64(age, a.Seconds(), metric.WithAttributes(attribute.String("service_account", name)))
		}
		return err
	}, age)
	if err != nil {
		return nil, fmt.Errorf("deletion: %w", err)
	}
	return func() { _ = registration.Unregister() }, nil
}
