package rpc_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/wallet/internal/rpc"
)

func TestRangesOfHistoryThatAreRefused(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	hours := func(start, end time.Time) (from, until time.Time, err error) {
		return rpc.HistoryHours(timestamppb.New(start), timestamppb.New(end), now)
	}
	for _, tc := range []struct {
		name       string
		start, end time.Time
		field      string
	}{
		{"an hour", now.Add(-time.Hour), now, ""},
		{"five years", now.AddDate(-5, 0, 0), now, ""},
		{"an end at its start", now, now, "start_time"},
		{"an end before its start", now, now.Add(-time.Hour), "start_time"},
		{"a future end", now.Add(-time.Hour), now.Add(time.Nanosecond), "end_time"},
		{"more than five years", now.AddDate(-5, 0, 0).Add(-time.Nanosecond), now, "start_time"},
		{"before there were chains", time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC),
			time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), "start_time"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, _, err := hours(tc.start, tc.end)
			if tc.field == "" && err != nil ||
				tc.field != "" && (errs.As(err) == nil || errs.As(err).Violations[0].Field != tc.field) {
				t.Errorf("answered %v", err)
			}
		})
	}
	from, until, err := hours(now.Add(-2*time.Hour+time.Second), now.Add(-time.Second))
	if err != nil || !from.Equal(now.Add(-time.Hour)) || !until.Equal(now) {
		t.Errorf("from %s until %s, %v", from, until, err)
	}
}
