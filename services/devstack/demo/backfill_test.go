package demo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// fakePortfolio is a portfolio service that stores at most 100 hours per call. fail, if set, gives the
// error of a call by its number.
type fakePortfolio struct {
	portfoliov1.PortfolioServiceClient // nil: the other methods
	hours                              map[int64]bool
	calls                              int
	fail                               func(call int) error
}

func (l *fakePortfolio) TakeSnapshot(_ context.Context, r *portfoliov1.TakeSnapshotRequest,
	_ ...grpc.CallOption) (*portfoliov1.TakeSnapshotResponse, error) {
	l.calls++
	if l.fail != nil {
		if err := l.fail(l.calls); err != nil {
			return nil, err
		}
	}
	b := &portfoliov1.BackfillProgress{}
	h := r.GetStartTime().AsTime().Add(time.Hour - 1).Truncate(time.Hour)
	for ; h.Before(r.GetEndTime().AsTime()) && b.StoredCount < 100; h = h.Add(time.Hour) {
		b.ProcessedCount++
		if !l.hours[h.Unix()] {
			l.hours[h.Unix()] = true
			b.StoredCount++
		}
	}
	if h.Before(r.GetEndTime().AsTime()) {
		b.NextStartTime, b.RemainingCount = timestamppb.New(h), 1
	}
	return &portfoliov1.TakeSnapshotResponse{Backfill: b}, nil
}

func (l *fakePortfolio) GetTimeline(context.Context, *portfoliov1.GetTimelineRequest,
	...grpc.CallOption) (*portfoliov1.GetTimelineResponse, error) {
	return &portfoliov1.GetTimelineResponse{Points: days("1", "2")}, nil
}

func TestABackfillContinuesUntilItIsDoneOrImpossible(t *testing.T) {
	chain := errs.Unavailable("CHAIN_UNAVAILABLE", "the node keeps no old state")
	for _, tc := range []struct {
		name, text string
		existing   int // hours stored before
		fail       func(call int) error
		err        bool
	}{
		{"at once", "720 of 720 hours stored", 0, nil, false},
		{"again", "0 of 720 hours stored, 720 existed", 720, nil, false},
		{"after an earlier run", "420 of 720 hours stored, 300 existed", 300, nil, false},
		{"with temporary failures", "720 of 720 hours stored", 0, func(call int) error {
			if call%4 == 0 {
				return nil
			}
			return errs.Exhausted("HISTORY_READ_UNDER_WAY", "another call reads this history").After(time.Second)
		}, false},
		{"a node without historical state", "0 of 720 hours stored; stopped: the node keeps no old state", 0,
			func(int) error { return chain }, false},
		{"a node that becomes unavailable", "300 of 720 hours stored; stopped: the node keeps no old state", 0,
			func(call int) error {
				if call > 3 {
					return chain
				}
				return nil
			}, false},
		{"a chain that is not configured", "0 of 720 hours stored; stopped: no node", 0,
			func(int) error { return errs.FailedPrecondition("CHAIN_NOT_CONFIGURED", "no node") }, false},
		{"an internal error", "", 0, func(int) error { return errs.Internal(errors.New("broken")) }, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := &fakePortfolio{hours: map[int64]bool{}, fail: tc.fail}
			end := time.Now()
			for i := range tc.existing {
				hour := end.Add(-time.Duration(720-i) * time.Hour).Add(time.Hour - 1).Truncate(time.Hour)
				l.hours[hour.Unix()] = true
			}
			d := &driver{
				Clients: &Clients{Portfolios: l}, options: Options{History: 720 * time.Hour},
				result: &Result{}, ctx: t.Context(),
			}
			text, err := d.backfill(func(string, ...any) {})
			if text != tc.text || (err != nil) != tc.err {
				t.Errorf("%s: %q, %v, %+v", tc.name, text, err, d.result.Backfill)
			}
			if !tc.err && (len(d.result.Days) != 2 || !strings.Contains(d.result.Best.String(), "+1.00 USD")) {
				t.Errorf("%s: %v, %s", tc.name, d.result.Days, d.result.Best)
			}
		})
	}
}
