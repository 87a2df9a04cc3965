// Package jobs runs work on a schedule, once per tick over all replicas.
// gocron wakes it; a ledger in Postgres decides.
//
// Promise: what is due follows from the ledger and the database's clock, so
// replicas with wrong clocks agree. A tick is claimed by one replica, and of
// one job and shard one run is under way. A run that fails is tried again,
// also after a restart; a run whose replica died is taken over once its lease
// has ended. Redis is asked first only to spare the database; without it the
// ledger is enough.
//
// Limits: a run happens at least once: a replica that is paused past its lease
// may still work while another does. Effects happen once when they are written
// in the transaction that calls [Run.Commit]; effects elsewhere must bear to
// be repeated, or be told apart by [Run.Sequence].
//
// Source: PostgreSQL documentation, "SELECT: SKIP LOCKED" and "INSERT: ON
// CONFLICT"; crontab(5) as robfig/cron reads it.
package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/robfig/cron/v3"

	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/postgres"
)

// Policy says what becomes of ticks that nobody was there to run.
type Policy int

const (
	// CatchUpLatest runs the newest missed tick and skips the older ones, and
	// gives up retrying a tick once the next is due.
	CatchUpLatest Policy = iota
	// CatchUpAll runs every missed tick, oldest first.
	CatchUpAll
)

// Job is work with a schedule.
type Job struct {
	Name    string        // names it in the ledger, metrics and logs
	Cron    string        // five fields or a descriptor such as @hourly, in UTC unless CRON_TZ= says otherwise; "" only by Trigger
	Shards  int           // runs per tick, each given its number; 0 is 1
	Timeout time.Duration // of one run; 0 is 10 min
	Jitter  time.Duration // a run begins at its tick plus a random part of this
	CatchUp Policy
	// Backoff is how long to wait after the attempt-th failure, from 1; nil
	// is min(1 h, (attempt+1) · 60 s).
	Backoff func(attempt int) time.Duration
	Run     func(context.Context, *Run) error
}

// Options says how a Runner works. Zero values take the defaults named.
type Options struct {
	Name        string        // in claimed_by; host, process id and a random part
	Poll        time.Duration // 1 s: how often the ledger is asked
	Lease       time.Duration // 15 s: how long a dead replica's run stays its own
	Concurrency int           // 8: runs at once in this process
	// Locker spares the database: replicas that find a job's lock taken leave
	// the tick alone. Optional.
	Locker *lock.Locker
	Log    *slog.Logger
}

// Runner claims and runs jobs in one process. It is safe for concurrent use.
type Runner struct {
	o       Options
	ledger  ledger
	waker   gocron.Scheduler
	metrics metrics

	mu      sync.Mutex
	jobs    map[string]*job
	started bool
	closed  bool
	away    bool // the last poll failed

	polling chan struct{} // one poll at a time
	slots   chan struct{}
	runs    sync.WaitGroup
	ctx     context.Context //nolint:containedctx // of every run; ended by Shutdown
	cancel  context.CancelCauseFunc
}

type job struct {
	Job
	schedule cron.Schedule // nil: by Trigger only
	since    time.Time     // by the database's clock; without rows, ticks after this are due
}

var errShutdown = errors.New("jobs: shutting down")

// New makes a Runner on a database that has [Schema].
func New(db *postgres.DB, o Options) (*Runner, error) {
	if o.Poll == 0 {
		o.Poll = time.Second
	}
	if o.Lease == 0 {
		o.Lease = 15 * time.Second
	}
	if o.Concurrency == 0 {
		o.Concurrency = 8
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Name == "" {
		host, _ := os.Hostname()
		o.Name = fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:6])
	}
	waker, err := gocron.NewScheduler(gocron.WithLocation(time.UTC), gocron.WithStopTimeout(time.Second))
	if err != nil {
		return nil, fmt.Errorf("jobs: %w", err)
	}
	r := &Runner{o: o, ledger: newLedger(db), waker: waker, metrics: newMetrics(), jobs: map[string]*job{},
		slots: make(chan struct{}, o.Concurrency), polling: make(chan struct{}, 1)}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	return r, nil
}

// Add registers a job. It fails when the job is incomplete, its schedule can't
// be read, or its name is taken.
func (r *Runner) Add(j Job) error {
	if j.Name == "" || j.Run == nil {
		return errors.New("jobs: a job needs a name and something to run")
	}
	if j.Shards == 0 {
		j.Shards = 1
	}
	if j.Timeout == 0 {
		j.Timeout = 10 * time.Minute
	}
	if j.Backoff == nil {
		j.Backoff = func(attempt int) time.Duration { return min(time.Hour, time.Duration(attempt+1)*time.Minute) }
	}
	added := &job{Job: j}
	if j.Cron != "" {
		var err error
		if added.schedule, err = cron.ParseStandard(j.Cron); err != nil {
			return fmt.Errorf("jobs: schedule of %s: %w", j.Name, err)
		}
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
	if r.started || r.closed {
		return errors.New("jobs: started twice, or after Shutdown")
	}
	_, err := r.waker.NewJob(gocron.DurationJob(r.o.Poll), gocron.NewTask(r.wake),
		gocron.WithSingletonMode(gocron.LimitModeReschedule),
		gocron.WithStartAt(gocron.WithStartImmediately()))
	if err != nil {
		return fmt.Errorf("jobs: %w", err)
	}
	r.started = true
	r.waker.Start()
	return nil
}

// Trigger puts one more run of a job into the ledger, at the database's now,
// for any replica to claim.
func (r *Runner) Trigger(ctx context.Context, name string) error {
	r.mu.Lock()
	j := r.jobs[name]
	r.mu.Unlock()
	if j == nil {
		return fmt.Errorf("jobs: %w: %s", ErrUnknown, name)
	}
	return r.ledger.trigger(ctx, j)
}

// ErrUnknown says that no job has this name.
var ErrUnknown = errors.New("no such job")

// Shutdown stops claiming and waits for the runs under way. When ctx ends they
// are cancelled and given two seconds more; what they leave is due again at
// once, for another replica.
func (r *Runner) Shutdown(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	stopped := r.waker.Shutdown()
	done := make(chan struct{})
	go func() {
		r.polling <- struct{}{} // the poll under way has claimed its last
		r.runs.Wait()
		close(done)
	}()
	select {
	case <-done:
		r.cancel(errShutdown)
		return stopped
	case <-ctx.Done():
	}
	r.cancel(errShutdown)
	grace := time.NewTimer(2 * time.Second)
	defer grace.Stop()
	select {
	case <-done:
	case <-grace.C:
	}
	return ctx.Err()
}
