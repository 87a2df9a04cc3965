package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	"gorm.io/gorm"
)

var (
	// ErrLost is the cause of the end of a run's context when its lease has
	// run out or was taken over.
	ErrLost = errors.New("jobs: the run was lost")
	// ErrFenced says that the run is no longer this replica's to commit.
	ErrFenced = errors.New("jobs: another replica has taken the run over, or it is done")
)

const recordTimeout = 5 * time.Second

// Run is one attempt at one shard of one tick.
type Run struct {
	Job         string
	ScheduledAt time.Time // the tick, or when it was triggered
	Shard       int       // from 0
	Shards      int       // as stored with the tick
	Attempt     int       // from 1
	// Sequence is greater than that of every earlier claim: the fence for
	// effects outside the database.
	Sequence int64

	ledger ledger
	// since is when the claim was asked for: the lease can't end before a
	// lease's length from then.
	since time.Time
	// committing is set while a transaction that called Commit may hold the
	// ledger's row, which keeps others from taking the run over, and the
	// heartbeat from renewing it.
	committing atomic.Bool
}

// Commit is the first statement of the transaction with the run's effects. It
// marks the run done with them, and fails with [ErrFenced] when it isn't this
// attempt's to do, in which case the transaction must be rolled back.
func (r *Run) Commit(tx *gorm.DB) error {
	done, err := r.ledger.finish(tx, r)
	if err == nil && !done {
		return ErrFenced
	}
	if err == nil {
		r.committing.Store(true)
	}
	return err
}

// execute runs one claimed run and records how it went.
func (r *Runner) execute(j *job, run *Run) {
	run.ledger = r.ledger
	begin := time.Now()
	ctx, span := otel.Tracer("github.com/purserhq/purser/pkg/jobs").Start(r.ctx, "job "+j.Name,
		trace.WithAttributes(attribute.Int("job.shard", run.Shard), attribute.Int("job.attempt", run.Attempt)))
	defer span.End()
	ctx, cancel := context.WithTimeout(ctx, j.Timeout)
	defer cancel()
	ctx, stop := r.heartbeat(ctx, run)
	err := protect(ctx, j, run)
	lost := errors.Is(context.Cause(ctx), ErrLost)
	stop()
	if lost {
		err = errors.Join(ErrLost, err)
	}
	if err != nil {
		span.SetStatus(codes.Error, "failed")
	}
	r.record(j, run, err, lost, time.Since(begin))
}

// protect turns a panic into a failure with its stack.
func protect(ctx context.Context, j *job, run *Run) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return j.Run(ctx, run)
}

// heartbeat renews the run's lease until stop is called. The returned context
// ends with [ErrLost] when the lease was taken over, or a tenth of it before it
// could be for want of an answer. From Commit on the row is locked: nobody can
// take the run over then, however long its transaction takes, and only an
// answer of the ledger ends it.
func (r *Runner) heartbeat(ctx context.Context, run *Run) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	lease := r.o.Lease
	expiry := time.AfterFunc(time.Until(run.since.Add(lease-lease/10)), func() {
		if !run.committing.Load() {
			cancel(ErrLost)
		}
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(lease / 3)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			begin := time.Now()
			limited, stop := context.WithTimeout(ctx, lease/3)
			ours, err := r.ledger.renew(limited, run, lease)
			stop()
			switch {
			case err != nil:
			case !ours: // done by Commit, or taken over
				taken, err := r.ledger.takenOver(ctx, run)
				if err != nil {
					continue
				}
				if taken {
					cancel(ErrLost)
				}
				expiry.Stop()
				return
			default:
				run.committing.Store(false) // that transaction was rolled back
				expiry.Reset(time.Until(begin.Add(lease - lease/10)))
			}
		}
	}()
	return ctx, func() { expiry.Stop(); cancel(nil); <-done }
}

// backoff asks the job how long to wait, and takes an hour for an answer when
// that panics.
func backoff(j *job, attempt int) (wait time.Duration) {
	defer func() {
		if recover() != nil {
			wait = time.Hour
		}
	}()
	return j.Backoff(attempt)
}

// record writes the outcome. A run that Commit has marked done stays done
// whatever its error: the commit's acknowledgement may have been lost.
func (r *Runner) record(j *job, run *Run, err error, lost bool, took time.Duration) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.ctx), recordTimeout)
	defer cancel()
	attributes := []any{"job", j.Name, "scheduled_at", run.ScheduledAt, "shard", run.Shard, "attempt", run.Attempt, "took", took}
	r.metrics.ran(ctx, j.Name, took, err)
	var stored error
	switch {
	case lost:
		r.o.Log.Warn("job run lost", append(attributes, "error", err)...)
		return
	case err == nil:
		_, stored = r.ledger.finish(r.ledger.db.Gorm(ctx), run)
		r.o.Log.Info("job run done", attributes...)
	default:
		wait := backoff(j, run.Attempt)
		if errors.Is(context.Cause(r.ctx), errShutdown) {
			wait = 0
		}
		stored = r.ledger.fail(ctx, run, err, wait)
		r.o.Log.Error("job run failed", append(attributes, "error", err, "again_in", wait)...)
	}
	if stored != nil { // it will be taken over when the lease ends
		r.o.Log.Error("the outcome of a job run could not be stored", append(attributes, "error", stored)...)
	}
}
