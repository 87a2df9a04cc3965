package history_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

func TestWhatWasReadOnceIsNotReadAgain(t *testing.T) {
	f := newFixture(t, noRedis)
	rows, _ := f.read(t, 100, 1000)
	f.wantAll(t, rows, 100)
	reads, prices := f.readCount(), f.pricesRequested
	if reads != 100 {
		t.Errorf("%d hours were read", reads)
	}
	for _, size := range []int{1, 3, 7, 1000} {
		rows, pages := f.read(t, 100, size)
		f.wantAll(t, rows, 100)
		if least := (200 + size - 1) / size; pages < least || pages > least+1 {
			t.Errorf("%d pages of %d rows", pages, size)
		}
	}
	if f.readCount() != reads || f.pricesRequested != prices {
		t.Errorf("%d hours were read and %d prices requested again", f.readCount()-reads, f.pricesRequested-prices)
	}
}

func TestAnHourIsReadAgainWhenSomethingMayHaveChanged(t *testing.T) {
	for _, tc := range []struct {
		name  string
		first func(t *testing.T, f *fixture)
		then  func(t *testing.T, f *fixture)
		reads int // of three hours
	}{
		{"nothing has", nil, nil, 0},
		{"the token list has grown", nil, func(t *testing.T, f *fixture) { f.list(t, 3) }, 3},
		{"it was read before its blocks had settled",
			func(_ *testing.T, f *fixture) { f.now = day().Add(2*time.Hour + 14*time.Minute) },
			func(_ *testing.T, f *fixture) { f.now = noon() }, 1},
		{"a token could not be read, ten minutes ago", func(_ *testing.T, f *fixture) { f.secondUnread = true },
			func(_ *testing.T, f *fixture) { f.now = f.now.Add(10 * time.Minute) }, 3},
		{"a token could not be read, just now", func(_ *testing.T, f *fixture) { f.secondUnread = true }, nil, 0},
		{"an hour failed", func(_ *testing.T, f *fixture) {
			f.hourError = func(_ uint64, at time.Time) string {
				if at.Equal(day().Add(time.Hour)) {
					return "no state"
				}
				return ""
			}
		}, nil, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, noRedis)
			if tc.first != nil {
				tc.first(t, f)
			}
			first, _ := f.read(t, 3, 1000)
			before := f.readCount()
			f.hourError = nil
			if tc.then != nil {
				tc.then(t, f)
			}
			second, _ := f.read(t, 3, 1000)
			if got := f.readCount() - before; got != tc.reads {
				t.Errorf("%d hours were read again, want %d", got, tc.reads)
			}
			if len(first) != 6 || len(second) != 6 {
				t.Errorf("%d and %d rows", len(first), len(second))
			}
		})
	}
}

// An hour that can't be had stands among the others, once for each wallet, and
// nothing of it is stored.
func TestAnHourThatFailsIsReturnedAsFailedAndNeverZeroNorLeftOut(t *testing.T) {
	f := newFixture(t, noRedis)
	f.add(t, f.owner, 2, 9) // on a chain whose state is gone
	f.hourError = func(chain uint64, at time.Time) string {
		if chain == 2 || at.Equal(day().Add(50*time.Hour)) {
			return "pruned"
		}
		return ""
	}
	for _, size := range []int{1000, 7, 1} {
		rows, _ := f.read(t, 60, size)
		if len(rows) != 180 {
			t.Fatalf("%d rows in pages of %d", len(rows), size)
		}
		for i, r := range rows {
			hour := day().Add(time.Duration(i/3) * time.Hour)
			w := f.wallets[i%3]
			if !r.Hour.Equal(hour) || r.Wallet.ID != w.ID {
				t.Fatalf("row %d is of %s and %s", i, r.Hour, r.Wallet.ID)
			}
			failed := w.Account.Chain == 2 || i/3 == 50
			if s := r.Wallet.Sync; failed != (s.State == wallet.Failed) || failed != (s.Error == "pruned") ||
				failed != (r.Balance == nil) || failed && s.At != nil {
				t.Fatalf("row %d: %+v, %+v", i, s, r.Balance)
			}
		}
	}
	var stored int
	if err := f.db.Gorm(t.Context()).Raw("SELECT sum(hours) FROM wallet_history").Scan(&stored).Error; err != nil ||
		stored != 118 {
		t.Errorf("%d hours are stored, %v", stored, err)
	}
}

func TestAWalletThatHoldsNothingIsKnown(t *testing.T) {
	f := newFixture(t, noRedis)
	f.add(t, f.owner, 5, 9) // no token of that chain is known
	rows, _ := f.read(t, 3, 1000)
	before := f.readCount()
	again, _ := f.read(t, 3, 1000)
	empty := 0
	for _, r := range append(rows, again...) {
		if r.Balance == nil && r.Wallet.Sync.State == wallet.Synced && r.Wallet.Sync.At != nil {
			empty++
		}
	}
	if len(rows) != 9 || len(again) != 9 || empty != 6 || f.readCount() != before {
		t.Errorf("%d and %d rows, %d without balances, %d reads more", len(rows), len(again), empty,
			f.readCount()-before)
	}
}

func TestAPageEndsBeforeTheHoursOfAChainThatIsUnavailable(t *testing.T) {
	f := newFixture(t, noRedis)
	rows, _ := f.read(t, 48, 1000)
	f.wantAll(t, rows, 48)
	f.chainErr = errs.Unavailable("CHAIN_UNAVAILABLE", "no node answers")
	until := day().Add(100 * time.Hour)
	some, next, err := f.List(t.Context(), f.owner, day(), until, history.Cursor{}, 1000)
	if err != nil || next == nil {
		t.Fatal(err)
	}
	f.wantAll(t, some, 48)
	if _, _, err := f.List(t.Context(), f.owner, day(), until, *next, 1000); !errs.Is(err, errs.KindUnavailable) {
		t.Errorf("of what it lacks: %v", err)
	}
	f.chainErr = nil
	rest, next, err := f.List(t.Context(), f.owner, day(), until, *next, 1000)
	if err != nil || next != nil {
		t.Fatal(next, err)
	}
	f.wantAll(t, append(some, rest...), 100)
}

func TestWhatACallReadStaysWhenItsCallerGoes(t *testing.T) {
	f := newFixture(t, noRedis)
	ctx, cancel := context.WithCancel(t.Context())
	f.during = func(_ context.Context, n int) {
		if n == 20 {
			cancel()
		}
	}
	if _, _, err := f.List(ctx, f.owner, day(), day().Add(40*time.Hour), history.Cursor{}, 1000); err == nil {
		t.Error("the caller went, and was answered")
	}
	f.during = nil
	rows, _ := f.read(t, 40, 1000)
	f.wantAll(t, rows, 40)
	if got := f.readCount(); got != 20+21 { // the one under way when the caller went is read again
		t.Errorf("%d hours were read in all", got)
	}
}

func TestACallReadsForItsTimeOnlyAndTheNextGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t, noRedis)
	calls := 0
	f.during = func(ctx context.Context, n int) {
		if n%15 == 0 { // the chain is slow: the call's time is up
			<-ctx.Done()
		}
	}
	var rows []history.Row
	var after history.Cursor
	for {
		ctx, cancel := context.WithTimeout(t.Context(), littleTime)
		some, next, err := f.List(ctx, f.owner, day(), day().Add(40*time.Hour), after, 1000)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		calls++
		rows = append(rows, some...)
		if next == nil {
			break
		}
		after = *next
	}
	f.wantAll(t, rows, 40)
	if calls < 3 {
		t.Errorf("%d calls", calls)
	}
}

// Hours that fail are not stored, and yet a call that has time for a few of
// them gets on.
func TestACallMakesProgressThroughHoursThatFailSlowly(t *testing.T) {
	t.Parallel()
	f := newFixture(t, noRedis)
	f.hourError = func(uint64, time.Time) string { return "pruned" }
	f.during = func(ctx context.Context, n int) {
		if n%20 == 0 {
			<-ctx.Done()
		}
	}
	hours := map[time.Time]bool{}
	after := history.Cursor{}
	for calls := 1; ; calls++ {
		ctx, cancel := context.WithTimeout(t.Context(), littleTime)
		some, next, err := f.List(ctx, f.owner, day(), day().Add(40*time.Hour), after, 1000)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range some {
			hours[r.Hour] = true
		}
		if next == nil {
			break
		}
		if *next == after || calls > 10 {
			t.Fatalf("call %d got no further than %+v", calls, *next)
		}
		after = *next
	}
	if len(hours) != 40 {
		t.Errorf("%d hours", len(hours))
	}
}

func TestAnotherOwnersHistoryIsNotFound(t *testing.T) {
	f := newFixture(t, noRedis)
	f.read(t, 3, 1000)
	rows, next, err := f.List(t.Context(), uuid.New(), day(), day().Add(3*time.Hour), history.Cursor{}, 1000)
	if len(rows) != 0 || next != nil || err != nil {
		t.Error(rows, next, err)
	}
	mallory := uuid.New()
	f.add(t, mallory, 1, 1) // the same account
	f.hourError = func(uint64, time.Time) string { return "not theirs" }
	rows, _, err = f.List(t.Context(), mallory, day(), day().Add(3*time.Hour),
		history.Cursor{Hour: day().Unix(), Wallet: f.wallets[0].ID}, 1000)
	if err != nil || len(rows) != 3 && len(rows) != 2 {
		t.Fatal(rows, err)
	}
	for _, r := range rows {
		if r.Wallet.Owner != mallory || r.Balance != nil {
			t.Errorf("row %+v", r)
		}
	}
}

func TestAWalletThatIsDeletedMeanwhileIsPassedOver(t *testing.T) {
	f := newFixture(t, noRedis)
	f.during = func(ctx context.Context, n int) {
		if n == 1 {
			if _, err := f.all.Delete(context.WithoutCancel(ctx), f.owner, f.wallets[0].ID, 0, nil); err != nil {
				t.Error(err)
			}
		}
	}
	rows, _ := f.read(t, 3, 1000)
	f.wallets = f.wallets[1:]
	f.wantAll(t, rows, 3)
	f.wantAll(t, mustRead(t, f, 3), 3)
}

func mustRead(t *testing.T, f *fixture, hours int) []history.Row {
	t.Helper()
	rows, _ := f.read(t, hours, 1000)
	return rows
}

func TestOneCallAtATimeReadsAnOwnersHistory(t *testing.T) {
	for _, tc := range []struct {
		name   string
		redis  func(t *testing.T) string
		second func(f *fixture) *history.Service
		held   bool
	}{
		{"of one process", func(t *testing.T) string { return testkit.Redis(t).URL() },
			func(f *fixture) *history.Service { return f.Service }, true},
		{"of two", func(t *testing.T) string { return testkit.Redis(t).URL() }, (*fixture).replica, true},
		{"of one process without Redis", func(*testing.T) string { return noRedis },
			func(f *fixture) *history.Service { return f.Service }, true},
		{"but of two without Redis both do", func(*testing.T) string { return noRedis }, (*fixture).replica, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFixture(t, tc.redis(t))
			second := tc.second(f)
			until := day().Add(3 * time.Hour)
			tried := false
			f.during = func(_ context.Context, n int) {
				if n != 1 {
					return
				}
				tried = true
				_, _, err := second.List(t.Context(), f.owner, day(), until, history.Cursor{}, 1000)
				e := errs.As(err)
				if held := e != nil && e.Kind == errs.KindExhausted && e.Reason == "HISTORY_READ_UNDER_WAY" &&
					e.RetryAfter > 0; held != tc.held {
					t.Errorf("answered %v", err)
				}
				other := uuid.New()
				f.add(t, other, 1, 7)
				if _, _, err := second.List(t.Context(), other, day(), until, history.Cursor{}, 1000); err != nil {
					t.Errorf("another owner has to wait: %v", err)
				}
			}
			f.wantAll(t, mustRead(t, f, 3), 3)
			if !tried {
				t.Fatal("nothing was read")
			}
			f.wantAll(t, mustRead(t, f, 4), 4) // the turn is given back
		})
	}
}

func TestAProcessReadsAFewHistoriesConcurrently(t *testing.T) {
	t.Parallel()
	f := newFixture(t, noRedis)
	somebody := func() uuid.UUID { return f.add(t, uuid.New(), 1, 7).Owner }
	ask := func(ctx context.Context, owner uuid.UUID) error {
		_, _, err := f.List(ctx, owner, day(), day().Add(time.Hour), history.Cursor{}, 1000)
		return err
	}
	release, done := make(chan struct{}), make(chan error, 4)
	f.during = func(context.Context, int) { <-release }
	for range 4 {
		owner := somebody()
		go func() { done <- ask(context.WithoutCancel(t.Context()), owner) }()
	}
	testkit.Eventually(t, time.Minute, func() bool { return f.readCount() == 4 })
	ctx, cancel := context.WithTimeout(t.Context(), littleTime)
	defer cancel()
	if e := errs.As(ask(ctx, somebody())); e == nil || e.Kind != errs.KindExhausted ||
		e.Reason != "HISTORY_READ_UNDER_WAY" {
		t.Errorf("the fifth: %v", e)
	}
	close(release)
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if err := ask(t.Context(), somebody()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
