package jobs

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/postgres"
)

const (
	maxBatch = 256 // runs of one claim
	// batchTime is how long the runs of one claim are executed before their ends are
	// written. What has not begun by then is given back.
	batchTime = 20 * time.Millisecond
	// minBatchLease is the shortest lease with batches, whose leases nobody renews.
	minBatchLease = time.Second
	// maxTurn is how long a job keeps its slot while another waits for one, and
	// beyond it the run that is under way.
	maxTurn     = 100 * time.Millisecond
	recordPause = 100 * time.Millisecond // between two tries to write how runs ended
)

// ended is a run that has ended and how.
type ended struct {
	run        *Run
	begin, end time.Time
	failure    error
	stack      string // of a panic
	outcome    outcome
	ctx        context.Context //nolint:containedctx // of its span, for the log
}

// batch is runs of one job and shard that were claimed at once. They are executed
// one after the other. The ledger has the first as running, which keeps other
// replicas out of the shard, until the ends are written or settle makes a later
// one the running one. Only one goroutine uses a batch at a time.
type batch struct {
	job   *job
	shard int
	left  []*Run // not begun
	ended []ended
	stop  time.Time // when what is left is given back
	// shared is whether the ledger has other runs than the one under way.
	shared bool
}

// rows is how the batch stands, for the ledger.
func (b *batch) rows(now time.Time) []endedRow {
	rows := make([]endedRow, 0, len(b.ended)+len(b.left))
	for _, e := range b.ended {
		row := endedRow{At: e.run.ScheduledAt, Sequence: e.run.Sequence, Attempt: e.run.Attempt,
			Done: e.outcome.done, Wait: e.outcome.retryAfter.Microseconds(), Error: e.outcome.error}
		if b.shared { // else the database's clock says when it began, and that it has ended now
			row.Ago, row.Took = now.Sub(e.end).Microseconds(), e.end.Sub(e.begin).Microseconds()
		}
		rows = append(rows, row)
	}
	for _, run := range b.left {
		rows = append(rows, endedRow{At: run.ScheduledAt, Sequence: run.Sequence, Attempt: run.Attempt - 1,
			Released: true})
	}
	return rows
}

// work executes claimed runs of j and those that become due meanwhile, so that a
// backlog doesn't wait for a poll per run. After its turn it goes on with a job
// that waits for a slot. It returns when nothing is due, and releases the guard.
func (r *Runner) work(j *job, guard *lock.Guard, claimed []*Run) {
	for begin := r.now(); len(claimed) > 0; {
		b := r.executeBatch(j, claimed)
		turned := r.now().Sub(begin) > r.turn && r.othersWait(j)
		most := int(max(1, j.size.Load()))
		if turned {
			most = 0
		}
		claimed = r.finish(b, most)
		if len(claimed) > 0 {
			continue
		}
		release(guard)
		if turned {
			r.wait(j)
		}
		begin = r.now()
		j, guard, claimed = r.claimWaiting()
	}
}

// executeBatch executes the runs of one claim. It leaves those that were not
// begun when the time of a batch is over, when the Runner shuts down, or when one
// has called [Run.Commit], which may have let other replicas into the shard.
func (r *Runner) executeBatch(j *job, claimed []*Run) *batch {
	begin := r.now()
	b := &batch{job: j, shard: claimed[0].Shard, left: claimed, stop: begin.Add(batchTime), shared: len(claimed) > 1}
	if half := claimed[0].claimedAt.Add(r.o.Lease / 2); half.Before(b.stop) { // the answer was slow
		b.stop = half
	}
	for goOn := true; goOn && len(b.left) > 0; {
		var one sync.WaitGroup
		one.Go(func() { // a job may end its goroutine
			for goOn && len(b.left) > 0 {
				run := b.left[0]
				b.left = b.left[1:]
				func() {
					defer func() { goOn = r.goesOn(b, run) }()
					r.execute(b, run)
				}()
			}
		})
		one.Wait()
	}
	switch took := r.now().Sub(begin); {
	case j.commits.Load() || r.o.Lease < minBatchLease:
		j.size.Store(1)
	case took > batchTime:
		j.size.Store(max(1, int64(len(claimed))/4))
	case took < batchTime/2:
		j.size.Store(min(maxBatch, max(j.size.Load(), 4*int64(len(claimed)))))
	}
	return b
}

// goesOn reports whether the runs behind run may begin.
func (r *Runner) goesOn(b *batch, run *Run) bool {
	if run.committing.Load() {
		b.job.commits.Store(true)
	}
	return !b.job.commits.Load() && r.now().Before(b.stop) && !r.isClosed()
}

// finish writes how the runs of a batch ended, gives those back that were not
// begun, and claims up to most further ones. It tries again for a while when the
// ledger doesn't answer: what it writes twice changes nothing.
func (r *Runner) finish(b *batch, most int) (claimed []*Run) {
	ctx, cancel := context.WithTimeout(context.Background(), recordTimeout)
	defer cancel()
	if r.isClosed() {
		most = 0
	}
	again := most > 0 && (len(b.left) > 0 || slices.ContainsFunc(b.ended, func(e ended) bool {
		return !e.outcome.done && e.outcome.retryAfter <= 0 // may be due already
	}))
	if len(b.left) > 0 {
		most = 0 // they come first
	}
	var recorded map[int64]bool
	for {
		var err error
		begin := r.now()
		recorded, claimed, err = r.ledger.advance(ctx, b.job.Name, b.shard, b.rows(begin), most, r.o.Name, r.o.Lease)
		if err == nil {
			claimed = r.ours(claimed, begin)
			break
		}
		again, most = most > 0 || again, 0
		if postgres.IsUniqueViolation(err, "job_runs_one_running") { // another replica has claimed a run as well
			continue
		}
		select {
		case <-time.After(recordPause):
		case <-ctx.Done():
			for _, e := range b.ended {
				r.reportUnstored(e, err)
			}
			return nil
		}
	}
	for _, e := range b.ended {
		r.report(ctx, b.job, e, recorded[e.run.Sequence])
	}
	if len(claimed) == 0 && again {
		claimed = r.claimFollowing(b.job)
	}
	return claimed
}

// claimFollowing returns nothing after an error, which the next poll will meet and
// report.
func (r *Runner) claimFollowing(j *job) []*Run {
	if r.isClosed() {
		return nil
	}
	ctx, cancel := context.WithTimeout(r.ctx, pollTimeout)
	defer cancel()
	claimed, _ := r.claimNext(ctx, j)
	return claimed
}

// settled waits until the time of a batch is over, and then has the ledger show
// the run that is under way alone: as running, with a lease of its own. It
// reports false when the run has ended, or is lost because the ledger didn't do it
// in time. A run that has no others beside it is settled.
func (r *Runner) settled(ctx context.Context, cancelCause context.CancelCauseFunc, b *batch, run *Run,
	begin time.Time) bool {
	lease := r.o.Lease
	end := run.claimedAt.Add(lease - lease/10)
	for wait := b.stop.Sub(r.now()); b.shared; wait = lease / 20 {
		select {
		case <-ctx.Done():
			return false
		case <-time.After(wait):
		}
		now := r.now()
		limited, cancel := context.WithTimeout(context.WithoutCancel(ctx), lease/3)
		recorded, err := r.ledger.settle(limited, run, now.Sub(begin), b.rows(now), lease)
		if err == nil && recorded[run.Sequence] {
			run.claimedAt, b.shared, b.left = now, false, nil
			for _, e := range b.ended {
				r.report(limited, b.job, e, recorded[e.run.Sequence])
			}
			b.ended = nil
		}
		cancel()
		if b.shared && !run.committing.Load() && !r.now().Before(end) {
			cancelCause(ErrLost)
			return false
		}
	}
	return true
}

// wait notes that j found no free slot.
func (r *Runner) wait(j *job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !slices.Contains(r.waiting, j) {
		r.waiting = append(r.waiting, j)
	}
}

// othersWait reports whether another job than j waits for a slot.
func (r *Runner) othersWait(j *job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.waiting, func(w *job) bool { return w != j })
}

// claimWaiting claims a run of the job that has waited longest for a slot, if one
// of it is still due, or of the next. It returns nothing when there is none.
func (r *Runner) claimWaiting() (*job, *lock.Guard, []*Run) {
	for {
		r.mu.Lock()
		if len(r.waiting) == 0 || r.closed {
			r.mu.Unlock()
			return nil, nil, nil
		}
		j := r.waiting[0]
		r.waiting = r.waiting[1:]
		r.mu.Unlock()
		ctx, cancel := context.WithTimeout(r.ctx, pollTimeout)
		guard, lockedByOther := r.tryLock(ctx, j)
		var claimed []*Run
		if !lockedByOther {
			claimed, _ = r.claimNext(ctx, j) // the next poll meets the error too
		}
		cancel()
		if len(claimed) > 0 {
			return j, guard, claimed
		}
		release(guard)
	}
}
