package redisx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/redis/go-redis/v9"
)

const (
	failuresToOpen = 5
	probeEvery     = 500 * time.Millisecond
)

// ErrUnavailable says that Redis can't be reached or doesn't answer in time.
var ErrUnavailable = errors.New("redis is unavailable")

var errOpen = fmt.Errorf("%w: the circuit breaker is open", ErrUnavailable)

// Unavailable marks err as [ErrUnavailable] when it means that Redis gave no
// usable answer: no connection, a timeout, an open breaker, a server that is
// loading or has no cluster. nil, redis.Nil and what the server answered are
// returned as they are.
func Unavailable(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) || !failure(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// failure tells a server that can't serve from one that answered no, and from a
// command that could not be sent for what the caller put in it.
func failure(err error) bool {
	switch {
	case err == nil, errors.Is(err, redis.Nil), errors.Is(err, context.Canceled),
		strings.HasPrefix(err.Error(), "redis: can't marshal "):
		return false
	case redis.IsLoadingError(err), redis.IsMasterDownError(err), redis.IsClusterDownError(err),
		redis.IsTryAgainError(err), redis.IsReadOnlyError(err), redis.HasErrorPrefix(err, "BUSY "):
		return true
	}
	var answer redis.Error
	return !errors.As(err, &answer)
}

// breaker is a circuit breaker around every command of one node. It is a hook
// and not a Limiter: go-redis asks a Limiter once more for the handshake of a
// fresh connection, and a breaker that lets one probe through then refuses the
// probe's own handshake and never closes. A hook has the context, so it tells
// the two apart, and a caller's cancellation from Redis's silence.
type breaker struct {
	circuit circuitbreaker.CircuitBreaker[any]
	bell    bell
}

func newBreaker(addr string, log *slog.Logger) *breaker {
	return &breaker{bell: bell{began: time.Now()}, circuit: circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(failuresToOpen).
		WithSuccessThreshold(1).
		WithDelay(probeEvery).
		OnOpen(func(e circuitbreaker.StateChangedEvent) {
			if e.OldState == circuitbreaker.ClosedState { // not for each probe
				log.Warn("redis is unavailable", "addr", addr)
			}
		}).
		OnClose(func(circuitbreaker.StateChangedEvent) { log.Info("redis is back", "addr", addr) }).
		Build()}
}

func (b *breaker) refusing() int64 {
	if b.circuit.IsClosed() {
		return 0
	}
	return 1
}

// guard lets commands pass while the circuit is closed, and one as a probe.
func (b *breaker) guard(ctx context.Context, cmds []redis.Cmder, next func(context.Context) error) error {
	if ctx.Value(admitted{}) != nil {
		return next(ctx)
	}
	if !b.circuit.TryAcquirePermit() {
		for _, cmd := range cmds {
			cmd.SetErr(errOpen)
		}
		return errOpen
	}
	begin, outcome := time.Now(), errPanicked
	defer func() { b.learn(ctx, begin, outcome) }()
	err := next(b.bell.permit(ctx))
	outcome = err
	for _, cmd := range cmds { // the first error may be a miss, the next a lost connection
		if !failure(outcome) && failure(cmd.Err()) {
			outcome = cmd.Err()
		}
	}
	return err
}

// errPanicked is the outcome of a command that didn't return.
var errPanicked = errors.New("redisx: a command panicked")

// learn tells the circuit what came of a command that it let pass.
func (b *breaker) learn(ctx context.Context, begin time.Time, outcome error) {
	callers := ctx.Err() != nil && ctx.Value(ours{}) == nil && time.Since(begin) < Budget*9/10
	switch {
	case !failure(outcome) && !errors.Is(outcome, context.Canceled):
		b.circuit.RecordSuccess()
	case failure(outcome) && !callers, !b.circuit.IsClosed():
		// A probe that its caller gave up says nothing, but the permit has to
		// be given back: ask again after the next delay.
		b.circuit.RecordFailure()
	}
}
