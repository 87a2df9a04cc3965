package history_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/history"
)

// The feed answers only when the hours after those of its request are being read.
func TestTheNextHoursAreReadWhileThoseBeforeArePriced(t *testing.T) {
	f := newFixture(t, noRedis)
	f.feedWaits = make(chan struct{})
	f.during = func(_ context.Context, n int) {
		if n == 49 {
			close(f.feedWaits)
		}
	}
	rows, _ := f.read(t, 100, 1000)
	f.wantAll(t, rows, 100)
	if got := f.readCount(); got != 100 {
		t.Errorf("%d hours were read for 100", got)
	}
}

// The feed answers only when it is asked for the prices of the next hours too.
func TestTheNextHoursArePricedWhileThoseBeforeAre(t *testing.T) {
	f := newFixture(t, noRedis)
	f.feedWaits = make(chan struct{})
	f.feedAsked = func(n int) {
		if n == 2 {
			close(f.feedWaits)
		}
	}
	rows, _ := f.read(t, 100, 1000)
	f.wantAll(t, rows, 100)
}

// The third and fourth 48 hours are read ahead together.
func TestTwoSpansAreReadAheadAtATime(t *testing.T) {
	f := newFixture(t, noRedis)
	both := make(chan struct{})
	var waiting atomic.Int32
	f.during = func(ctx context.Context, n int) {
		if n <= 96 {
			return
		}
		if waiting.Add(1) == 2 { // a span that waits asks for no other hour
			close(both)
		}
		select {
		case <-both:
		case <-ctx.Done():
		}
	}
	rows, pages := f.read(t, 192, 1000)
	f.wantAll(t, rows, 192)
	if pages != 1 {
		t.Errorf("%d pages", pages)
	}
}

// A page that has no room for the next hours does not read them.
func TestASmallPageReadsNothingAhead(t *testing.T) {
	f := newFixture(t, noRedis)
	rows, next, err := f.List(t.Context(), f.owner, day(), day().Add(200*time.Hour), history.Cursor{}, 10)
	if err != nil || len(rows) != 10 || next == nil {
		t.Fatal(len(rows), next, err)
	}
	if got := f.readCount(); got != 48 {
		t.Errorf("%d hours were read for a page of 10 rows", got)
	}
}

// What is read ahead when the page ends stays, and no later call reads it again.
func TestWhatWasReadAheadIsNotReadAgain(t *testing.T) {
	f := newFixture(t, noRedis)
	rows, pages := f.read(t, 200, 150)
	f.wantAll(t, rows, 200)
	if got := f.readCount(); got != 200 || pages < 3 {
		t.Errorf("%d hours were read for 200, in %d pages", got, pages)
	}
}
