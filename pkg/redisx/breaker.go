package redisx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/redis/go-redis/v9"
)

const (
	failuresToOpen = 5
	probeInterval  = 500 * time.Millisecond
)

// ErrUnavailable is returned when Redis can't be reached or doesn't answer in time.
var ErrUnavailable = errors.New("redis is unavailable")

var errOpen = fmt.Errorf("%w: the circuit breaker is open", ErrUnavailable)

// Unavailable wraps err with [ErrUnavailable] when Redis gave no usable answer: no
// connection, a timeout, an open breaker; a server that is loading, whose cluster is
// down, that refuses the password, a command that its ACL forbids, or a write that it
// has no memory or no replicas for. It returns nil, redis.Nil and other error replies
// unchanged.
func Unavailable(err error) error {
	if err == nil || errors.Is(err, ErrUnavailable) || !isFailure(err) && !isUnserved(err) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

// isUnserved reports whether the server serves other commands, but not this one: the
// breaker stays closed. A server that refuses the client is a failure, see IsRefusal.
func isUnserved(err error) bool {
	for _, prefix := range []string{"OOM ", "MISCONF ", "NOREPLICAS ", "MOVED ", "ASK "} {
		if redis.HasErrorPrefix(err, prefix) {
			return true
		}
	}
	return false
}

// isFailure reports whether err means that the server can't serve. It does not for
// an error reply to the command or for arguments that can't be encoded.
func isFailure(err error) bool {
	switch {
	case err == nil, errors.Is(err, redis.Nil), errors.Is(err, context.Canceled),
		strings.HasPrefix(err.Error(), "redis: can't marshal "):
		return false
	case redis.IsLoadingError(err), redis.IsMasterDownError(err), redis.IsClusterDownError(err),
		redis.IsTryAgainError(err), redis.IsReadOnlyError(err), redis.HasErrorPrefix(err, "BUSY "),
		redis.IsAuthError(err),
		IsRefusal(err) && (errors.Is(err, ErrMode) || !redis.HasErrorPrefix(err, "MOVED")):
		return true
	}
	var reply redis.Error
	return !errors.As(err, &reply)
}

// breaker is a circuit breaker around every command of one node. It is a hook and
// not a Limiter: go-redis calls a Limiter also for the handshake of a new
// connection, so that a breaker which admits one probe would refuse the probe's own
// handshake and never close. A hook has the context, by which it recognizes the
// handshake and a cancellation by the caller.
type breaker struct {
	circuit   circuitbreaker.CircuitBreaker[any]
	deadlines deadlines
	// single says that the server is no node of a Cluster, so that MOVED is a failure.
	single bool
	// last is the text of the last failure.
	last atomic.Value
}

func newBreaker(addr string, single bool, log *slog.Logger) *breaker {
	b := &breaker{deadlines: deadlines{began: time.Now()}, single: single}
	b.circuit = circuitbreaker.NewBuilder[any]().
		WithFailureThreshold(failuresToOpen).
		WithSuccessThreshold(1).
		WithDelay(probeInterval).
		OnOpen(func(e circuitbreaker.StateChangedEvent) {
			if e.OldState == circuitbreaker.ClosedState { // not for each probe
				log.Warn("redis is unavailable", "addr", addr, "error", b.last.Load())
			}
		}).
		OnClose(func(circuitbreaker.StateChangedEvent) { log.Info("redis is back", "addr", addr) }).
		Build()
	return b
}

// open is 1 while the breaker refuses commands, otherwise 0.
func (b *breaker) open() int64 {
	if b.circuit.IsClosed() {
		return 0
	}
	return 1
}

// guard admits commands while the circuit is closed, and one at a time as a probe.
func (b *breaker) guard(ctx context.Context, cmds []redis.Cmder, next func(context.Context) error) error {
	if ctx.Value(admittedKey{}) != nil {
		return next(ctx)
	}
	if !b.circuit.TryAcquirePermit() {
		for _, cmd := range cmds {
			cmd.SetErr(errOpen)
		}
		return errOpen
	}
	begin, outcome := time.Now(), errPanicked
	defer func() { b.record(ctx, begin, outcome) }()
	err := next(b.deadlines.commandContext(ctx))
	outcome = err
	for _, cmd := range cmds { // the first error may be a miss, the next a lost connection
		if !isFailure(outcome) && isFailure(cmd.Err()) {
			outcome = cmd.Err()
		}
	}
	if b.single && redis.HasErrorPrefix(err, "MOVED") {
		outcome = fmt.Errorf("%w: %w", ErrMode, err)
		for _, cmd := range cmds {
			cmd.SetErr(outcome)
		}
		err = outcome
	}
	if isFailure(outcome) {
		b.last.Store(outcome.Error())
	}
	return err
}

// errPanicked is the outcome of a command that panicked.
var errPanicked = errors.New("redisx: a command panicked")

// record tells the circuit the outcome of an admitted command. A context of the
// caller that ended early is no failure of Redis.
func (b *breaker) record(ctx context.Context, begin time.Time, outcome error) {
	endedByCaller := ctx.Err() != nil && ctx.Value(budgetKey{}) == nil && time.Since(begin) < Budget*9/10
	switch {
	case !isFailure(outcome) && !errors.Is(outcome, context.Canceled):
		b.circuit.RecordSuccess()
	case isFailure(outcome) && !endedByCaller, !b.circuit.IsClosed():
		// A cancelled probe has no result, but its permit has to be returned:
		// the next probe follows after the delay.
		b.circuit.RecordFailure()
	}
}
