package app_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// backfill backfills [start, end) in as many calls as it takes, and returns how many
// snapshots were stored.
func (s service) backfill(ctx context.Context, start, end time.Time) (stored, incomplete int, err error) {
	for next := timestamppb.New(start); next != nil; {
		resp, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: next,
			EndTime: timestamppb.New(end)})
		if err != nil {
			return stored, incomplete, err
		}
		b := resp.GetBackfill()
		stored, incomplete, next = stored+int(b.GetStoredCount()), incomplete+int(b.GetIncompleteCount()),
			b.GetNextStartTime()
		if resp.GetStored() != (b.GetStoredCount() > 0) || resp.GetStored() != (resp.GetSnapshot() != nil) ||
			(next == nil) != (b.GetRemainingCount() == 0) {
			return stored, incomplete, fmt.Errorf("answered %v", resp)
		}
	}
	return stored, incomplete, nil
}

// snapshotLines are the caller's snapshots as lines, oldest first.
func (s service) snapshotLines(ctx context.Context, t *testing.T) (lines []string) {
	t.Helper()
	for token := ""; ; {
		resp, err := s.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PageSize: 500, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, snap := range resp.GetSnapshots() {
			bucket := snap.GetBucketTime().AsTime()
			if !snap.GetBackfilled() || !snap.GetSnapshotTime().AsTime().Equal(bucket) {
				t.Errorf("%v", snap)
			}
			lines = append(lines, fmt.Sprint(bucket.Unix(), snap.GetTotal(), snap.GetComplete(),
				snap.GetPositionCount(), snap.GetUnpricedCount()))
		}
		if token = resp.GetNextPageToken(); token == "" {
			slices.Reverse(lines)
			return lines
		}
	}
}

// pastHours is the range of the last n full hours.
func pastHours(n int) (start, end time.Time) {
	end = time.Now().UTC().Truncate(time.Hour)
	return end.Add(-time.Duration(n) * time.Hour), end
}

func TestABackfillStoresWhatWasHeldAtThePricesOfThatTime(t *testing.T) {
	t.Parallel()
	s := start(t)
	user := uuid.New()
	ctx, token := s.as(t, user, "portfolio:read", "portfolio:write")
	from, until := pastHours(700)
	stored, incomplete, err := s.backfill(ctx, from, until)
	if err != nil || stored != 700 {
		t.Fatal(stored, err)
	}
	for i, line := range s.snapshotLines(ctx, t) {
		h := from.Add(time.Duration(i) * time.Hour)
		total, complete := expectedTotal(h)
		if !complete {
			incomplete--
		}
		if want := fmt.Sprint(h.Unix(), total, complete); !strings.HasPrefix(line, want) {
			t.Errorf("hour %d is %s, want %s", i, line, want)
		}
	}
	if incomplete != 0 {
		t.Errorf("%d more are called incomplete than are", incomplete)
	}
	if s.wallet.lastToken() != token {
		t.Error("the wallet service was called in another's name")
	}
	// What is complete is not read again.
	clear(s.wallet.history.read)
	if stored, _, err := s.backfill(ctx, from, until); err != nil || stored != 0 {
		t.Errorf("once more: %d stored, %v", stored, err)
	}
	for unix := range s.wallet.history.read {
		if _, complete := expectedTotal(time.Unix(unix, 0)); complete {
			t.Errorf("%s was read again", time.Unix(unix, 0).UTC())
		}
	}
	other, _ := s.newUser(t, "portfolio:read")
	if got := s.snapshotLines(other, t); len(got) > 0 {
		t.Errorf("another user has %v", got)
	}
}

// The wallet service fails and callers cancel: when the backfill is continued, it ends
// with the same snapshots as an undisturbed one.
func TestABackfillThatIsInterruptedCanBeContinued(t *testing.T) {
	t.Parallel()
	from, until := pastHours(300)
	undisturbed := start(t)
	caller, _ := undisturbed.newUser(t, "portfolio:read", "portfolio:write")
	if _, _, err := undisturbed.backfill(caller, from, until); err != nil {
		t.Fatal(err)
	}
	want := undisturbed.snapshotLines(caller, t)

	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	cut := from.Add(57 * time.Hour)
	s.wallet.history.fail = func(h time.Time) error {
		if h.Before(cut) {
			return nil
		}
		return status.Error(codes.Unavailable, "dead")
	}
	resp, err := s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until)})
	// 49 of 57: nothing is known of the page that failed, on which the hour before it
	// might have continued.
	if b := resp.GetBackfill(); err != nil || b.GetStoredCount() != 49 || b.GetProcessedCount() != 49 ||
		b.GetRemainingCount() != 251 {
		t.Fatalf("%v, %v", resp, err)
	}
	_, err = s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{StartTime: resp.GetBackfill().GetNextStartTime(),
		EndTime: timestamppb.New(until)})
	if e := errs.As(err); e == nil || e.Kind != errs.KindUnavailable || e.Reason != "WALLET_UNAVAILABLE" {
		t.Fatalf("answered %v", err)
	}
	// The caller cancels the call while the wallet service is read, which ends the
	// transaction too.
	canceled, cancel := context.WithCancel(ctx)
	s.wallet.history.fail = func(h time.Time) error {
		if h.After(from.Add(150 * time.Hour)) {
			cancel()
			<-canceled.Done()
		}
		return nil
	}
	if _, err := s.TakeSnapshot(canceled, &portfoliov1.TakeSnapshotRequest{StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until)}); err == nil {
		t.Error("a canceled call is answered")
	}
	s.wallet.history.mu.Lock()
	s.wallet.history.fail = nil
	s.wallet.history.mu.Unlock()
	if _, _, err := s.backfill(ctx, from, until); err != nil {
		t.Fatal(err)
	}
	if got := s.snapshotLines(ctx, t); !slices.Equal(got, want) {
		t.Errorf("%d hours, undisturbed %d:\n%v\n%v", len(got), len(want), got, want)
	}
}

func TestTwoBackfillsOfARangeAtOnceEndWithTheSameRows(t *testing.T) {
	r := startReplicas(t)
	ctx, _ := r.A.newUser(t, "portfolio:read", "portfolio:write")
	from, until := pastHours(200)
	if got := r.B.lastClose(ctx, t); got != [2]string{} {
		t.Fatal(got)
	}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			s := r.A
			if i%2 == 1 {
				s = r.B
			}
			if _, _, err := s.backfill(ctx, from, until); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	lines := r.A.snapshotLines(ctx, t)
	if len(lines) != 200 {
		t.Fatalf("%d hours", len(lines))
	}
	for i, line := range lines {
		total, complete := expectedTotal(from.Add(time.Duration(i) * time.Hour))
		if want := fmt.Sprint(from.Add(time.Duration(i)*time.Hour).Unix(), total, complete); !strings.HasPrefix(line,
			want) {
			t.Errorf("hour %d is %s, want %s", i, line, want)
		}
	}
	// The timeline that the other replica had cached shows them.
	total, _ := expectedTotal(until.Add(-time.Hour))
	r.WantFresh(t, "the other answers", fmt.Sprint([2]string{total, total}),
		func() string { return fmt.Sprint(r.B.lastClose(ctx, t)) })
}

func TestARangeThatBreaksARuleNamesItsField(t *testing.T) {
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:write")
	now := time.Now()
	ts := timestamppb.New
	for name, tc := range map[string]struct {
		request *portfoliov1.TakeSnapshotRequest
		field   string
	}{
		"no end":   {&portfoliov1.TakeSnapshotRequest{StartTime: ts(now)}, "end_time"},
		"no start": {&portfoliov1.TakeSnapshotRequest{EndTime: ts(now)}, "start_time"},
		"an end before": {&portfoliov1.TakeSnapshotRequest{StartTime: ts(now), EndTime: ts(now.Add(-time.Hour))},
			"start_time"},
		"the future": {&portfoliov1.TakeSnapshotRequest{StartTime: ts(now), EndTime: ts(now.Add(time.Hour))},
			"end_time"},
		"six years": {&portfoliov1.TakeSnapshotRequest{StartTime: ts(now.AddDate(-6, 0, 0)),
			EndTime: ts(now)}, "start_time"},
		"a start that isn't": {&portfoliov1.TakeSnapshotRequest{StartTime: &timestamppb.Timestamp{Seconds: 1 << 60},
			EndTime: ts(now)}, "start_time"},
		"an end that isn't": {&portfoliov1.TakeSnapshotRequest{StartTime: ts(now),
			EndTime: &timestamppb.Timestamp{Nanos: -1}}, "end_time"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.TakeSnapshot(ctx, tc.request)
			servicetest.WantViolation(t, err, tc.field)
		})
	}
	mine, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	p, err := s.GetPortfolio(mine, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.TakeSnapshot(ctx, &portfoliov1.TakeSnapshotRequest{PortfolioId: p.GetPortfolio().GetId(),
		StartTime: ts(now.Add(-time.Hour)), EndTime: ts(now)})
	servicetest.WantError(t, err, errs.KindNotFound, "NOT_FOUND")
	if s.wallet.history.calls > 0 {
		t.Error("the wallet service was asked")
	}
}
