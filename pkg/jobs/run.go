package jobs

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
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
	// run out or was taken over.
	ErrLost = errors.New("jobs: the run was lost")
	// ErrFenced says that the run is no longer this replica's to commit.
	ErrFenced = errors.New("jobs: another replica has taken the run over, or it is done")
)

var errExited = errors.New("the job ended its goroutine")

const (
	recordTimeout = 5 * time.Second
	errorMost     = 2000 // bytes of an error that are kept
)

// Run is one attempt at one shard of one tick.
type Run struct {
	Job         string
	ScheduledAt time.Time // the tick, or when it was triggered
	Shard       int       // from 0
	Shards      int       // as stored with the tick
	Attempt     int       // from 1
	Crashes     int       // attempts before this one whose process was lost
	// Sequence is greater than that of every earlier claim: the fence for
	// effects outside the database.
	Sequence int64

	ledger ledger
	// claimed is when the claim was asked for: the lease can't end before a
	// lease's length from then.
	claimed time.Time
	// committing is set by Commit. The ledger's row is locked then, which keeps
	// others from taking the run over, and the heartbeat from renewing it.
	committing atomic.Bool
}

// Commit is the first statement of the transaction with the run's effects. It
// marks the run done with them, whatever Run returns afterwards, and fails with
// [ErrFenced] when it isn't this attempt's to do, in which case the transaction
// must be rolled back.
func (r *Run) Commit(tx *gorm.DB) error {
	ours, err := r.ledger.settle(tx, r, outcome{done: true})
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

// execute runs one claimed run and records how it went, also when the job
// ends its goroutine.
func (r *Runner) execute(j *job, run *Run) {
	begin := r.now()
	ctx, span := otel.Tracer(scope).Start(r.ctx, "job "+j.Name, trace.WithAttributes(
		attribute.String("job.name", j.Name),
		attribute.String("job.scheduled_at", run.ScheduledAt.UTC().Format(time.RFC3339Nano)),
		attribute.Int("job.shard", run.Shard), attribute.Int("job.attempt", run.Attempt)))
	defer span.End()
	ctx, cancel := context.WithTimeout(ctx, j.Timeout)
	ctx, lose := context.WithCancelCause(ctx)
	var heart sync.WaitGroup
	heart.Go(func() { r.heartbeat(ctx, lose, run) })
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

// heartbeat renews the run's lease until ctx ends. It ends the run with
// [ErrLost] when the lease was taken over, or a tenth of it before it could be
// for want of an answer. From Commit on the row is locked: nobody can take the
// run over then, however long its transaction takes, and only an answer of the
// ledger ends it.
func (r *Runner) heartbeat(ctx context.Context, lose context.CancelCauseFunc, run *Run) {
	lease := r.o.Lease
	end := run.claimed.Add(lease - lease/10)
	for wait := lease / 3; ; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		begin, patience := r.now(), lease/3
		if !run.committing.Load() {
			patience = min(patience, end.Sub(begin))
		}
		limited, cancel := context.WithTimeout(ctx, patience)
		ours, err := r.ledger.renew(limited, run, lease)
		cancel()
		switch {
		case err == nil && ours:
			end, wait = begin.Add(lease-lease/10), lease/3
		case err == nil, !run.committing.Load() && !r.now().Before(end):
			lose(ErrLost)
			return
		default:
			wait = lease / 20
		}
	}
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

// message is what is kept of an error: a text that Postgres takes.
func message(err error) string {
	text := fmt.Sprint(err) // unlike Error it survives a panic
	return strings.ReplaceAll(strings.ToValidUTF8(text[:min(len(text), errorMost)], ""), "\x00", "")
}

// record writes the outcome. A run that Commit has marked done stays done
// whatever its failure: the commit's acknowledgement may have been lost. One
// that was taken over is accounted for by whoever took it.
func (r *Runner) record(ctx context.Context, j *job, run *Run, failure error, stack string, took time.Duration) {
	if failure != nil && errors.Is(context.Cause(ctx), ErrLost) {
		failure = errors.Join(ErrLost, failure)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), recordTimeout)
	defer cancel()
	o := outcome{done: failure == nil}
	attributes := append(run.attributes(), "took", took)
	if !o.done {
		o.error = message(failure)
		attributes = append(attributes, "error", o.error)
		if r.ctx.Err() == nil { // else another replica goes on at once
			o.wait = backoff(j, run.Attempt)
		}
	}
	ours, err := r.ledger.settle(r.ledger.db.Gorm(ctx), run, o)
	if err == nil && !ours {
		ours, err = r.ledger.renew(ctx, run, 0)
		o.done = ours // by Commit
	}
	switch {
	case err != nil: // it is taken over when the lease ends
		r.o.Log.ErrorContext(ctx, "the outcome of a job run could not be stored", append(attributes, "cause", err)...)
		return
	case !ours:
		r.o.Log.WarnContext(ctx, "job run lost", attributes...)
		return
	case o.done:
		r.metrics.success.Add(ctx, 1, task(j.Name))
		r.o.Log.InfoContext(ctx, "job run done", attributes...)
	default:
		if stack != "" {
			attributes = append(attributes, "stack", stack)
		}
		r.metrics.failure.Add(ctx, 1, task(j.Name))
		r.o.Log.ErrorContext(ctx, "job run failed", append(attributes, "again_in", o.wait)...)
	}
	r.metrics.duration.Record(ctx, took.Seconds(), task(j.Name))
}
