package authn

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/metric"
)

// How a stream of news is followed.
const (
	// silence is how long a stream may say nothing: an issuer's heartbeat
	// comes every RevocationHeartbeat.
	silence = 3 * RevocationHeartbeat
	// The pause before a stream is taken up again, doubled each time it fails
	// and random by half.
	pauseLeast, pauseMost = 50 * time.Millisecond, 5 * time.Second
	// toldAfter is how long the news may be away before the log tells.
	toldAfter = 15 * time.Second
)

// RevocationHeartbeat is how often a stream of news says something at least.
const RevocationHeartbeat = 3 * time.Second

// WatchRevocations reads one stream of an issuer's news, which begins with all
// that counts, and hands each to take, until ctx or the stream ends or take
// fails. It returns why.
type WatchRevocations func(ctx context.Context, take func(RevocationNews) error) error

// Follow takes the news that watch brings until ctx ends. A stream that ends,
// fails, lies or falls silent is given up for a new one; what was heard stays.
// It returns nil.
func (r *Revocations) Follow(ctx context.Context, watch WatchRevocations) error {
	defer r.observe()()
	pause, told := pauseLeast, false
	for {
		begun := r.now()
		heard, err := r.listen(ctx, watch)
		if ctx.Err() != nil {
			return nil
		}
		if heard {
			told = false
		}
		if heard && r.now().Sub(begun) >= silence { // not one that ends as soon as it begins
			pause = pauseLeast
		}
		if away := r.Away(); away > toldAfter && !told {
			told = true
			r.log.Warn("revocations are not heard of", "away", away.Round(time.Second), "error", err)
		}
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		pause = min(2*pause, pauseMost)
	}
}

var errSilent = errors.New("authn: the stream of revocations has fallen silent")

// listen follows one stream; heard says that it was once current.
func (r *Revocations) listen(ctx context.Context, watch WatchRevocations) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(silence, func() { cancel(errSilent) })
	defer quiet.Stop()
	err = watch(ctx, func(news RevocationNews) error {
		quiet.Reset(silence)
		if err := r.Take(news); err != nil {
			return err
		}
		heard = heard || news.Current
		return nil
	})
	if cause := context.Cause(ctx); cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	return heard, err
}

// observe tells how the following goes, until what it returns is called.
func (r *Revocations) observe() (end func()) {
	meter := otel.Meter("github.com/purserhq/purser/pkg/authn")
	// An instrument that can't be made is a no-op one.
	away, _ := meter.Float64ObservableGauge("authn_revocations_away_seconds", metric.WithUnit("s"),
		metric.WithDescription("Time since the revocations that are known were last current."))
	known, _ := meter.Int64ObservableGauge("authn_revocations_known",
		metric.WithDescription("Revoked sessions, users and keys that are remembered."))
	registration, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveFloat64(away, r.Away().Seconds())
		o.ObserveInt64(known, int64(r.Remembered()))
		return nil
	}, away, known)
	if err != nil {
		return func() {}
	}
	return func() { _ = registration.Unregister() }
}
