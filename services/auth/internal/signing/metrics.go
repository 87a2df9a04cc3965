package signing

import (
	"context"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
)

const meterName = "github.com/purserhq/purser/services/auth/signing"

// registerGauges exports the state of the ring as metrics, until the function
// that it returns is called.
func (r *Ring) registerGauges() (unregister func()) {
	meter := otel.Meter(meterName)
	// An instrument that can't be made is a no-op one.
	next, _ := meter.Float64ObservableGauge("jwt_key_next_step_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time until the next step of the rotation is due; below zero when it is overdue."))
	age, _ := meter.Float64ObservableGauge("jwt_key_ring_age_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time since the ring was last read from the database."))
	skewed, _ := meter.Float64ObservableGauge("jwt_signer_clock_skew_seconds", metric.WithUnit("s"),
		metric.WithDescription("Lower bound of the difference between this process's clock and the database's."))
	epoch, _ := meter.Int64ObservableGauge("jwt_key_ring_epoch",
		metric.WithDescription("The epoch of the key set that is published."))
	begun := r.now()
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		s, now := r.state.Load(), r.now()
		if s == nil {
			o.ObserveFloat64(age, now.Sub(begun).Seconds())
			return nil
		}
		o.ObserveFloat64(age, now.Sub(s.readAt).Seconds())
		o.ObserveFloat64(next, s.nextStepAt.Sub(now).Seconds())
		o.ObserveFloat64(skewed, s.skew.Seconds())
		o.ObserveInt64(epoch, s.epoch)
		return nil
	}, next, age, skewed, epoch)
	if err != nil {
		return func() {}
	}
	return func() { _ = registration.Unregister() }
}

// nextStepAt is when the next step of a reading is due, by this process's clock.
// An overdue step keeps the time that an earlier reading computed, so that the
// metric shows since when it is overdue; without one, it is due at at.
func (r *Ring) nextStepAt(reading Reading, at time.Time) time.Time {
	step := NextStep(reading.Keys, reading.Now, r.policy, false)
	if !step.Due() {
		return at.Add(step.NextDueAt.Sub(reading.Now))
	}
	if old := r.state.Load(); old != nil && old.nextStepAt.Before(at) {
		return old.nextStepAt
	}
	return at
}
