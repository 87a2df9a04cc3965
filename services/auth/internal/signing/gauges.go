package signing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
)

const meterName = "github.com/purserhq/purser/services/auth/signing"

// observe tells how the ring stands, until what it returns is called.
func (r *Ring) observe() (end func()) {
	meter := otel.Meter(meterName)
	// An instrument that can't be made is a no-op one.
	next, _ := meter.Float64ObservableGauge("jwt_key_next_step_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time until something is due of the ring; below zero when it is overdue."))
	age, _ := meter.Float64ObservableGauge("jwt_key_ring_age_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time since the ring was last read from the database."))
	skewed, _ := meter.Float64ObservableGauge("jwt_signer_clock_skew_seconds", metric.WithUnit("s"),
		metric.WithDescription("How far this process's clock is from the database's, at least."))
	epoch, _ := meter.Int64ObservableGauge("jwt_key_ring_epoch",
		metric.WithDescription("The epoch that is published."))
	begun := r.now()
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s, now := r.state.Load(), r.now()
		if s == nil {
			o.ObserveFloat64(age, now.Sub(begun).Seconds())
			return nil
		}
		o.ObserveFloat64(age, now.Sub(s.readAt).Seconds())
		o.ObserveFloat64(next, s.next.Sub(now).Seconds())
		o.ObserveFloat64(skewed, s.skew.Seconds())
		o.ObserveInt64(epoch, s.epoch)
		return nil
	}, next, age, skewed, epoch)
	if err != nil {
		return func() {}
	}
	return func() { _ = registration.Unregister() }
}

// expect is when something is due of a reading, by this process's clock. What
// is due already was so since the reading before said it would be, if there was
// one.
func (r *Ring) expect(reading Reading, at time.Time) time.Time {
	step := Plan(reading.Keys, reading.Now, r.policy, false)
	if !step.Due() {
		return at.Add(step.Next.Sub(reading.Now))
	}
	if old := r.state.Load(); old != nil && old.next.Before(at) {
		return old.next
	}
	return at
}
