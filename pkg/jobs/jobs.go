// Package jobs runs work on a schedule, once per tick over all replicas.
// gocron wakes it; a ledger in Postgres decides.
//
// Promise: what is due follows from the ledger and the database's clock, so
// replicas with wrong clocks agree. A tick is claimed by one replica, and of
// one job and shard one run is under way. A run that fails is tried again,
// also after a restart. A run whose process died is taken over once its lease
// has ended: at once the first time, after the job's backoff from then on.
// Redis is asked first only to spare the database; without it the ledger is
// enough. No tick is dropped silently: one that never runs is a skipped row
// of the ledger, or counted by one.
//
// A tick is a minute whose civil time in the schedule's zone matches. Where the
// clocks go forward the hour that doesn't exist has no tick; where they go back
// the hour that comes twice has its ticks twice. A daily job is best set outside
// those hours, or in UTC.
//
// Limits: a run happens at least once: a replica that is paused past its
// lease, or a Run that doesn't return when its context ends, may still work
// while another does. Effects happen once when they are written in the
// transaction that calls [Run.Commit]; effects elsewhere must bear to be
// repeated, or be told apart by [Run.Sequence]. A run is tried again without
// end, but for a newer tick's sake. When the database's clock jumps back, ticks
// wait until it has caught up; a change of a job's schedule counts from the
// job's last tick.
//
// Source: PostgreSQL documentation, "SELECT: SKIP LOCKED" and "WITH: Data-
// Modifying Statements"; Gray and Cheriton, "Leases" (1989); crontab(5) as
// robfig/cron reads it.
package jobs

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/go-co-op/gocron/v2"
	"github.com/robfig/cron/v3"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/postgres"
)

// Policy says what becomes of ticks that nobody was there to run. With each,
// what it doesn't run is recorded as skipped; and whenever a tick comes due,
// runs that still wait for a slot or for another attempt are given up, as
// skipped, unless theirs is among the newest ticks that the policy keeps.
type Policy int

const (
	// CatchUpLast keeps the newest tick.
	CatchUpLast Policy = iota
	// CatchUpSkip keeps the newest tick, and not even that when it is first
	// seen more than one Lease and one Poll late by the database's clock.
	CatchUpSkip
	// CatchUpAll keeps the newest Job.CatchUpMost ticks and runs them oldest
	// first.
	CatchUpAll
)

// Job is work with a schedule.
type Job struct {
	Name string // names it in the ledger, metrics and logs
	// five fields, or a descriptor such as @hourly or @every 90s, in UTC unless it begins with CRON_TZ=zone;
	// "" only by Trigger
	Cron    string
	Shards  int           // runs per tick, each given its number; 0 is 1
	Timeout time.Duration // of one run; 0 is 10 min
	// a run begins at its tick plus a random part of this, which should be well under the time between ticks
	Jitter  time.Duration
	CatchUp Policy
	// CatchUpMost is how many ticks CatchUpAll keeps; 0 is 100.
	CatchUpMost int
	// Backoff is how long to wait after the attempt-th failure, from 1; nil
	// is min(1 h, (attempt+1) · 60 s).
	Backoff func(attempt int) time.Duration
	Run     func(context.Context, *Run) error
}

// Options says how a Runner works. Zero values take the defaults named.
type Options struct {
	Name        string        // in claimed_by; host, process id and a random part
	Poll        time.Duration // 500 ms: how often the ledger is asked
	Lease       time.Duration // 15 s: how long a dead replica's run stays its own
	Concurrency int           // 8: runs at once in this process; a job keeps its slot while more of it is due
	// Locker spares the database: replicas that find a job's lock taken leave
	// the tick alone. Optional.
	Locker *lock.Locker
	Log    *slog.Logger
}

// Runner claims and runs jobs in one process. It is safe for concurrent use.
type Runner struct {
	o       Options
	ledger  ledger
	now     func() time.Time // for durations alone, never to decide what is due
	metrics metrics

	mu     sync.Mutex
	jobs   map[string]*job
	waker  gocron.Scheduler // once started
	closed bool

	stopping sync.Once
	stopped  chan struct{} // closed when gocron has answered

	polling sync.Mutex
	away    atomic.Bool // the last poll failed
	slots   chan struct{}
	runs    sync.WaitGroup
	ctx     context.Context //nolint:containedctx // of every run; ended by Shutdown
	cancel  context.CancelFunc
}

type job struct {
	Job
	schedule cron.Schedule // nil: by Trigger only
}

// New makes a Runner on a database that has [Schema].
func New(db *postgres.DB, o Options) *Runner {
	o.Poll = cmp.Or(o.Poll, 500*time.Millisecond)
	o.Lease = cmp.Or(o.Lease, 15*time.Second)
	o.Concurrency = cmp.Or(o.Concurrency, 8)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Name == "" {
		host, _ := os.Hostname()
		o.Name = fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:6])
	}
	r := &Runner{o: o, ledger: ledger{db, "clock_timestamp()", claimQuery}, now: time.Now, metrics: newMetrics(),
		jobs: map[string]*job{}, slots: make(chan struct{}, o.Concurrency), stopped: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// Add registers a job, also after Start. It fails when the job is incomplete,
// its schedule can't be read or never comes due, or its name is taken.
func (r *Runner) Add(j Job) error {
	if j.Name == "" || j.Run == nil {
		return errors.New("jobs: a job needs a name and something to run")
	}
	if !utf8.ValidString(j.Name) || strings.ContainsRune(j.Name, 0) {
		return fmt.Errorf("jobs: %q is no name that the ledger can keep", j.Name)
	}
	if min(j.Shards, j.CatchUpMost) < 0 || min(j.Timeout, j.Jitter) < 0 {
		return fmt.Errorf("jobs: %s has a number below zero", j.Name)
	}
	added := &job{Job: j}
	if j.Cron != "" {
		var err error
		if added.schedule, err = parse(j.Cron); err != nil {
			return fmt.Errorf("jobs: schedule of %s: %w", j.Name, err)
		}
	}
	added.Shards = cmp.Or(j.Shards, 1)
	added.Timeout = cmp.Or(j.Timeout, 10*time.Minute)
	added.CatchUpMost = cmp.Or(j.CatchUpMost, 100)
	if j.CatchUp != CatchUpAll {
		added.CatchUpMost = 1
	}
	if j.Backoff == nil {
		added.Backoff = func(attempt int) time.Duration { return min(time.Hour, time.Duration(attempt+1)*time.Minute) }
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.jobs[j.Name] != nil {
		return fmt.Errorf("jobs: %s is added twice", j.Name)
	}
	r.jobs[j.Name] = added
	return nil
}

// Start begins to claim. The database may be away; claiming begins when it is
// there.
func (r *Runner) Start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.waker != nil || r.closed {
		return errors.New("jobs: started twice, or after Shutdown")
	}
	waker, err := gocron.NewScheduler(gocron.WithLocation(time.UTC))
	if err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	_, err = waker.NewJob(gocron.DurationJob(r.o.Poll), gocron.NewTask(r.wake),
		gocron.WithSingletonMode(gocron.LimitModeReschedule),
		gocron.WithStartAt(gocron.WithStartImmediately()))
	if err != nil {
		return fmt.Errorf("jobs: %w", errors.Join(err, waker.Shutdown()))
	}
	r.waker = waker
	waker.Start()
	return nil
}

// Trigger puts one more run of a job into the ledger, at the database's now,
// for any replica to claim. It fails with [ErrUnknown] for a job that was not
// added to this Runner.
func (r *Runner) Trigger(ctx context.Context, name string) error {
	r.mu.Lock()
	j := r.jobs[name]
	r.mu.Unlock()
	if j == nil {
		return fmt.Errorf("%w: %s", ErrUnknown, name)
	}
	return r.ledger.trigger(ctx, j)
}

// ErrUnknown says that no job has this name. It is an errs.NotFound.
var ErrUnknown error = errs.NotFound("job")

// Serve starts the Runner and shuts it down when ctx ends, with drain for the
// runs under way.
func (r *Runner) Serve(ctx context.Context, drain time.Duration) error {
	if err := r.Start(); err != nil {
		return err
	}
	<-ctx.Done()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	return r.Shutdown(limit)
}

// Shutdown stops claiming and waits for the runs under way. When ctx ends they
// are cancelled and given two seconds more; what they leave is due again at
// once, for another replica. It may be called again, to wait longer.
func (r *Runner) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	waker := r.waker
	r.closed = true
	r.mu.Unlock()
	if waker != nil {
		r.stop(ctx, waker)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.polling.Lock() // the poll under way has claimed its last
		defer r.polling.Unlock()
		r.runs.Wait()
	}()
	defer r.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	r.cancel()
	select {
	case <-done:
	case <-time.After(2 * time.Second):
	}
	return ctx.Err()
}

// stopTimeout is how long gocron may take to stop. It gives a poll under way
// 10 s, which is longer than pollTimeout lets one take.
const stopTimeout = 15 * time.Second

// stop asks gocron to stop and waits for its answer until ctx ends. Gocron is
// asked once: a second call may find it stopped but not yet marked as stopped,
// and then waits for an answer that was already taken.
func (r *Runner) stop(ctx context.Context, waker gocron.Scheduler) {
	r.stopping.Do(func() {
		go func() {
			defer close(r.stopped)
			limited, cancel := context.WithTimeout(context.Background(), stopTimeout)
			defer cancel()
			_ = waker.ShutdownWithContext(limited) // Shutdown itself waits for a poll under way
		}()
	})
	select {
	case <-r.stopped:
	case <-ctx.Done():
	}
}
