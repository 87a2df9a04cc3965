package app_test

import (
	"context"
	"fmt"
	"runtime"
	"testing"
	"time"

	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// maxDashboardTime bounds the calls of one dashboard, with the race detector on a busy machine.
const maxDashboardTime = 8 * time.Second

// longHistoryHours is five years: the longest range of a timeline.
const longHistoryHours = 5 * 365 * 24

// withLongHistory stores hours with so many flows for a new user, and returns the start of a range that has them.
func (s service) withLongHistory(t *testing.T, flows int) (context.Context, *timestamppb.Timestamp) {
	t.Helper()
	ctx, _ := s.newUser(t, "portfolio:read")
	mine, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	end := time.Now().UTC().Truncate(time.Hour)
	s.exec(t, fmt.Sprintf(`INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq, total, complete,
		position_count, incomplete_wallet_count, unpriced_count, stale_price_count, backfilled, measurable, net_flow,
		membership)
		SELECT '%s', at, at, 0, 100000 + n, true, 20, 0, 0, 0, false, true,
		       CASE WHEN n %% 3 = 0 AND n < %d THEN 5 ELSE 0 END, 1
		FROM generate_series(0, %d) AS n, LATERAL (SELECT '%s'::timestamptz - n * interval '1 hour') AS instant (at)`,
		mine.GetPortfolio().GetId(), 3*flows, longHistoryHours-1, end.Format(time.RFC3339)))
	s.exec(t, "ANALYZE")
	return ctx, timestamppb.New(end.Add(-(longHistoryHours - 2) * time.Hour))
}

// measure runs calls, and returns how long they took and how many MiB were allocated meanwhile.
func measure(calls func()) (took time.Duration, allocated uint64) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begun := time.Now()
	calls()
	took = time.Since(begun)
	runtime.ReadMemStats(&after)
	return took.Round(time.Millisecond), (after.TotalAlloc - before.TotalAlloc) >> 20
}

// dashboard makes the calls of a dashboard of the whole history.
func (s service) dashboard(ctx context.Context, t *testing.T, from *timestamppb.Timestamp, flows int) {
	t.Helper()
	points, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{StartTime: from, Limit: 5000,
		Interval: portfoliov1.Interval_INTERVAL_DAILY})
	if err != nil || len(points.GetPoints()) < 1800 {
		t.Errorf("%d points, %v", len(points.GetPoints()), err)
	}
	if _, err := s.GetKpi(ctx, &portfoliov1.GetKpiRequest{}); err != nil {
		t.Error(err)
	}
	perf, err := s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{StartTime: from})
	if err != nil || int(perf.GetPerformance().GetFlowCount()) < flows-1 {
		t.Errorf("%v, %v", perf, err)
	}
}

// longestCheck checks the health until the returned function is called, which returns how long the longest check took.
func (s service) longestCheck(ctx context.Context, t *testing.T) func() time.Duration {
	checks, stop := make(chan time.Duration), make(chan struct{})
	go func() {
		longest := time.Duration(0)
		defer func() { checks <- longest }()
		for {
			select {
			case <-stop:
				return
			default:
			}
			begun := time.Now()
			if _, err := s.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{}); err != nil {
				t.Error(err)
				return
			}
			longest = max(longest, time.Since(begun))
		}
	}()
	return func() time.Duration { close(stop); return (<-checks).Round(time.Millisecond) }
}

// ghostfolio#7931: a history of 1,900 activities takes 16 s, blocks the health check for 10 s meanwhile, and is
// computed several times for a page.
func TestALongHistoryBlocksNoHealthCheck(t *testing.T) {
	const flows = 1900
	s := start(t)
	ctx, from := s.withLongHistory(t, flows)
	longest := s.longestCheck(ctx, t)
	took, allocated := measure(func() {
		for range 3 {
			s.dashboard(ctx, t, from, flows)
		}
	})
	check := longest()
	testkit.Figure(t, "three dashboards of %d hours and %d flows: %s (limit 24s), %d MiB allocated; the longest "+
		"health check took %s (limit 2s)",
		longHistoryHours, flows, took, allocated, check)
	if took > 3*maxDashboardTime || check > 2*time.Second {
		t.Error("that is too long")
	}
}

// ghostfolio#6914: a history of 14,400 activities stalls, needs more than 20 GB, and every page is an error then.
func TestAHistoryOfManyFlowsIsAnswered(t *testing.T) {
	const flows = 14_400
	s := start(t)
	ctx, from := s.withLongHistory(t, flows)
	took, allocated := measure(func() { s.dashboard(ctx, t, from, flows) })
	testkit.Figure(t, "a dashboard of %d hours and %d flows: %s (limit 8s), %d MiB allocated (limit 512)",
		longHistoryHours, flows, took, allocated)
	if took > maxDashboardTime || allocated > 512 {
		t.Error("that is too long, or too much")
	}
}

// wealthfolio#1347: the figures of a dashboard take more than 30 s of a long history, and 2 GB.
func TestTheKpiOfALongHistoryAreQuick(t *testing.T) {
	s := start(t)
	ctx, _ := s.withLongHistory(t, 14_400)
	took, allocated := measure(func() {
		if k, err := s.GetKpi(ctx, &portfoliov1.GetKpiRequest{}); err != nil ||
			k.GetKpi().GetChanges()[6].GetNetRatio().GetValue() == "" {
			t.Error(k, err)
		}
	})
	testkit.Figure(t, "the key figures of %d hours: %s (limit 8s), %d MiB allocated (limit 256)", longHistoryHours,
		took, allocated)
	if took > maxDashboardTime || allocated > 256 {
		t.Error("that is too long, or too much")
	}
}
