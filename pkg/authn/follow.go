package authn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/deadline"
)

const (
	// silenceTimeout is how long a stream may be silent before it is replaced: an
	// issuer sends a heartbeat every RevocationHeartbeat.
	silenceTimeout = 3 * RevocationHeartbeat
	// The delay before the next stream: doubled with each failure, and between
	// half and all of it at random.
	minReconnectDelay, maxReconnectDelay = 50 * time.Millisecond, 5 * time.Second
	// warnAfter is the Age of the revocations at which a warning is logged.
	warnAfter = 15 * time.Second
)

// RevocationHeartbeat is the longest time between two messages of an issuer's
// stream.
const RevocationHeartbeat = 3 * time.Second

// WatchRevocations reads one stream of an issuer's updates, which begins with all
// that is revoked now, and passes each to take, until ctx or the stream ends or
// take fails. It returns the error that ended it.
type WatchRevocations func(ctx context.Context, take func(RevocationUpdate) error) error

// Follow applies the updates of watch until ctx ends, and returns nil then. A
// stream that ends, fails, is invalid or falls silent is replaced by a new one;
// what was revoked stays revoked.
func (r *Revocations) Follow(ctx context.Context, watch WatchRevocations) error {
	defer r.observe()()
	delay, warned := minReconnectDelay, false
	for {
		begun := r.now()
		caughtUp, err := r.listen(ctx, watch)
		if ctx.Err() != nil {
			return nil
		}
		if caughtUp {
			warned = false
		}
		if caughtUp && r.now().Sub(begun) >= silenceTimeout { // not for one that ends as soon as it begins
			delay = minReconnectDelay
		}
		if age := r.Age(); age > warnAfter && !warned {
			warned = true
			r.log.Warn("no updates of revocations", "age", age.Round(time.Second), "error", err)
		}
		if deadline.Pause(ctx, delay/2+rand.N(delay/2)) != nil {
			return nil
		}
		delay = min(2*delay, maxReconnectDelay)
	}
}

var errSilent = errors.New("authn: the stream of revocations is silent")

// listen follows one stream. It returns whether there was an update with
// CaughtUp, and the error that ended it.
func (r *Revocations) listen(ctx context.Context, watch WatchRevocations) (caughtUp bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silenceTimer := time.AfterFunc(silenceTimeout, func() { cancel(errSilent) })
	defer silenceTimer.Stop()
	err = watch(ctx, func(update RevocationUpdate) error {
		silenceTimer.Reset(silenceTimeout)
		if err := r.Apply(update); err != nil {
			return err
		}
		caughtUp = caughtUp || update.CaughtUp
		return nil
	})
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return caughtUp, err
}

// observe exports the metrics of r until the function that it returns is
// called.
func (r *Revocations) observe() (end func()) {
	meter := otel.Meter("github.com/purserhq/purser/pkg/authn")
	// An instrument that can't be made is a no-op one.
	age, _ := meter.Float64ObservableGauge("authn_revocations_age_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time since the known revocations were last complete."))
	known, _ := meter.Int64ObservableGauge("authn_revocations_known",
		metric.WithDescription("Revoked sessions, users and keys that are kept."))
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveFloat64(age, r.Age().Seconds())
		o.ObserveInt64(known, int64(r.Count()))
		return nil
	}, age, known)
	if err != nil {
		return func() {}
	}
	return func() { _ = registration.Unregister() }
}
