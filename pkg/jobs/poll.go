package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/purserhq/purser/pkg/lock"
)

const (
	pollTimeout = 10 * time.Second
	planMost    = 1000 // ticks planned by one poll; the next goes on
)

// wake is what gocron calls. A panic here would end gocron's goroutine.
func (r *Runner) wake() {
	defer func() {
		if p := recover(); p != nil {
			r.o.Log.Error("jobs: poll panicked", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	ctx, cancel := context.WithTimeout(r.ctx, pollTimeout)
	defer cancel()
	err := r.poll(ctx)
	r.mu.Lock()
	changed := r.away != (err != nil)
	r.away = err != nil
	r.mu.Unlock()
	switch {
	case changed && err != nil:
		r.o.Log.Warn("jobs: the ledger can't be read", "error", err)
	case changed:
		r.o.Log.Info("jobs: the ledger is back")
	}
}

// poll plans what has become due and claims what it may.
func (r *Runner) poll(ctx context.Context) error {
	select {
	case r.polling <- struct{}{}:
		defer func() { <-r.polling }()
	case <-ctx.Done():
		return ctx.Err()
	}
	known := r.snapshot()
	if len(known) == 0 {
		return nil
	}
	situations, err := r.ledger.look(ctx, known)
	if err != nil {
		return err
	}
	for _, s := range situations {
		j := known[s.Name]
		planned, err := r.plan(ctx, j, s)
		if err != nil {
			return err
		}
		if planned || s.Claimable {
			if err := r.claimAll(ctx, j); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Runner) snapshot() map[string]*job {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	known := make(map[string]*job, len(r.jobs))
	for name, j := range r.jobs {
		known[name] = j
	}
	return known
}

// plan writes the ticks after the last row up to the database's now.
func (r *Runner) plan(ctx context.Context, j *job, s situation) (bool, error) {
	if j.schedule == nil {
		return false, nil
	}
	if j.since.IsZero() { // only poll touches it, and there is one at a time
		j.since = s.Now
	}
	last := j.since
	if s.Last != nil {
		last = *s.Last
	}
	var due []time.Time
	for t := j.schedule.Next(last.UTC()); !t.IsZero() && !t.After(s.Now) && len(due) < planMost; t = j.schedule.Next(t) {
		due = append(due, t)
	}
	if len(due) == 0 {
		return false, nil
	}
	if j.CatchUp == CatchUpLatest {
		if len(due) < planMost {
			r.metrics.skip(ctx, j.Name, "missed", int64(len(due)-1))
		}
		due = due[len(due)-1:]
		superseded, err := r.ledger.supersede(ctx, j, due[0])
		if err != nil {
			return false, err
		}
		r.metrics.skip(ctx, j.Name, "superseded", superseded)
	}
	for _, t := range due {
		if err := r.ledger.plan(ctx, j, t); err != nil {
			return false, err
		}
	}
	return true, nil
}

// claimAll claims and starts runs of j while there are some and a slot is
// free. A job of one shard is run under its Redis lock, which other replicas
// find taken; with more shards they are to have a share.
func (r *Runner) claimAll(ctx context.Context, j *job) error {
	for {
		select {
		case r.slots <- struct{}{}:
		default:
			r.metrics.skip(ctx, j.Name, "busy", 1)
			return nil
		}
		guard, held := r.tryLock(ctx, j)
		if held {
			<-r.slots
			r.metrics.skip(ctx, j.Name, "locked", 1)
			return nil
		}
		run, err := r.ledger.claim(ctx, j, r.o.Name, r.o.Lease)
		if run == nil || err != nil {
			release(guard) //nolint:contextcheck // a release outlives the tick's context
			<-r.slots
			return err
		}
		r.runs.Go(func() { //nolint:contextcheck // runs outlive the tick; their context is the runner's
			defer func() { <-r.slots }()
			defer release(guard)
			for run != nil {
				r.execute(j, run)
				run = r.next(j)
			}
		})
		if j.Shards == 1 {
			return nil
		}
	}
}

// next claims what is due of j after a run, so that a backlog isn't worked off
// at one run a poll. What goes wrong is the next poll's to tell.
func (r *Runner) next(j *job) *Run {
	if r.snapshot() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, pollTimeout)
	defer cancel()
	run, _ := r.ledger.claim(ctx, j, r.o.Name, r.o.Lease)
	return run
}

// tryLock reports whether another replica has the job's lock. Without an
// answer it has not: the ledger decides.
func (r *Runner) tryLock(ctx context.Context, j *job) (*lock.Guard, bool) {
	if r.o.Locker == nil || j.Shards > 1 {
		return nil, false
	}
	// Its own context: the lock outlives this poll.
	g, err := r.o.Locker.Try(context.WithoutCancel(ctx), fmt.Sprintf("job:%s", j.Name), r.o.Lease)
	return g, errors.Is(err, lock.ErrHeld)
}

func release(g *lock.Guard) {
	if g != nil {
		_ = g.Release() // without an answer it ends with its lease
	}
}
