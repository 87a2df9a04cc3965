package attempts_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/internal/bucket"
)

// alone is a Shared that is away.
type alone struct{}

func (alone) Take(context.Context, bucket.Bucket) (func(), time.Duration, error) {
	return nil, 0, errors.New("away")
}

// local counts by the clock of synctest, one attempt a second from an address.
func local(t *testing.T) *attempts.Limiter {
	t.Helper()
	l, err := attempts.New(attempts.Policy{PerAccount: 100_000, PerAddress: 60}, alone{}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 60 {
		if _, err := l.Take(t.Context(), "office", fmt.Sprint("account ", i)); err != nil {
			t.Fatal(err)
		}
	}
	return l
}

func TestWhoGuessesAtAnAccountWaitsBehindThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := local(t)
		if _, err := l.TryTake(t.Context(), "office", "owner"); !errs.Is(err, errs.KindExhausted) {
			t.Fatalf("the control: %v", err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var refused atomic.Int32
		for range 100 {
			go func() { // wrong passwords: nothing is given back
				for ctx.Err() == nil {
					if _, err := l.Take(ctx, "office", "victim"); errs.Is(err, errs.KindExhausted) {
						refused.Add(1)
						select {
						case <-time.After(time.Second): // by the clock of synctest
						case <-ctx.Done():
						}
					}
				}
			}()
		}
		synctest.Wait()
		for i := range 10 {
			begun := time.Now()
			refund, err := l.Take(t.Context(), "office", fmt.Sprint("owner ", i))
			if err != nil {
				t.Fatal(i, err)
			}
			if waited := time.Since(begun); waited > 2*time.Second {
				t.Errorf("an owner waited %s", waited)
			}
			refund()
		}
		if refused.Load() < 30 {
			t.Errorf("%d were refused, want those that the line has no room for", refused.Load())
		}
		stop()
		synctest.Wait()
	})
}

// Right passwords cost nothing, so those who wait follow at once.
func TestARightPasswordMakesRoomForTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, begun := local(t), time.Now()
		done := make(chan error)
		for i := range 28 {
			go func() {
				refund, err := l.Take(t.Context(), "office", fmt.Sprint("owner ", i))
				if err == nil {
					refund()
				}
				done <- err
			}()
		}
		for range 28 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(begun); took > time.Second {
			t.Errorf("28 right passwords took %s", took)
		}
	})
}

func TestAWaitEndsWithItsCallAndAfterFiveSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := local(t)
		soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		if _, err := l.Take(soon, "office", "hurried"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the call that ended: %v", err)
		}
		for i := range 5 { // each of another account, so they are first; the last of them waits 4.9 s
			go func() { _, _ = l.Take(t.Context(), "office", fmt.Sprint("earlier ", i)) }()
		}
		synctest.Wait()
		begun := time.Now()
		_, err := l.Take(t.Context(), "office", "owner")
		if e := errs.As(err); e == nil || e.Reason != "TOO_MANY_ATTEMPTS" || e.RetryAfter != time.Second ||
			time.Since(begun) != 5*time.Second {
			t.Errorf("after %s: %v", time.Since(begun), err)
		}
	})
}

// A flood from very many addresses takes no more than so much memory.
func TestLinesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, err := attempts.New(attempts.Policy{PerAccount: 100_000, PerAddress: 60}, alone{}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var waiting, refused atomic.Int32
		for a := range 50 {
			for i := range 160 {
				go func() {
					waiting.Add(1)
					_, err := l.Take(ctx, fmt.Sprint("address ", a), fmt.Sprint("account ", i))
					if waiting.Add(-1); errs.Is(err, errs.KindExhausted) {
						refused.Add(1)
					}
				}()
			}
		}
		synctest.Wait()
		if n := waiting.Load(); n > 2048 || n < 2000 {
			t.Errorf("%d wait, %d were refused", n, refused.Load())
		}
		stop()
		synctest.Wait()
		if n := waiting.Load(); n != 0 {
			t.Errorf("%d still wait; %d goroutines", n, runtime.NumGoroutine())
		}
	})
}
