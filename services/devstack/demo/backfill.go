package demo

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/progress"
)

// Backfill is the result of the backfill of the portfolio's history.
type Backfill struct {
	// Hours of the range; those processed; of these, the snapshots that this run stored, and the
	// incomplete ones among them.
	Hours, Done, Stored, Incomplete int
	// StopReason is set if the backfill stopped early, for example at a node without historical state.
	StopReason string
}

const (
	// maxRetries limits the failed calls, or calls without progress, in a row.
	maxRetries = 5
	// requestRange is the part of the history of one call, so that progress can be shown.
	requestRange = 45 * 24 * time.Hour
)

// backfill takes snapshots for the past hours that have no complete one. History that is unavailable,
// as from a node without historical state, is reported and is no error.
func (d *driver) backfill(note progress.Note) (string, error) {
	begun := time.Now()
	end := begun.UTC().Truncate(time.Hour) // the current hour has a snapshot already
	b := &Backfill{Hours: int(d.options.History / time.Hour)}
	d.result.Backfill = b
	for next, failed := end.Add(-d.options.History), 0; next.Before(end); {
		note("%d of %d hours%s", b.Done, b.Hours, b.remaining(time.Since(begun)))
		until := next.Add(requestRange)
		if until.After(end) {
			until = end
		}
		resp, err := d.Portfolios.TakeSnapshot(d.ctx,
			&portfoliov1.TakeSnapshotRequest{StartTime: timestamppb.New(next), EndTime: timestamppb.New(until)})
		p := resp.GetBackfill()
		switch {
		case err == nil && (p.GetProcessedCount() > 0 || p.GetRemainingCount() == 0):
			failed = 0
		case failed < maxRetries && (err == nil || d.waitToRetry(err)):
			failed++
			continue
		case err == nil:
			b.StopReason = "no progress"
		case errs.Is(err, errs.KindUnavailable), errs.Is(err, errs.KindFailedPrecondition),
			errs.Is(err, errs.KindExhausted):
			b.StopReason = errs.As(err).Message
		default:
			return "", err
		}
		if b.StopReason != "" {
			break
		}
		b.Done, b.Stored, b.Incomplete = b.Done+int(p.GetProcessedCount()), b.Stored+int(p.GetStoredCount()),
			b.Incomplete+int(p.GetIncompleteCount())
		if next = until; p.GetNextStartTime() != nil {
			next = p.GetNextStartTime().AsTime()
		}
	}
	return b.text(), d.readDays(begun)
}

// remaining estimates the remaining time; "" before the first progress.
func (b *Backfill) remaining(elapsed time.Duration) string {
	if b.Done == 0 {
		return ""
	}
	remaining := elapsed * time.Duration(b.Hours-b.Done) / time.Duration(b.Done)
	return fmt.Sprintf(", about %s left", remaining.Round(time.Second))
}

func (b *Backfill) text() string {
	text := fmt.Sprintf("%d of %d hours stored", b.Stored, b.Hours)
	if b.Incomplete > 0 {
		text += fmt.Sprintf(", %d incomplete", b.Incomplete)
	}
	if existing := b.Done - b.Stored; existing > 0 {
		text += fmt.Sprintf(", %d existed", existing)
	}
	if b.StopReason != "" {
		text += "; stopped: " + b.StopReason
	}
	return text
}

// waitToRetry waits for the delay that the error asks for. It returns false if the error is not
// retryable or ctx ends.
func (d *driver) waitToRetry(err error) bool {
	e := errs.As(err)
	if e == nil || e.RetryAfter == 0 {
		return false
	}
	return deadline.Pause(d.ctx, e.RetryAfter) == nil
}

// readDays reads the value of each day of the range, in UTC.
func (d *driver) readDays(end time.Time) error {
	resp, err := d.Portfolios.GetTimeline(d.ctx, &portfoliov1.GetTimelineRequest{
		Interval: portfoliov1.Interval_INTERVAL_DAILY, StartTime: timestamppb.New(end.Add(-d.options.History)),
		EndTime: timestamppb.New(end),
	})
	if err != nil {
		return err
	}
	d.result.Days = resp.GetPoints()
	d.result.Best, d.result.Worst, err = extremes(d.result.Days)
	return err
}
