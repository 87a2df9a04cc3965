package attempts_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/internal/bucket/redisbucket"
)

// limiter counts alone, by a clock that the test sets.
func limiter(t *testing.T, perAccount, perAddress int) (*attempts.Limiter, *time.Time) {
	t.Helper()
	now := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC)
	nowhere := client(t, "redis://127.0.0.1:1/0") // where nothing listens
	l, err := attempts.New(attempts.Policy{PerAccount: perAccount, PerAddress: perAddress},
		redisbucket.New(nowhere, "purser:auth:attempts:", redisx.Budget), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	return l, &now
}

func client(t *testing.T, url string) redis.UniversalClient {
	t.Helper()
	c, err := redisx.New(redisx.Options{URL: url, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestAnAccountIsTriedAFewTimesAMinuteFromWherever(t *testing.T) {
	l, now := limiter(t, 5, 1000)
	for i := range 5 {
		if _, err := l.Take(t.Context(), fmt.Sprint("address", i), "a@example.com"); err != nil {
			t.Fatal(i, err)
		}
	}
	_, err := l.Take(t.Context(), "another address", "a@example.com")
	e := errs.As(err)
	if e == nil || e.Reason != "TOO_MANY_ATTEMPTS" || e.RetryAfter <= 0 || e.RetryAfter > 12*time.Second {
		t.Fatalf("the sixth: %v", err)
	}
	if _, err := l.Take(t.Context(), "another address", "b@example.com"); err != nil {
		t.Errorf("another account: %v", err)
	}
	*now = now.Add(e.RetryAfter)
	if _, err := l.Take(t.Context(), "another address", "a@example.com"); err != nil {
		t.Errorf("after the time it said: %v", err)
	}
}

func TestAnAddressCannotGoFromAccountToAccount(t *testing.T) {
	l, _ := limiter(t, 5, 10)
	for i := range 10 {
		if _, err := l.Take(t.Context(), "one address", fmt.Sprint(i)); err != nil {
			t.Fatal(i, err)
		}
	}
	if _, err := l.Take(t.Context(), "one address", "yet another"); err == nil {
		t.Error("an eleventh account was tried from one address")
	}
}

func TestARightPasswordCostsNothing(t *testing.T) {
	l, _ := limiter(t, 5, 10)
	for i := range 100 {
		refund, err := l.Take(t.Context(), "address", "account")
		if err != nil {
			t.Fatal(i, err)
		}
		refund()
	}
}

func TestGuessesInParallelDoNotSlipBy(t *testing.T) {
	l, _ := limiter(t, 5, 1000)
	var accepted atomic.Int32
	var all sync.WaitGroup
	for range 200 {
		all.Go(func() {
			if _, err := l.Take(t.Context(), "address", "account"); err == nil {
				accepted.Add(1)
			}
		})
	}
	all.Wait()
	if accepted.Load() != 5 {
		t.Errorf("%d of 200 guesses at once went through, want 5", accepted.Load())
	}
}

// Ten sign-ins a second, each of which takes one second to judge.
func TestRightPasswordsThatOverlapCostNothing(t *testing.T) {
	l, now := limiter(t, 5, 60)
	var judging []func()
	for i := range 1000 {
		*now = now.Add(100 * time.Millisecond)
		refund, err := l.Take(t.Context(), "one address", fmt.Sprint(i))
		if err != nil {
			t.Fatal(i, err)
		}
		if judging = append(judging, refund); len(judging) > 10 {
			judging[0]()
			judging = judging[1:]
		}
	}
}
