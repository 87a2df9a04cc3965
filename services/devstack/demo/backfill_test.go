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

// ledger stands in for the portfolio service: it stores at most 100 hours a
// call, and fails before the n-th of them if fail says so.
type ledger struct {
	portfoliov1.PortfolioServiceClient // nil: the other methods
	hours                              map[int64]bool
	calls                              int
	fail                               func(call int) error
}

func (l *ledger) TakeSnapshot(_ context.Context, r *portfoliov1.TakeSnapshotRequest,
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
		b.HourCount++
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

func (l *ledger) GetTimeline(context.Context, *portfoliov1.GetTimelineRequest,
	...grpc.CallOption) (*portfoliov1.GetTimelineResponse, error) {
	return &portfoliov1.GetTimelineResponse{Points: days("1", "2")}, nil
}

func TestABackfillIsGoneOnWithUntilItIsDoneOrCantBe(t *testing.T) {
	chain := errs.Unavailable("CHAIN_UNAVAILABLE", "the node keeps no old state")
	for _, tc := range []struct {
		name, text string
		had        int // hours of before
		fail       func(call int) error
		err        bool
	}{
		{"at once", "720 of 720 hours stored", 0, nil, false},
		{"again", "0 of 720 hours stored, 720 were there", 720, nil, false},
		{"after an earlier run", "420 of 720 hours stored, 300 were there", 300, nil, false},
		{"past failures that pass", "720 of 720 hours stored", 0, func(call int) error {
			if call%4 == 0 {
				return nil
			}
			return errs.Exhausted("HISTORY_READ_UNDER_WAY", "another call reads this history").After(time.Second)
		}, false},
		{"a node without old state", "0 of 720 hours stored; the others not: the node keeps no old state", 0,
			func(int) error { return chain }, false},
		{"a node that goes", "300 of 720 hours stored; the others not: the node keeps no old state", 0,
			func(call int) error {
				if call > 3 {
					return chain
				}
				return nil
			}, false},
		{"a chain that nobody set up", "0 of 720 hours stored; the others not: no node", 0,
			func(int) error { return errs.FailedPrecondition("CHAIN_NOT_CONFIGURED", "no node") }, false},
		{"a mistake of ours", "", 0, func(int) error { return errs.Internal(errors.New("broken")) }, true},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := &ledger{hours: map[int64]bool{}, fail: tc.fail}
			end := time.Now()
			for i := range tc.had {
				l.hours[end.Add(-time.Duration(720-i)*time.Hour).Add(time.Hour-1).Truncate(time.Hour).Unix()] = true
			}
			d := &driver{Clients: &Clients{Portfolios: l}, o: Options{History: 720 * time.Hour}, r: &Result{},
				ctx: t.Context()}
			text, err := d.backfill(func(string, ...any) {})
			if text != tc.text || (err != nil) != tc.err {
				t.Errorf("%s: %q, %v, %+v", tc.name, text, err, d.r.Backfill)
			}
			if !tc.err && (len(d.r.Days) != 2 || !strings.Contains(d.r.Best.String(), "+1.00 USD")) {
				t.Errorf("%s: %v, %s", tc.name, d.r.Days, d.r.Best)
			}
		})
	}
}
