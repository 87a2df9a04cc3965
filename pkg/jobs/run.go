package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
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
	// expired or another replica has claimed the run.
	ErrLost = errors.New("jobs: the run's lease was lost")
	// ErrFenced is returned by [Run.Commit] when the run was claimed again since,
	// or is done.
	ErrFenced = errors.New("jobs: another replica has claimed the run, or it is done")
)

var errExited = errors.New("the job ended its goroutine")

const recordTimeout = 5 * time.Second

// Run is one attempt at one shard of one tick.
type Run struct {
	Job         string
	ScheduledAt time.Time // the tick, or when it was triggered
	Shard       int       // from 0
	Shards      int       // as stored with the tick
	Attempt     int       // from 1
	Crashes     int       // attempts before this one whose lease expired
	// Sequence is greater than that of every earlier claim of any run: a fencing
	// token for effects outside the database.
	Sequence int64

	ledger ledger
	// claimedAt is when the claim was sent: the lease can't expire earlier than
	// its length after that.
	claimedAt time.Time
	// committing is set by Commit, whose transaction then locks the ledger's
	// row: no other replica can claim the run, and no heartbeat renew it.
	committing atomic.Bool
}

// Commit marks the run as done. Call it first in the transaction that writes the
// run's effects, so that both are committed or neither is; what Run returns
// after the commit doesn't change it. On [ErrFenced] roll the transaction back:
// this attempt has lost its claim.
func (r *Run) Commit(tx *gorm.DB) error {
	ours, err := r.ledger.finishAttempt(tx, r, outcome{done: true})
	if err == nil && !ours {
		return ErrFenced
	}
	if err == nil {
		r.committing.Store(true)
	}
	return err
}

func (r *Run) attributes() []any {
	return []any{"job", r.Job, "scheduled_at", r.ScheduledAt, "shard", r.Shard, "attempt", r.Attempt}
}

// execute runs one claimed run and records its outcome, also when the job panics
// or ends its goroutine.
func (r *Runner) execute(j *job, run *Run) {
	begin := r.now()
	ctx, span := otel.Tracer(scope).Start(r.ctx, "job "+j.Name, trace.WithAttributes(
		attribute.String("job.name", j.Name),
		attribute.String("job.scheduled_at", run.ScheduledAt.UTC().Format(time.RFC3339Nano)),
		attribute.Int("job.shard", run.Shard), attribute.Int("job.attempt", run.Attempt)))
	defer span.End()
	ctx, cancel := context.WithTimeout(ctx, j.Timeout)
	ctx, cancelCause := context.WithCancelCause(ctx)
	var heart sync.WaitGroup
	heart.Go(func() { r.heartbeat(ctx, cancelCause, run) })
	failure, stack := errExited, ""
	defer func() {
		if p := recover(); p != nil {
			failure, stack = fmt.Errorf("panic: %v", p), string(debug.Stack())
		}
		cancel()
		heart.Wait()
		if failure != nil {
			span.SetStatus(codes.Error, "failed")
		}
		r.record(ctx, j, run, failure, stack, r.now().Sub(begin))
	}()
	failure = j.Run(ctx, run)
}

// heartbeat renews the run's lease every third of it until ctx ends. It cancels
// the run with [ErrLost] when another replica has claimed it, or when the ledger
// hasn't answered until a tenth of the lease is left. After Commit the row is
// locked and no replica can claim the run, however long the transaction takes:
// then only the ledger's answer cancels it.
func (r *Runner) heartbeat(ctx context.Context, cancelCause context.CancelCauseFunc, run *Run) {
	lease := r.o.Lease
	end := run.claimedAt.Add(lease - lease/10)
	for wait := lease / 3; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		begin, timeout := r.now(), lease/3
		if !run.committing.Load() {
			timeout = min(timeout, end.Sub(begin))
		}
		limited, cancel := context.WithTimeout(ctx, timeout)
		ours, err := r.ledger.renewLease(limited, run, lease)
		cancel()
		switch {
		case err == nil && ours:
			end, wait = begin.Add(lease-lease/10), lease/3
		case err == nil, !run.committing.Load() && !r.now().Before(end):
			cancelCause(ErrLost)
			return
		default:
			wait = lease / 20
		}
	}
}

// record writes the outcome to the ledger, the log and the metrics. A run that
// Commit has marked as done stays done whatever its failure: the commit's
// acknowledgement may have been lost. A run that another replica has claimed is
// recorded by that replica.
func (r *Runner) record(ctx context.Context, j *job, run *Run, failure error, stack string, took time.Duration) {
	if failure != nil && errors.Is(context.Cause(ctx), ErrLost) {
		failure = errors.Join(ErrLost, failure)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	o := outcome{done: true}
	attributes := append(run.attributes(), "took", took)
	if failure != nil {
		o = j.afterFailure(run, failure, r.ctx.Err() != nil)
		attributes = append(attributes, "error", o.error)
	}
	ours, err := r.ledger.finishAttempt(r.ledger.db.Gorm(ctx), run, o)
	if err == nil && !ours {
		ours, err = r.ledger.renewLease(ctx, run, 0)
		o.done = ours // by Commit
	}
	switch {
	case err != nil: // a replica recovers the run when its lease expires
		r.o.Log.ErrorContext(ctx, "the outcome of a job run could not be stored", append(attributes, "cause", err)...)
		return
	case !ours:
		r.o.Log.WarnContext(ctx, "job run's lease was lost", attributes...)
		return
	case o.done:
		r.metrics.success.Add(ctx, 1, jobName(j.Name))
		r.o.Log.InfoContext(ctx, "job run done", attributes...)
	default:
		if stack != "" {
			attributes = append(attributes, "stack", stack)
		}
		r.metrics.failure.Add(ctx, 1, jobName(j.Name))
		r.o.Log.ErrorContext(ctx, "job run failed", append(attributes, "retry_after", o.retryAfter)...)
	}
	r.metrics.duration.Record(ctx, took.Seconds(), jobName(j.Name))
}
