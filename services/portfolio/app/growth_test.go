package app_test

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// The points of growth end where the figures of the period do, and each is the return up to its time.
func TestGrowthOverTimeChainsToTheFigures(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write", "wallet:read")
	until := time.Now().UTC().Truncate(time.Hour).Add(-time.Hour)
	from := until.Add(-100 * time.Hour)
	if _, _, err := s.backfill(ctx, from, until.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	measure := func(end time.Time, interval portfoliov1.Interval, code string) *portfoliov1.Performance {
		t.Helper()
		resp, err := s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{StartTime: timestamppb.New(from),
			EndTime: timestamppb.New(end), Currency: code, Benchmark: "eip155:137/slip44:966",
			GrowthInterval: interval})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetPerformance()
	}
	if got := measure(until, 0, "EUR").GetGrowth(); len(got) > 0 {
		t.Errorf("nobody asked for %v", got)
	}
	for interval, length := range map[portfoliov1.Interval]time.Duration{
		portfoliov1.Interval_INTERVAL_HOURLY: time.Hour, portfoliov1.Interval_INTERVAL_DAILY: 24 * time.Hour} {
		for _, code := range []string{"USD", "EUR"} {
			p := measure(until, interval, code)
			points := p.GetGrowth()
			// The first hours may be in a price gap.
			first, end := p.GetStartTime().AsTime(), p.GetEndTime().AsTime()
			want := int(end.Truncate(length).Sub(first.Truncate(length)) / length)
			if hours := int(end.Sub(first) / time.Hour); hours < 90 || len(points) < want || len(points) > want+1 {
				t.Fatalf("%v: %d points of %d hours", interval, len(points), hours)
			}
			counted := slices.DeleteFunc(slices.Clone(points), func(p *portfoliov1.GrowthPoint) bool {
				return p.GetSnapshotTime() == nil // its hour is in a price gap, or could not be read
			})
			last, of := counted[len(counted)-1], counted[len(counted)/2]
			same := func(a, b *portfoliov1.Ratio) bool {
				return a.GetUnavailableReason() == b.GetUnavailableReason() && a.GetValue() == b.GetValue()
			}
			if !same(last.GetTimeWeighted(), p.GetTimeWeighted().GetPeriod()) ||
				!same(last.GetBenchmark(), p.GetBenchmark().GetTokenReturn()) ||
				p.GetTimeWeighted().GetPeriod().Value == nil {
				t.Errorf("%v in %s: the last point is %v, the period %v and %v", interval, code, last,
					p.GetTimeWeighted(), p.GetBenchmark())
			}
			to := measure(of.GetEndTime().AsTime(), 0, code)
			if !same(of.GetTimeWeighted(), to.GetTimeWeighted().GetPeriod()) ||
				!same(of.GetBenchmark(), to.GetBenchmark().GetTokenReturn()) {
				t.Errorf("%v in %s: a point is %v, the period up to it %v", interval, code, of, to)
			}
			lowest := 0.0
			for _, point := range points {
				if d := point.GetDrawdown(); d.Value != nil && (d.GetValue() > 0 || d.GetValue() < -1) {
					t.Errorf("a drawdown of %v", d)
				}
				lowest = min(lowest, point.GetDrawdown().GetValue())
			}
			if depth := p.GetMaxDrawdown().GetDepth().GetValue(); interval == portfoliov1.Interval_INTERVAL_DAILY &&
				lowest < depth {
				t.Errorf("a point is %v below the peak, the largest drawdown is %v", lowest, depth)
			}
		}
	}
	_, err := s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{GrowthInterval: 1,
		StartTime: timestamppb.New(until.AddDate(-1, 0, 0))})
	servicetest.WantViolation(t, err, "growth_interval")
}
