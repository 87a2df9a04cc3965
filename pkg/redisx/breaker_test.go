package redisx

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/redis/go-redis/v9"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/purserhq/purser/pkg/testkit"
)

// circuit is a breaker and a way to send commands through it.
func circuit(t *testing.T) (*breaker, func(ctx context.Context, answer func() error) error) {
	t.Helper()
	b := newBreaker("fake", true, slog.New(slog.DiscardHandler))
	return b, func(ctx context.Context, answer func() error) error {
		cmd := redis.NewCmd(ctx, "get", "k")
		return b.guard(ctx, []redis.Cmder{cmd}, func(context.Context) error { return answer() })
	}
}

func healthy() error { return nil }

// away opens the breaker and waits until it lets a probe pass.
func away(t *testing.T, call func(context.Context, func() error) error) {
	t.Helper()
	for range failuresToOpen {
		_ = call(t.Context(), func() error { return context.DeadlineExceeded })
	}
	if err := call(t.Context(), healthy); !errors.Is(err, errOpen) {
		t.Fatal(err)
	}
	<-time.After(probeInterval)
}

func TestAProbeThatPanicsIsNotTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, call := circuit(t)
		away(t, call)
		func() {
			defer func() { _ = recover() }()
			_ = call(t.Context(), func() error { panic("boom") })
		}()
		<-time.After(probeInterval)
		for range 2 {
			if err := call(t.Context(), healthy); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestAnAnswerClosesTheBreakerThoughItsCallerIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, call := circuit(t)
		away(t, call)
		ctx, cancel := context.WithCancel(t.Context())
		if err := call(ctx, func() error { cancel(); return redis.Nil }); !errors.Is(err, redis.Nil) {
			t.Fatal(err)
		}
		if b.open() != 0 {
			t.Fatal("Redis answered and the breaker is open")
		}
	})
}

func TestAProbeThatWasCancelledSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, call := circuit(t)
		away(t, call)
		inner, cancel := WithBudget(t.Context(), Budget)
		defer cancel()
		ctx, stop := context.WithCancel(inner)
		_ = call(ctx, func() error { stop(); return context.Canceled })
		if b.open() != 1 {
			t.Fatal("nothing was heard of Redis and the breaker is closed")
		}
	})
}

func TestACommandThatCannotBeSentDoesNotOpenTheBreaker(t *testing.T) {
	c, err := New(Options{URL: testkit.Redis(t).URL(), Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 2 * failuresToOpen {
		if err := c.Set(t.Context(), "k", struct{}{}, 0).Err(); err == nil ||
			errors.Is(Unavailable(err), ErrUnavailable) {
			t.Fatal(err)
		}
		_, err := c.Pipelined(t.Context(), func(
			p redis.Pipeliner) error {
			return p.Set(t.Context(), "k", struct{}{}, 0).Err()
		})
		if err == nil || errors.Is(Unavailable(err), ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
}

// after returns t as it is read d later, when the wall clock was put back by d
// in between.
func after(t time.Time, d time.Duration) time.Time {
	*(*int64)(unsafe.Add(unsafe.Pointer(&t), 8)) += int64(d) // the monotonic reading
	return t
}

// A context that is done and has no error makes go-redis return neither
// connection nor error, and package context panic.
func TestAWallClockThatIsPutBackEndsNoContextEarly(t *testing.T) {
	b, _ := circuit(t) // synctest's clock has no monotonic reading
	end := time.Now().Add(10 * time.Millisecond)
	var ctxs []context.Context
	for _, end := range []time.Time{end, after(end, 100*time.Millisecond), end.Add(-20 * time.Millisecond),
		time.Now().Add(1)} {
		ctxs = append(ctxs, b.deadlines.commandContext(&budgetContext{values: t.Context(), end: end}))
	}
	for i, ctx := range ctxs {
		child, cancel := context.WithCancel(ctx)
		defer cancel()
		<-child.Done()
		if ctx.Err() == nil {
			end, _ := ctx.Deadline()
			t.Errorf("context %d is done %s before its end", i, time.Until(end))
		}
	}
	b.deadlines.mu.Lock()
	defer b.deadlines.mu.Unlock()
	if len(b.deadlines.channels) != 0 {
		t.Errorf("%d channels are left", len(b.deadlines.channels))
	}
}

func TestANodeThatIsGoneIsShownNoMore(t *testing.T) {
	reader := metric.NewManualReader()
	before := otel.GetMeterProvider()
	otel.SetMeterProvider(metric.NewMeterProvider(metric.WithReader(reader)))
	defer otel.SetMeterProvider(before)
	shown := func() bool {
		var seen metricdata.ResourceMetrics
		if err := reader.Collect(t.Context(), &seen); err != nil {
			t.Fatal(err)
		}
		for _, scope := range seen.ScopeMetrics {
			for _, m := range scope.Metrics {
				if m.Name == "redis_breaker_open" {
					return true
				}
			}
		}
		return false
	}
	c := newNode(&redis.Options{Addr: "127.0.0.1:1"},
		Options{PoolSize: 1, Timeout: Budget, Log: slog.New(slog.DiscardHandler)})
	if !shown() {
		t.Fatal("not shown")
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	testkit.Eventually(t, time.Minute, func() bool { runtime.GC(); return !shown() })
}
