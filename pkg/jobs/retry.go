package jobs

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// maxBackoff bounds the default backoff, and is the wait when a job's own
	// Backoff panics.
	maxBackoff    = time.Hour
	backoffStep   = time.Minute
	maxErrorBytes = 2000 // of an error that the ledger stores
)

// errLeaseExpired is stored for an attempt whose replica no longer renewed its
// lease: its process has died or was paused for too long.
var errLeaseExpired = errors.New("the lease expired")

// outcome is how an attempt ended: the run is done, or due again after a wait.
type outcome struct {
	done       bool
	retryAfter time.Duration // when not done
	error      string
	crashes    int // to add to the run's
}

// defaultBackoff grows by a minute with each attempt, from two minutes after
// the first to an hour. Runs of one job don't wait for each other, and a shard
// has one run at a time, so it needs no jitter; for ticks there is [Job.Jitter].
func defaultBackoff(attempt int) time.Duration {
	return min(maxBackoff, time.Duration(attempt+1)*backoffStep)
}

// backoff calls Job.Backoff; it returns maxBackoff if that panics.
func (j *job) backoff(attempt int) (wait time.Duration) {
	defer func() {
		if recover() != nil {
			wait = maxBackoff
		}
	}()
	return j.Backoff(attempt)
}

// afterFailure retries a run that returned an error, or panicked, after the
// job's backoff. During a shutdown the run is due at once, for another replica.
func (j *job) afterFailure(run *Run, failure error, shuttingDown bool) outcome {
	o := outcome{error: storedError(failure)}
	if !shuttingDown {
		o.retryAfter = j.backoff(run.Attempt)
	}
	return o
}

// afterCrash retries a run whose lease has expired: at once after the first
// crash, then after the job's backoff, so that a run which kills its process
// doesn't kill one replica after the other.
func (j *job) afterCrash(run *Run) outcome {
	o := outcome{error: errLeaseExpired.Error(), crashes: 1}
	if run.Crashes > 0 {
		o.retryAfter = j.backoff(run.Attempt)
	}
	return o
}

// storedError is an error's text as the ledger stores it: at most maxErrorBytes
// of valid UTF-8 without NUL, which Postgres refuses.
func storedError(err error) string {
	text := fmt.Sprint(err) // unlike Error it survives a panic
	return strings.ReplaceAll(strings.ToValidUTF8(text[:min(len(text), maxErrorBytes)], ""), "\x00", "")
}
