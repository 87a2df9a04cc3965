package history

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/google/uuid"
)

// free has locks that nobody else holds.
type free struct{}

func (free) Lock(context.Context, string) (func(), error) { return func() {}, nil }

// Whoever lost the connection and calls again is not refused because of the call before, which still stores what it
// has read.
func TestACallWaitsForOneWhoseCallerHasGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, owner := newOwnerLimiter(free{}, slog.New(slog.DiscardHandler)), uuid.New()
		call, leave := context.WithCancel(t.Context())
		first, second, third := l.lockOf(call, owner), l.lockOf(t.Context(), owner), l.lockOf(t.Context(), owner)
		if err := first.acquire(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := second.acquire(t.Context()); err == nil {
			t.Fatal("two calls whose callers wait hold the lock")
		}
		leave()
		got := make(chan error, 1)
		go func() { got <- second.acquire(t.Context()) }()
		synctest.Wait()
		select {
		case err := <-got:
			t.Fatalf("it did not wait: %v", err)
		default:
		}
		ended, end := context.WithCancel(t.Context())
		end()
		if err := third.acquire(ended); err == nil {
			t.Fatal("acquired while it is held")
		}
		first.release()
		if err := <-got; err != nil {
			t.Fatal(err)
		}
		if err := third.acquire(t.Context()); err == nil {
			t.Fatal("two calls hold the lock")
		}
		second.release()
		if len(l.locked) != 0 || len(l.slots) != 0 {
			t.Errorf("%d locks and %d slots are held", len(l.locked), len(l.slots))
		}
	})
}

// The time to read may end between any two steps, which is no reason to say that others read.
func TestAFreeSlotIsTakenAlsoAtTheEndOfTheTime(t *testing.T) {
	ended, end := context.WithCancel(t.Context())
	end()
	l := newOwnerLimiter(free{}, slog.New(slog.DiscardHandler))
	for range 100 {
		lock := l.lockOf(t.Context(), uuid.New())
		if err := lock.acquire(ended); err != nil {
			t.Fatal(err)
		}
		lock.release()
	}
}
