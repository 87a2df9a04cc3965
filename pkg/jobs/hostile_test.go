package jobs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-co-op/gocron/v2"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/testkit"
)

type panickyError struct{}

func (panickyError) Error() string { panic("no text") }

type nilError struct{ text string }

func (e *nilError) Error() string { return e.text }

func TestAFailureOfAnySortIsStoredAndTriedAgain(t *testing.T) {
	f := setup(t)
	for name, run := range map[string]func() error{
		"64 MB of text":          func() error { return errors.New(strings.Repeat("é", 32<<20)) },
		"bytes that are no text": func() error { return errors.New("\xff\xfe\x00\x80 boom \x00") },
		"a text cut in a rune":   func() error { return errors.New("a" + strings.Repeat("€", 1000)) },
		"no text":                func() error { return errors.New("") },
		"a text that panics":     func() error { return panickyError{} },
		"a nil of a type":        func() error { return (*nilError)(nil) },
		"a panic":                func() error { panic("boom") },
		"a panic with a panic":   func() error { panic(panickyError{}) },
		"a panic with nil":       func() error { panic(nil) },
		"an index out of range":  func() error { return fmt.Errorf("%d", []int{}[time.Now().Second()+1]) },
		"the goroutine's end":    func() error { runtime.Goexit(); return nil },
		"log lines":              func() error { return errors.New("x\n{\"level\":\"INFO\"}\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			r := f.runner(Options{Log: slog.New(slog.NewJSONHandler(&log, nil))},
				Job{Name: name, Run: func(context.Context, *Run) error { return run() }})
			if err := r.Trigger(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			f.poll(r)
			records, err := r.Runs(t.Context(), name, nil, 2)
			if err != nil || len(records) != 1 || records[0].State != "due" || records[0].Attempt != 1 ||
				len(records[0].Error) > maxErrorBytes || !utf8.ValidString(records[0].Error) {
				t.Fatalf("%.300v, %v", records, err)
			}
			if n := strings.Count(log.String(), "\n"); n != 1 || log.Len() > 20_000 {
				t.Errorf("%d lines, %d bytes of log", n, log.Len())
			}
			if len(r.slots) != 0 {
				t.Error("the slot is still taken")
			}
		})
	}
}

func TestABackoffOfAnySortIsSurvived(t *testing.T) {
	f := setup(t)
	for name, c := range map[string]struct {
		backoff func(int) time.Duration
		again   bool // at once
	}{
		"that panics": {func(int) time.Duration { panic("no idea") }, false},
		"below zero":  {func(int) time.Duration { return -time.Hour }, true},
		"for ever":    {func(int) time.Duration { return 1<<63 - 1 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			attempts := 0
			r := f.runner(Options{}, Job{Name: name, Backoff: c.backoff, Run: func(context.Context, *Run) error {
				if attempts++; attempts < 3 {
					return errors.New("boom")
				}
				return nil
			}})
			if err := r.Trigger(t.Context(), name); err != nil {
				t.Fatal(err)
			}
			f.poll(r)
			if again := attempts == 3; again != c.again {
				t.Errorf("%d attempts", attempts)
			}
		})
	}
}

func TestAJobThatIsGoneLeavesTheOthersAlone(t *testing.T) {
	f := setup(t)
	old := f.runner(Options{}, Job{Name: "removed", Cron: "* * * * *",
		Run: func(context.Context, *Run) error { return errors.New("boom") }})
	f.forward(time.Minute)
	f.poll(old)
	var ran atomic.Int64
	r := f.runner(Options{}, Job{Name: "j", Cron: "* * * * *",
		Run: func(context.Context, *Run) error { ran.Add(1); return nil }})
	f.forward(time.Hour)
	f.poll(r)
	if ran.Load() != 1 || f.count(`SELECT count(*) FROM job_runs WHERE job = 'removed' AND state = 'due'`) != 1 {
		t.Errorf("%d runs, or the other's row was touched", ran.Load())
	}
	if err := r.Trigger(t.Context(), "removed"); !errors.Is(err, ErrUnknown) {
		t.Errorf("triggered a job that only another replica knows: %v", err)
	}
}

func TestTheDatabasesClockMayJump(t *testing.T) {
	f := setup(t)
	started, cause := make(chan struct{}, 10), make(chan error, 10)
	r := f.runner(Options{Lease: 3 * time.Second},
		Job{Name: "j", Cron: "* * * * *", CatchUp: CatchUpAll, Run: func(ctx context.Context, run *Run) error {
			started <- struct{}{}
			if run.Attempt == 1 && run.ScheduledAt.Minute() == 1 {
				<-ctx.Done()
				cause <- context.Cause(ctx)
				return ctx.Err()
			}
			return nil
		}})
	f.forward(time.Minute)
	if err := r.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, started, time.Minute)
	f.forward(20 * time.Second) // the lease seems to be over, though its holder lives
	if err := r.poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, started, time.Minute)
	if err := testkit.Receive(t, cause, time.Minute); !errors.Is(err, ErrLost) {
		t.Errorf("the one that was taken over ended with %v", err)
	}
	f.wait(r)
	f.forward(-10 * time.Minute)
	for range 9 {
		f.poll(r)
		f.forward(time.Minute)
	}
	if n := f.count(`SELECT count(*) FROM job_runs`); n != 1 {
		t.Errorf("%d rows after the clock went back, want 1: no tick twice", n)
	}
	f.forward(2 * time.Minute)
	f.poll(r)
	if n := f.count(`SELECT count(*) FROM job_runs WHERE state = 'done' AND attempt <= 2`); n != 2 {
		t.Errorf("%d ticks done once the clock has caught up, want 2", n)
	}
}

func TestAJobMayBeAddedAfterStart(t *testing.T) {
	f := setup(t)
	r := New(f.DB.DB, Options{PollInterval: 5 * time.Millisecond})
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	if r.Start() == nil {
		t.Error("started twice")
	}
	ran := make(chan struct{})
	if err := r.Add(Job{Name: "j", Run: func(context.Context, *Run) error { close(ran); return nil }}); err != nil {
		t.Fatal(err)
	}
	if r.Add(Job{Name: "j", Run: func(context.Context, *Run) error { return nil }}) == nil {
		t.Error("added twice")
	}
	if err := r.Trigger(t.Context(), "j"); err != nil {
		t.Fatal(err)
	}
	testkit.Receive(t, ran, time.Minute)
	for range 2 {
		f.shutdown(r)
	}
	if r.Start() == nil {
		t.Error("started after Shutdown")
	}
}

func TestJobsThatAreRefused(t *testing.T) {
	run := func(context.Context, *Run) error { return nil }
	for name, j := range map[string]Job{
		"no name": {Run: run}, "nothing to run": {Name: "j"}, "a name with a NUL": {Name: "a\x00", Run: run},
		"a name that is no text": {Name: "\xff", Run: run},
		"shards below zero":      {Name: "j", Shards: -1, Run: run},
		"a timeout below zero":   {Name: "j", Timeout: -1, Run: run},
		"a jitter below zero":    {Name: "j", Jitter: -1, Run: run},
		"a cap below zero":       {Name: "j", MaxCatchUp: -1, Run: run},
	} {
		if New(nil, Options{}).Add(j) == nil {
			t.Errorf("a job with %s is taken", name)
		}
	}
}

// TestShutdownDuringPollsLeavesNothingRunning stops runners at any moment of
// their polls.
func TestShutdownDuringPollsLeavesNothingRunning(t *testing.T) {
	f := setup(t)
	rounds := testkit.Size(20, 200)
	for i := range rounds {
		var running atomic.Int64
		r := New(f.DB.DB, Options{PollInterval: time.Millisecond})
		if err := r.Add(Job{Name: "j", Cron: "@every 1s", Shards: 3, Run: func(context.Context, *Run) error {
			running.Add(1)
			defer running.Add(-1)
			runtime.Gosched()
			return nil
		}}); err != nil {
			t.Fatal(err)
		}
		if err := r.Start(); err != nil {
			t.Fatal(err)
		}
		if err := r.Trigger(t.Context(), "j"); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		time.AfterFunc(time.Duration(i%10)*3*time.Millisecond, func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			done <- r.Shutdown(ctx)
		})
		if err := testkit.Receive(t, done, time.Minute); err != nil {
			t.Error(err)
		}
		if n := running.Load(); n != 0 {
			t.Errorf("%d runs after Shutdown", n)
		}
	}
	if n := f.count(`SELECT count(*) FROM job_runs WHERE state = 'running'`); n != 0 {
		t.Errorf("%d runs still claimed after %d shutdowns", n, rounds)
	}
	testkit.Figure(t, "%d shutdowns amid polls: nothing left claimed or running", rounds)
}

// answersOnce is gocron whose second shutdown finds no answer, as it may when
// it comes just after the first.
type answersOnce struct {
	gocron.Scheduler
	calls atomic.Int64
}

func (s *answersOnce) ShutdownWithContext(ctx context.Context) error {
	if s.calls.Add(1) > 1 {
		<-ctx.Done()
		return ctx.Err()
	}
	return s.Scheduler.ShutdownWithContext(ctx)
}

func TestASecondShutdownDoesNotWaitForASecondAnswerOfGocron(t *testing.T) {
	r := New(setup(t).DB.DB, Options{})
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	r.scheduler = &answersOnce{Scheduler: r.scheduler}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		begin := time.Now()
		if err := r.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		cancel()
		if took := time.Since(begin); took > patience/2 {
			t.Errorf("Shutdown took %s", took)
		}
	}
}

// TestATransactionThatIsRolledBackAfterCommitIsTriedAgain: what Commit marked
// goes with the effects.
func TestATransactionThatIsRolledBackAfterCommitIsTriedAgain(t *testing.T) {
	f := setup(t)
	r := f.runner(Options{}, Job{Name: "j", Backoff: func(int) time.Duration { return 0 },
		Run: func(ctx context.Context, run *Run) error {
			return postgres.InTx(ctx, f.DB.DB, func(tx *gorm.DB) error {
				if err := run.Commit(tx); err != nil {
					return err
				}
				if run.Attempt == 1 {
					return errors.New("changed its mind")
				}
				return tx.Exec(`INSERT INTO effects VALUES ('j', now(), 0, ?)`, run.Attempt).Error
			})
		}})
	if err := r.Trigger(t.Context(), "j"); err != nil {
		t.Fatal(err)
	}
	f.poll(r)
	if n := f.count(`SELECT count(*) FROM effects WHERE attempt = 2`); n != 1 ||
		f.count(`SELECT count(*) FROM effects`) != 1 {
		t.Errorf("%d effects of the second attempt", n)
	}
}

// stopNoticed is a scheduler that says when it is told to stop.
type stopNoticed struct {
	gocron.Scheduler
	told chan struct{}
}

func (s *stopNoticed) ShutdownWithContext(ctx context.Context) error {
	close(s.told)
	return s.Scheduler.ShutdownWithContext(ctx)
}

// gocron 2.21.2 keeps a processor busy while it waits for a task: for as long as a poll waits for a database that
// doesn't answer, when the runs in progress need the processor to end.
func TestGocronIsToldToStopWhenNoPollRuns(t *testing.T) {
	r := New(setup(t).DB.DB, Options{PollInterval: time.Hour})
	if err := r.Start(); err != nil {
		t.Fatal(err)
	}
	s := &stopNoticed{r.scheduler, make(chan struct{})}
	r.scheduler = s
	r.polling.Lock() // as a poll does
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := r.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Shutdown returned %v while a poll ran", err)
	}
	select {
	case <-s.told:
		t.Error("gocron was told to stop while a poll ran")
	default:
	}
	r.polling.Unlock()
	testkit.Receive(t, s.told, 10*time.Second)
	if err := r.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}
