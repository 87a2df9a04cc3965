package deadline_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserhq/purser/pkg/deadline"
)

// caller is a context with this time left, or without a deadline when it is 0.
func caller(t *testing.T, left time.Duration) context.Context {
	t.Helper()
	if left == 0 {
		return t.Context()
	}
	ctx, cancel := context.WithTimeout(t.Context(), left)
	t.Cleanup(cancel)
	return ctx
}

func TestAPartOfTheWorkGetsItsShareOfTheCallersTime(t *testing.T) {
	for name, tt := range map[string]struct {
		left  time.Duration
		share float64
		limit time.Duration
		want  time.Duration // 0 for no deadline
	}{
		"half of the time":                       {10 * time.Second, 0.5, time.Minute, 5 * time.Second},
		"three quarters of the time":             {10 * time.Second, 0.75, time.Minute, 7500 * time.Millisecond},
		"all of the time":                        {10 * time.Second, 1, time.Minute, 10 * time.Second},
		"the limit when the share is longer":     {10 * time.Minute, 0.5, time.Minute, time.Minute},
		"the limit when there is no deadline":    {0, 0.5, time.Minute, time.Minute},
		"the share when there is no limit":       {10 * time.Second, 0.5, deadline.Unlimited, 5 * time.Second},
		"no deadline when there is neither":      {0, 0.5, deadline.Unlimited, 0},
		"the share of a year to the microsecond": {365 * 24 * time.Hour, 0.5, deadline.Unlimited, 4380 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := deadline.Share(caller(t, tt.left), tt.share, tt.limit)
				defer cancel()
				got, ok := deadline.Remaining(ctx)
				if ok != (tt.want != 0) || got != tt.want {
					t.Errorf("%s, %v; want %s", got, ok, tt.want)
				}
				budget := deadline.Budget(caller(t, tt.left), tt.share, tt.limit)
				if tt.want != 0 && budget != tt.want || tt.want == 0 && budget != deadline.Unlimited {
					t.Errorf("a budget of %s; want %s", budget, tt.want)
				}
			})
		})
	}
}

func TestACallersTimeThatIsOverLeavesNoShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := caller(t, time.Second)
		<-time.After(2 * time.Second)
		if left, ok := deadline.Remaining(late); !ok || left != -time.Second {
			t.Errorf("%s left, %v", left, ok)
		}
		if b := deadline.Budget(late, 0.5, time.Minute); b >= 0 {
			t.Errorf("a budget of %s", b)
		}
		ctx, cancel := deadline.Share(late, 0.5, time.Minute)
		defer cancel()
		if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("a share that has ended with %v", ctx.Err())
		}
	})
}

func TestAShareEndsBeforeItsCallerAndWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent := caller(t, 10*time.Second)
		share, cancel := deadline.Share(parent, 0.5, time.Minute)
		defer cancel()
		<-share.Done()
		if parent.Err() != nil {
			t.Error("the caller's own time ended with the share")
		}
		stopped, stop := context.WithCancel(parent)
		share, cancel = deadline.Share(stopped, 0.5, time.Minute)
		defer cancel()
		stop()
		if !errors.Is(share.Err(), context.Canceled) {
			t.Errorf("the share of a canceled call ended with %v", share.Err())
		}
	})
}

func TestADefaultIsForACallerWithoutADeadline(t *testing.T) {
	for name, tt := range map[string]struct{ left, want time.Duration }{
		"without a deadline":    {0, time.Minute},
		"with a shorter one":    {time.Second, time.Second},
		"with a longer one":     {time.Hour, time.Hour},
		"with one of that time": {time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := deadline.Default(caller(t, tt.left), time.Minute)
				defer cancel()
				if got, ok := deadline.Remaining(ctx); !ok || got != tt.want {
					t.Errorf("%s, %v; want %s", got, ok, tt.want)
				}
				cancel()
				if ctx.Err() == nil {
					t.Error("not done after its cancel")
				}
			})
		})
	}
}

func TestAPauseEndsInTimeOrWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if err := deadline.Pause(t.Context(), time.Second); err != nil || time.Since(begun) != time.Second {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
		why := errors.New("enough")
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Minute, why)
		defer cancel()
		begun = time.Now()
		if err := deadline.Pause(ctx, time.Hour); !errors.Is(err, why) || time.Since(begun) != time.Minute {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
	})
}

// pause waits on the clock of a bubble.
func pause(t *testing.T, d time.Duration) {
	t.Helper()
	if err := deadline.Pause(t.Context(), d); err != nil {
		t.Fatal(err)
	}
}

func TestWorkThatIsToBeFinishedOutlivesItsCallerByAGrace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		type key struct{}
		caller, end := context.WithCancel(context.WithValue(t.Context(), key{}, "kept"))
		finishing, done := deadline.Grace(caller, 2*time.Second)
		defer done()
		if finishing.Value(key{}) != "kept" {
			t.Error("the values of the context are lost")
		}
		pause(t, time.Hour) // a slow write has all of the caller's time
		if err := finishing.Err(); err != nil {
			t.Fatalf("it ended with its caller still there: %v", err)
		}
		end()
		pause(t, 2*time.Second-time.Nanosecond)
		if err := finishing.Err(); err != nil {
			t.Fatalf("it ended within the grace: %v", err)
		}
		pause(t, time.Nanosecond)
		synctest.Wait()
		if !errors.Is(context.Cause(finishing), context.DeadlineExceeded) {
			t.Errorf("after the grace its cause is %v", context.Cause(finishing))
		}
	})
}

func TestFinishedWorkLeavesNothingBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // fails when a goroutine is left
		caller, end := context.WithCancel(t.Context())
		for range 3 {
			_, done := deadline.Grace(caller, time.Hour)
			done()
		}
		late, done := deadline.Grace(caller, time.Hour)
		end()
		synctest.Wait()
		done()
		<-late.Done()
	})
}
