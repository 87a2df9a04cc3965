package work_test

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/work"
)

// What takes an hour holds up one of two slots: the others are done meanwhile, one at a time.
func TestSlowWorkHoldsUpOnlyItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left, quick := 11, atomic.Int32{}
		loop := work.New("tests", 2, time.Second, slog.New(slog.DiscardHandler),
			func(_ context.Context, n int) (pieces []func(context.Context), err error) {
				for ; n > 0 && left > 0; n-- {
					takes := time.Minute
					if left--; left == 10 {
						takes = time.Hour
					}
					pieces = append(pieces, func(ctx context.Context) {
						select {
						case <-time.After(takes):
							quick.Add(1)
						case <-ctx.Done():
						}
					})
				}
				return pieces, nil
			})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- loop.Run(ctx) }()
		<-time.After(10*time.Minute + time.Second)
		synctest.Wait()
		if n := quick.Load(); n != 10 {
			t.Errorf("%d pieces of a minute were done in 10 minutes beside one of an hour, want 10", n)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// What panics leaves its place, and the others go on.
func TestWorkThatPanicsEndsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		left, done := 3, make(chan struct{})
		loop := work.New("tests", 1, time.Second, slog.New(slog.DiscardHandler),
			func(context.Context, int) ([]func(context.Context), error) {
				if left == 0 {
					return nil, nil
				}
				left--
				return []func(context.Context){func(context.Context) {
					if left == 0 {
						close(done)
						return
					}
					panic("a fault")
				}}, nil
			})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- loop.Run(ctx) }()
		<-done
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
