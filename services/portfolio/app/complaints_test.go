package app_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// What users of other portfolio trackers complain of, and of what is not tested elsewhere under its own name. The
// reports are named by their projects and numbers.

// pastOf stores hours of a portfolio, each with the wallets that it is given.
func (s service) pastOf(ctx context.Context, t *testing.T, from time.Time, hours ...[]ownedWallet) {
	t.Helper()
	for i, own := range hours {
		s.wallet.setOwned(own...)
		at := from.Add(time.Duration(i) * time.Hour)
		if stored, _, err := s.backfill(ctx, at, at.Add(time.Hour)); err != nil || stored != 1 {
			t.Fatal(stored, err)
		}
	}
}

// ghostfolio#6187: a large holding that is added makes a spike in the performance.
func TestAnAddedHoldingIsAFlowAndNoSpike(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	id := uuid.NewString()
	held := func(price, second string) []ownedWallet {
		return []ownedWallet{{id: id, amount: "100", price: price, second: second}}
	}
	from, until := pastHours(5)
	s.pastOf(ctx, t, from, held("2", ""), held("2", ""), held("2", "40000"), held("2.2", "40000"),
		held("2.2", "40000"))
	if got := s.chart(ctx, t, "", from, until); got != "200 200 200200 200220 200220" {
		t.Fatalf("the chart is %s", got)
	}
	resp, err := s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until), GrowthInterval: portfoliov1.Interval_INTERVAL_HOURLY})
	p := resp.GetPerformance()
	if err != nil || whole(p.GetInflow()) != "200000" || whole(p.GetOutflow()) != "0" || whole(p.GetGain()) != "20" {
		t.Fatalf("%v, %v", p, err)
	}
	const want = 20. / 200_200
	if got := p.GetTimeWeighted().GetPeriod().GetValue(); got < want-1e-12 || got > want+1e-12 {
		t.Errorf("the return is %v, want that of the price, %v", got, want)
	}
	for _, point := range p.GetGrowth() {
		if got := point.GetTimeWeighted().GetValue(); got > want+1e-12 {
			t.Errorf("the growth has a spike: %v", point)
		}
	}
}

// rotki#2613: a balance of zero was not stored, so the chart went on with the one before.
func TestABalanceThatBecomesZeroIsInTheChart(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	kept, sold := uuid.NewString(), uuid.NewString()
	both := func(amount string) []ownedWallet {
		return []ownedWallet{{id: kept, amount: "1"}, {id: sold, amount: amount}}
	}
	from, until := pastHours(5)
	s.pastOf(ctx, t, from, both("10"), both("0"), both("0"), both("7"), both("0"))
	if got := s.chart(ctx, t, "", from, until); got != "22 2 2 16 2" {
		t.Errorf("the chart is %s", got)
	}
	v, err := s.GetValuation(ctx, &portfoliov1.GetValuationRequest{AsOfTime: timestamppb.New(from.Add(2 * time.Hour))})
	if err != nil || whole(v.GetValuation().GetTotal()) != "2" {
		t.Errorf("%v, %v", v, err)
	}
}

// ghostfolio#7795: an entry near midnight was in no day, for users of another zone. Every hour is in exactly one point
// of each zone and interval, and no flow is lost, also where clocks change.
func TestNoHourIsLostAtMidnightInAnyZone(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read")
	mine, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, around := range []string{"2025-03-30", "2025-10-26", "2024-02-29", "2021-01-01"} {
		middle, err := time.Parse(time.DateOnly, around)
		if err != nil {
			t.Fatal(err)
		}
		from, until := middle.AddDate(0, 0, -40), middle.AddDate(0, 0, 40)
		hours := int32(until.Sub(from) / time.Hour)
		s.exec(t, fmt.Sprintf(`DELETE FROM snapshots; INSERT INTO snapshots (portfolio_id, bucket, snapshot_time,
			price_seq, total, complete, position_count, incomplete_wallet_count, unpriced_count, stale_price_count,
			backfilled, measurable, net_flow, membership)
			SELECT '%s', at, at, 0, 1000, true, 1, 0, 0, 0, false, true, 1, 1
			FROM generate_series('%s'::timestamptz, '%s'::timestamptz - interval '1 hour', '1 hour') AS at`,
			mine.GetPortfolio().GetId(), from.Format(time.RFC3339), until.Format(time.RFC3339)))
		for _, zone := range []string{"UTC", "Europe/Zurich", "America/New_York", "Asia/Kathmandu", "Pacific/Chatham",
			"Australia/Lord_Howe", "Pacific/Kiritimati"} {
			for _, interval := range []portfoliov1.Interval{portfoliov1.Interval_INTERVAL_HOURLY,
				portfoliov1.Interval_INTERVAL_DAILY, portfoliov1.Interval_INTERVAL_WEEKLY,
				portfoliov1.Interval_INTERVAL_MONTHLY} {
				resp, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{StartTime: timestamppb.New(from),
					EndTime: timestamppb.New(until), TimeZone: zone, Interval: interval, Limit: 5000})
				if err != nil {
					t.Fatal(err)
				}
				count, flow := int32(0), 0
				for _, p := range resp.GetPoints() {
					count += p.GetSnapshotCount()
					var of int
					if _, err := fmt.Sscan(p.GetNetFlow(), &of); err != nil {
						t.Fatalf("%s: %v", p.GetNetFlow(), err)
					}
					flow += of
				}
				if count != hours || flow != int(hours) {
					t.Errorf("%s, %s, %s: %d of %d hours, and flows of %d", around, zone, interval, count, hours, flow)
				}
			}
		}
	}
}
