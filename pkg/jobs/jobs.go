// Package jobs runs work on a schedule, once per tick over all replicas. Gocron
// triggers the polls; a ledger in Postgres decides which run is due and who runs
// it.
//
// Promise: what is due follows from the ledger and the database's clock, so
// replicas with wrong clocks agree. A tick is claimed by one replica, and at
// most one run of a job and shard is running. A run that fails is retried, also
// after a restart. A run whose process died is claimed by another replica once
// its lease has expired: at once after its first crash, after the job's backoff
// from the second on. A Redis lock saves queries and is not needed for any of
// this. No tick is dropped silently: one that never runs is recorded as a skipped
// row of the ledger, singly or in a row that counts several.
//
// A tick is a minute whose civil time in the schedule's zone matches. Where the
// clocks go forward the hour that doesn't exist has no tick; where they go back
// the hour that comes twice has its ticks twice. A daily job is best set outside
// those hours, or in UTC.
//
// Limits: a run happens at least once: a replica that is paused past its lease,
// or a Run that doesn't return when its context ends, may still work while
// another replica does. Effects happen once when they are written in the
// transaction that calls [Run.Commit]; effects elsewhere must be idempotent or be
// fenced by [Run.Sequence]. A run is retried until it succeeds or a newer tick
// supersedes it. When the database's clock jumps back, ticks wait until it has
// caught up. A changed schedule applies from the job's last tick on.
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
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/postgres"
)

// CatchUpPolicy says how many of a job's newest ticks may run. When a tick becomes
// due, every older one that is no longer among them and isn't running is skipped:
// whether it was missed in an outage, waits for a slot or waits for a retry. Runs
// written by Trigger are never skipped.
type CatchUpPolicy int

const (
	// CatchUpLast runs the newest tick only.
	CatchUpLast CatchUpPolicy = iota
	// CatchUpSkip runs the newest tick only, and skips it too if the ledger is
	// polled more than Lease + PollInterval late for it, by the database's clock.
	CatchUpSkip
	// CatchUpAll runs the newest Job.MaxCatchUp ticks, oldest first.
	CatchUpAll
)

// Job is work with a schedule.
type Job struct {
	// Name identifies the job in the ledger, metrics and logs.
	Name string
	// Cron is five fields, or a descriptor such as @hourly or @every 90s, in UTC
	// unless it begins with CRON_TZ=zone. A job with "" runs by Trigger only.
	Cron    string
	Shards  int           // runs per tick, numbered from 0; 0 means 1
	Timeout time.Duration // of one run; 0 means 10 min
	// Jitter delays each run by a random part of it, so that not all jobs of an
	// hour begin at once. Keep it well under the time between two ticks.
	Jitter  time.Duration
	CatchUp CatchUpPolicy
	// MaxCatchUp is how many of the newest ticks CatchUpAll runs; 0 means 100.
	MaxCatchUp int
	// Backoff is the wait before the next attempt after the attempt-th failure,
	// from 1; nil means min(1 h, (attempt+1) · 60 s).
	Backoff func(attempt int) time.Duration
	Run     func(context.Context, *Run) error
}

// Options of a Runner. Zero values mean the defaults named last.
type Options struct {
	Name         string        // stored in claimed_by; host, process id and a random part
	PollInterval time.Duration // between two reads of the ledger; 500 ms
	// Lease is how long a claim lasts without renewal; a dead replica's runs wait
	// that long; 15 s.
	Lease time.Duration
	// Concurrency is how many runs this process executes at once. A job keeps its
	// slot while more runs of it are due; 8.
	Concurrency int
	// Locker, when set, saves queries: a replica that finds a job's lock held
	// doesn't ask the database for a run.
	Locker *lock.Locker
	Log    *slog.Logger // nil means none
}

// Runner claims and runs jobs in one process. It is safe for concurrent use.
type Runner struct {
	o       Options
	ledger  ledger
	now     func() time.Time // measures durations only; what is due is decided by the database's clock
	metrics metrics

	mu        sync.Mutex
	jobs      map[string]*job
	scheduler gocron.Scheduler // nil until Start
	closed    bool

	stopping sync.Once
	stopped  chan struct{} // closed when gocron has shut down

	polling    sync.Mutex
	pollFailed atomic.Bool // whether the last poll failed
	slots      chan struct{}
	runs       sync.WaitGroup
	ctx        context.Context //nolint:containedctx // of every run; ended by Shutdown
	cancel     context.CancelFunc
}

type job struct {
	Job
	schedule cron.Schedule // nil: by Trigger only
}

// New makes a Runner on a database that has [Schema].
func New(db *postgres.DB, o Options) *Runner {
	o.PollInterval = cmp.Or(o.PollInterval, 500*time.Millisecond)
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

// Add registers a job, also after Start. It fails when a field is missing or out
// of range, the schedule is invalid or matches no minute, or a job of this name
// was added before.
func (r *Runner) Add(j Job) error {
	if j.Name == "" || j.Run == nil {
		return errors.New("jobs: Job.Name and Job.Run are required")
	}
	if !utf8.ValidString(j.Name) || strings.ContainsRune(j.Name, 0) {
		return fmt.Errorf("jobs: Job.Name %q must be valid UTF-8 without NUL", j.Name)
	}
	if min(j.Shards, j.MaxCatchUp) < 0 || min(j.Timeout, j.Jitter) < 0 {
		return fmt.Errorf("jobs: %s: Shards, MaxCatchUp, Timeout and Jitter must not be negative", j.Name)
	}
	added := &job{Job: j}
	if j.Cron != "" {
		var err error
		if added.schedule, err = parse(j.Cron); err != nil {
			return fmt.Errorf("jobs: %s: Cron %q: %w", j.Name, j.Cron, err)
		}
	}
	added.Shards = cmp.Or(j.Shards, 1)
	added.Timeout = cmp.Or(j.Timeout, 10*time.Minute)
	added.MaxCatchUp = cmp.Or(j.MaxCatchUp, 100)
	if j.CatchUp != CatchUpAll {
		added.MaxCatchUp = 1
	}
	if j.Backoff == nil {
		added.Backoff = defaultBackoff
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.jobs[j.Name] != nil {
		return fmt.Errorf("jobs: %s was added before", j.Name)
	}
	r.jobs[j.Name] = added
	r.metrics.begin(j.Name)
	return nil
}

// Start begins to poll. It doesn't need the database: polls fail until it can be
// reached.
func (r *Runner) Start() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.scheduler != nil || r.closed {
		return errors.New("jobs: Start was called twice or after Shutdown")
	}
	scheduler, err := gocron.NewScheduler(gocron.WithLocation(time.UTC))
	if err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	_, err = scheduler.NewJob(gocron.DurationJob(r.o.PollInterval), gocron.NewTask(r.scheduledPoll),
		gocron.WithSingletonMode(gocron.LimitModeReschedule),
		gocron.WithStartAt(gocron.WithStartImmediately()))
	if err != nil {
		return fmt.Errorf("jobs: %w", errors.Join(err, scheduler.Shutdown()))
	}
	r.scheduler = scheduler
	scheduler.Start()
	return nil
}

// Trigger writes a run of a job to the ledger that is due now and that any
// replica may claim. It fails with [ErrUnknown] for a job that was not added to
// this Runner.
func (r *Runner) Trigger(ctx context.Context, name string) error {
	return r.TriggerInTx(ctx, name, nil)
}

// TriggerInTx is Trigger with a function that runs in the transaction that writes
// the run, before it: a check of the caller, or an audit record. Its error undoes
// the transaction and is returned. It may run more than once; only the last time is
// committed.
func (r *Runner) TriggerInTx(ctx context.Context, name string, also func(tx *gorm.DB) error) error {
	r.mu.Lock()
	j := r.jobs[name]
	r.mu.Unlock()
	if j == nil {
		return fmt.Errorf("%w: %s", ErrUnknown, name)
	}
	return r.ledger.insertManual(ctx, j, also)
}

// ErrUnknown is returned for a job that was not added. It is an errs.NotFound.
var ErrUnknown error = errs.NotFound("job")

// Serve starts the Runner and shuts it down when ctx ends. Runs in progress get
// drain to finish.
func (r *Runner) Serve(ctx context.Context, drain time.Duration) error {
	if err := r.Start(); err != nil {
		return err
	}
	<-ctx.Done()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	return r.Shutdown(limit)
}

// Shutdown stops claiming and waits for runs in progress. When ctx ends it cancels
// them, waits up to two seconds more and returns ctx's error; a cancelled run is
// due at once, for another replica. A further call waits again.
func (r *Runner) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	scheduler := r.scheduler
	r.closed = true
	r.mu.Unlock()
	if scheduler != nil {
		r.stopScheduler(ctx, scheduler)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.polling.Lock() // a poll that is running may still start runs
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

// stopTimeout bounds gocron's shutdown, which waits up to 10 s for a poll.
const stopTimeout = 15 * time.Second

// stopScheduler stops gocron and waits until it has shut down or ctx ends. It
// calls gocron's shutdown once: a second call can find gocron stopped but not yet
// marked as such, and then waits for a signal that the first call has consumed. It
// calls it when no poll runs: gocron waits for one in a loop that keeps a processor busy.
func (r *Runner) stopScheduler(ctx context.Context, scheduler gocron.Scheduler) {
	r.stopping.Do(func() {
		go func() {
			defer close(r.stopped)
			r.polling.Lock()
			r.polling.Unlock() //nolint:staticcheck // from here on polls have nothing to do
			limited, cancel := context.WithTimeout(context.Background(), stopTimeout)
			defer cancel()
			_ = scheduler.ShutdownWithContext(limited) // Shutdown waits for polls itself
		}()
	})
	select {
	case <-r.stopped:
	case <-ctx.Done():
	}
}
