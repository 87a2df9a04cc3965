package demo

import (
	"fmt"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/progress"
)

// Backfill is what the filling in of the portfolio's history came to.
type Backfill struct {
	// Hours of the range, those that were done, those of them that this run stored,
	// and stored incomplete.
	Hours, Done, Stored, Incomplete int
	// Why some were not done: a node that keeps no old state, say.
	Why string
}

const (
	// tries is how often in a row a call may fail for a while, or come nowhere.
	tries = 5
	// stretch is what one call is asked for, so that there is something to tell.
	stretch = 10 * 24 * time.Hour
)

// backfill fills in the hours of the past that have no complete snapshot. That
// they can't be had, as from a node without old state, is told and no failure.
func (d *driver) backfill(note progress.Note) (string, error) {
	begun := time.Now()
	end := begun.UTC().Truncate(time.Hour) // the hour that it is has a snapshot of its own
	b := &Backfill{Hours: int(d.o.History / time.Hour)}
	d.r.Backfill = b
	for next, failed := end.Add(-d.o.History), 0; next.Before(end); {
		note("%d of %d hours%s", b.Done, b.Hours, b.left(time.Since(begun)))
		until := next.Add(stretch)
		if until.After(end) {
			until = end
		}
		resp, err := d.Portfolios.TakeSnapshot(d.ctx,
			&portfoliov1.TakeSnapshotRequest{StartTime: timestamppb.New(next), EndTime: timestamppb.New(until)})
		p := resp.GetBackfill()
		switch {
		case err == nil && (p.GetProcessedCount() > 0 || p.GetRemainingCount() == 0):
			failed = 0
		case failed < tries && (err == nil || d.soon(err)):
			failed++
			continue
		case err == nil:
			b.Why = "no progress"
		case errs.Is(err, errs.KindUnavailable), errs.Is(err, errs.KindFailedPrecondition),
			errs.Is(err, errs.KindExhausted):
			b.Why = errs.As(err).Message
		default:
			return "", err
		}
		if b.Why != "" {
			break
		}
		b.Done, b.Stored, b.Incomplete = b.Done+int(p.GetProcessedCount()), b.Stored+int(p.GetStoredCount()),
			b.Incomplete+int(p.GetIncompleteCount())
		if next = until; p.GetNextStartTime() != nil {
			next = p.GetNextStartTime().AsTime()
		}
	}
	return b.text(), d.days(begun)
}

// left says how long the rest takes; "" before anything is known of that.
func (b *Backfill) left(took time.Duration) string {
	if b.Done == 0 {
		return ""
	}
	rest := took * time.Duration(b.Hours-b.Done) / time.Duration(b.Done)
	return fmt.Sprintf(", about %s to go", rest.Round(time.Second))
}

func (b *Backfill) text() string {
	text := fmt.Sprintf("%d of %d hours stored", b.Stored, b.Hours)
	if b.Incomplete > 0 {
		text += fmt.Sprintf(", %d incomplete", b.Incomplete)
	}
	if kept := b.Done - b.Stored; kept > 0 {
		text += fmt.Sprintf(", %d were there", kept)
	}
	if b.Why != "" {
		text += "; the others not: " + b.Why
	}
	return text
}

// soon waits as long as a failure asks for, and is false when it says that
// trying again doesn't help.
func (d *driver) soon(err error) bool {
	e := errs.As(err)
	if e == nil || e.RetryAfter == 0 {
		return false
	}
	timer := time.NewTimer(e.RetryAfter)
	defer timer.Stop()
	select {
	case <-d.ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// days reads the value of each day of the range, in UTC.
func (d *driver) days(end time.Time) error {
	resp, err := d.Portfolios.GetTimeline(d.ctx, &portfoliov1.GetTimelineRequest{
		Interval: portfoliov1.Interval_INTERVAL_DAILY, StartTime: timestamppb.New(end.Add(-d.o.History)),
		EndTime: timestamppb.New(end),
	})
	if err != nil {
		return err
	}
	d.r.Days = resp.GetPoints()
	d.r.Best, d.r.Worst, err = extremes(d.r.Days)
	return err
}
