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
	pollTimeout      = 10 * time.Second
	maxMissedPerPoll = 10_000 // ticks; the next poll counts the others
)

// scheduledPoll is the task of gocron. It logs the beginning and the end of an
// outage of the ledger.
func (r *Runner) scheduledPoll() {
	ctx, cancel := context.WithTimeout(r.ctx, pollTimeout)
	defer cancel()
	err := r.poll(ctx)
	switch failedBefore := r.pollFailed.Swap(err != nil); {
	case err != nil && !failedBefore:
		r.o.Log.Warn("jobs: the ledger can't be read", "error", err)
	case err == nil && failedBefore:
		r.o.Log.Info("jobs: the ledger can be read again")
	}
}

// poll writes the ticks that have become due and starts runs. An error of one
// job doesn't keep it from serving the others.
func (r *Runner) poll(ctx context.Context) error {
	r.polling.Lock()
	defer r.polling.Unlock()
	jobs := r.activeJobs()
	if len(jobs) == 0 {
		return nil
	}
	states, err := r.ledger.jobStates(ctx, slices.Collect(maps.Keys(jobs)))
	if err != nil {
		return err
	}
	var errs []error
	for _, s := range states {
		errs = append(errs, r.pollJob(ctx, jobs[s.Job], s))
		delete(jobs, s.Job)
	}
	for name := range jobs { // which the ledger doesn't have yet
		errs = append(errs, r.ledger.insertSchedule(ctx, name))
	}
	return errors.Join(errs...)
}

// activeJobs returns the jobs to poll for, by name: none after Shutdown.
func (r *Runner) activeJobs() map[string]*job {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	return maps.Clone(r.jobs)
}

func (r *Runner) pollJob(ctx context.Context, j *job, s jobState) error {
	if s.Expired {
		if err := r.recoverExpired(ctx, j); err != nil {
			return err
		}
	}
	scheduled, err := r.scheduleDue(ctx, j, s)
	if err == nil && (scheduled || s.Claimable || s.Expired) {
		err = r.startRuns(ctx, j)
	}
	return err
}

// recoverExpired makes runs due again whose lease has expired.
func (r *Runner) recoverExpired(ctx context.Context, j *job) error {
	expired, err := r.ledger.expireLeases(ctx, j.Name, j.afterCrash)
	if err != nil {
		return err
	}
	for _, run := range expired {
		r.metrics.failure.Add(ctx, 1, jobName(j.Name))
		r.o.Log.WarnContext(ctx, "job run's lease expired", append(run.attributes(), "crashes", run.Crashes+1)...)
	}
	return nil
}

// dueTicks are the ticks of a schedule between two instants, by the job's
// catch-up policy.
type dueTicks struct {
	until       time.Time   // the newest tick
	ticks       []time.Time // to run, oldest first
	missed      int         // number of those not to run, which come before ticks
	missedUntil time.Time   // the newest of them
	keepEarlier int         // number of ticks in the ledger already that may still run
}

// dueTicks returns the ticks after one instant up to now. It holds only those
// to run in memory, and stops after maxMissedPerPoll missed ones. CatchUpSkip
// misses ticks that are older than maxDelay.
func (j *job) dueTicks(after, now time.Time, maxDelay time.Duration) dueTicks {
	d := dueTicks{until: after, keepEarlier: j.MaxCatchUp}
	for t := j.schedule.Next(after); !t.IsZero() && !t.After(now); t = j.schedule.Next(t) {
		if d.missed == maxMissedPerPoll { // the next poll finds which ticks are to run
			d.until, d.ticks = d.missedUntil, nil
			return d
		}
		d.until, d.ticks, d.keepEarlier = t, append(d.ticks, t), max(0, d.keepEarlier-1)
		if len(d.ticks) > j.MaxCatchUp || j.CatchUp == CatchUpSkip && now.Sub(t) > maxDelay {
			d.missed, d.missedUntil, d.ticks = d.missed+1, d.ticks[0], d.ticks[1:]
		}
	}
	return d
}

// scheduleDue writes the ticks that have become due by the database's clock, and
// reports whether there were any.
func (r *Runner) scheduleDue(ctx context.Context, j *job, s jobState) (bool, error) {
	if j.schedule == nil {
		return false, nil
	}
	p := j.dueTicks(s.PlannedUntil, s.Now, r.o.Lease+r.o.PollInterval)
	if p.until.Equal(s.PlannedUntil) {
		return false, nil
	}
	superseded, err := r.ledger.insertTicks(ctx, j, s.PlannedUntil, p)
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

// startRuns claims and starts runs of j until none is due or no slot is free. A
// job of one shard runs under its Redis lock, so that other replicas don't ask
// the database for it. Several shards are shared among the replicas, without a
// lock.
func (r *Runner) startRuns(ctx context.Context, j *job) error {
	for {
		select {
		case r.slots <- struct{}{}:
		default:
			r.metrics.skip(ctx, j.Name, "busy", 1)
			return nil
		}
		guard, lockedByOther := r.tryLock(ctx, j)
		if lockedByOther {
			<-r.slots
			r.metrics.skip(ctx, j.Name, "locked", 1)
			return nil
		}
		run, err := r.claimNext(ctx, j)
		if run == nil || err != nil {
			release(guard)
			<-r.slots
			return err
		}
		r.runs.Go(func() { // its context is the Runner's: a run outlives the poll
			defer func() { <-r.slots }()
			defer release(guard)
			for ; run != nil; run = r.claimFollowing(j) {
				r.execute(j, run)
			}
		})
		if j.Shards == 1 {
			return nil
		}
	}
}

// claimNext returns the oldest run of j that is due, or nil when there is none.
func (r *Runner) claimNext(ctx context.Context, j *job) (*Run, error) {
	begin := r.now()
	claimed, err := r.ledger.claimRun(ctx, j.Name, r.o.Name, r.o.Lease)
	if err != nil || len(claimed) == 0 {
		return nil, err
	}
	claimed[0].ledger, claimed[0].claimedAt = r.ledger, begin
	return claimed[0], nil
}

// claimFollowing claims the next run of j for the slot of one that has ended, so
// that a backlog doesn't wait for a poll per run. It returns nil after an error,
// which the next poll will meet and report.
func (r *Runner) claimFollowing(j *job) *Run {
	if r.activeJobs() == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, pollTimeout)
	defer cancel()
	run, _ := r.claimNext(ctx, j)
	return run
}

// tryLock takes the job's Redis lock, and reports whether another replica has
// it. Both are zero when Redis doesn't answer: the ledger is enough.
func (r *Runner) tryLock(ctx context.Context, j *job) (guard *lock.Guard, lockedByOther bool) {
	if r.o.Locker == nil || j.Shards > 1 {
		return nil, false
	}
	// The lock outlives this poll.
	g, err := r.o.Locker.Try(context.WithoutCancel(ctx), "job:"+j.Name, r.o.Lease)
	return g, errors.Is(err, lock.ErrHeld)
}

func release(g *lock.Guard) {
	if g != nil {
		_ = g.Release() // if Redis doesn't answer, the lock expires
	}
}
