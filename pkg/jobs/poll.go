package jobs

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/purserhq/purser/pkg/lock"
)

const (
	pollTimeout = 10 * time.Second
	walkMost    = 10_000 // missed ticks counted by one poll; the next goes on
)

// wake is what gocron calls. It tells of an outage once.
func (r *Runner) wake() {
	ctx, cancel := context.WithTimeout(r.ctx, pollTimeout)
	defer cancel()
	err := r.poll(ctx)
	switch away := r.away.Swap(err != nil); {
	case err != nil && !away:
		r.o.Log.Warn("jobs: the ledger can't be read", "error", err)
	case err == nil && away:
		r.o.Log.Info("jobs: the ledger is back")
	}
}

// poll plans what has become due and claims what it may. What goes wrong with
// one job leaves the others alone.
func (r *Runner) poll(ctx context.Context) error {
	r.polling.Lock()
	defer r.polling.Unlock()
	known := r.known()
	if len(known) == 0 {
		return nil
	}
	situations, err := r.ledger.look(ctx, slices.Collect(maps.Keys(known)))
	if err != nil {
		return err
	}
	var failures []error
	for _, s := range situations {
		failures = append(failures, r.serve(ctx, known[s.Job], s))
		delete(known, s.Job)
	}
	for name := range known {
		failures = append(failures, r.ledger.enter(ctx, name))
	}
	return errors.Join(failures...)
}

// known are the jobs to poll for: none after Shutdown.
func (r *Runner) known() map[string]*job {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	return maps.Clone(r.jobs)
}

func (r *Runner) serve(ctx context.Context, j *job, s situation) error {
	if s.Expired {
		if err := r.reap(ctx, j); err != nil {
			return err
		}
	}
	planned, err := r.plan(ctx, j, s)
	if err == nil && (planned || s.Claimable || s.Expired) {
		err = r.claimAll(ctx, j)
	}
	return err
}

// reap makes runs due again whose process is gone: the first time at once,
// then after the job's backoff, so that a run which kills its process doesn't
// kill one replica after the other.
func (r *Runner) reap(ctx context.Context, j *job) error {
	wait := func(run *Run) time.Duration {
		if run.Crashes == 0 {
			return 0
		}
		return backoff(j, run.Attempt)
	}
	gone, err := r.ledger.reap(ctx, j.Name, wait)
	if err != nil {
		return err
	}
	for _, run := range gone {
		r.metrics.failure.Add(ctx, 1, task(j.Name))
		r.o.Log.WarnContext(ctx, "job run's process is gone", append(run.attributes(), "crashes", run.Crashes+1)...)
	}
	return nil
}

// plan is what a walk over a schedule came to.
type plan struct {
	until       time.Time // the newest tick walked over
	ticks       []time.Time
	missed      int // older ones, or late ones, none of which is to run
	missedUntil time.Time
	kept        int // of the ticks planned before, which may still run
}

// walk goes over the ticks after one instant up to now. Only those that the
// policy keeps are held in memory. A tick later than late is none for
// CatchUpSkip.
func (j *job) walk(after, now time.Time, late time.Duration) plan {
	p := plan{until: after, kept: j.CatchUpMost}
	for t := j.schedule.Next(after); !t.IsZero() && !t.After(now); t = j.schedule.Next(t) {
		if p.missed == walkMost { // which of ticks to keep the next poll will know
			p.until, p.ticks = p.missedUntil, nil
			return p
		}
		p.until, p.ticks, p.kept = t, append(p.ticks, t), max(0, p.kept-1)
		if len(p.ticks) > j.CatchUpMost || j.CatchUp == CatchUpSkip && now.Sub(t) > late {
			p.missed, p.missedUntil, p.ticks = p.missed+1, p.ticks[0], p.ticks[1:]
		}
	}
	return p
}

// plan writes the ticks that have come due up to the database's now.
func (r *Runner) plan(ctx context.Context, j *job, s situation) (bool, error) {
	if j.schedule == nil {
		return false, nil
	}
	p := j.walk(s.PlannedUntil, s.Now, r.o.Lease+r.o.Poll)
	if p.until.Equal(s.PlannedUntil) {
		return false, nil
	}
	superseded, err := r.ledger.plan(ctx, j, s.PlannedUntil, p)
	if err != nil || len(superseded) == 0 {
		return true, err
	}
	r.metrics.skip(ctx, j.Name, "missed", p.missed)
	r.metrics.skip(ctx, j.Name, "superseded", superseded[0])
	if p.missed+superseded[0] > 0 {
		r.o.Log.WarnContext(ctx, "job ticks skipped", "job", j.Name, "missed", p.missed, "superseded", superseded[0],
			"until", p.until)
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
		run, err := r.claim(ctx, j)
		if run == nil || err != nil {
			release(guard) //nolint:contextcheck // a release outlives the tick's context
			<-r.slots
			return err
		}
		r.runs.Go(func() { //nolint:contextcheck // runs outlive the tick; their context is the runner's
			defer func() { <-r.slots }()
			defer release(guard)
			for ; run != nil; run = r.next(j) {
				r.execute(j, run)
			}
		})
		if j.Shards == 1 {
			return nil
		}
	}
}

// claim returns nil when there is nothing to claim.
func (r *Runner) claim(ctx context.Context, j *job) (*Run, error) {
	begin := r.now()
	claimed, err := r.ledger.claim(ctx, j.Name, r.o.Name, r.o.Lease)
	if err != nil || len(claimed) == 0 {
		return nil, err
	}
	claimed[0].ledger, claimed[0].claimed = r.ledger, begin
	return claimed[0], nil
}

// next claims what is due of j after a run, so that a backlog isn't worked off
// at one run a poll. What goes wrong is the next poll's to tell.
func (r *Runner) next(j *job) *Run {
	if r.known() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, pollTimeout)
	defer cancel()
	run, _ := r.claim(ctx, j)
	return run
}

// tryLock reports whether another replica has the job's lock. Without an
// answer it has not: the ledger decides.
func (r *Runner) tryLock(ctx context.Context, j *job) (*lock.Guard, bool) {
	if r.o.Locker == nil || j.Shards > 1 {
		return nil, false
	}
	// Its own context: the lock outlives this poll.
	g, err := r.o.Locker.Try(context.WithoutCancel(ctx), "job:"+j.Name, r.o.Lease)
	return g, errors.Is(err, lock.ErrHeld)
}

func release(g *lock.Guard) {
	if g != nil {
		_ = g.Release() // without an answer it ends with its lease
	}
}
