package app_test

import (
	"context"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/testkit"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
)

// plainHour is a row of snapshots.
type plainHour struct {
	at    time.Time
	total *big.Rat
	flow  *big.Rat // nil for none
}

// withRandomHours stores hours of the caller up to now, with gaps, and returns them oldest first.
func (s service) withRandomHours(ctx context.Context, t *testing.T, r *rand.Rand) (hours []plainHour) {
	t.Helper()
	mine, err := s.GetPortfolio(ctx, &portfoliov1.GetPortfolioRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var rows []string
	from, until := pastHours(1 + r.IntN(600))
	present := r.Float64()
	for at := from; at.Before(until); at = at.Add(time.Hour) {
		if r.Float64() > present && len(hours) > 0 {
			continue
		}
		h, flow := plainHour{at: at, total: big.NewRat(r.Int64N(2e15)-5e14, 1e8)}, "NULL"
		if r.IntN(4) > 0 {
			h.flow = big.NewRat(r.Int64N(2e12)-1e12, 1e8)
			flow = h.flow.FloatString(8)
		}
		hours = append(hours, h)
		rows = append(rows, fmt.Sprintf(`('%s', '%s', '%[2]s', 0, %s, 5000000, true, 1, 0, 0, 0, false, true, %s, 1)`,
			mine.GetPortfolio().GetId(), at.Format(time.RFC3339), h.total.FloatString(8), flow))
	}
	s.exec(t, `INSERT INTO snapshots (portfolio_id, bucket, snapshot_time, price_seq, total, liabilities, complete,
		position_count, incomplete_wallet_count, unpriced_count, stale_price_count, backfilled, measurable, net_flow,
		membership)
		VALUES `+strings.Join(rows, ", "))
	return hours
}

// pointOf is what the hours of a point make of it: open, close, lowest, highest, net flow and count. Without any it
// has the last total before.
func pointOf(hours []plainHour, p *portfoliov1.TimelinePoint) string {
	var first, last, lowest, highest, flow, before *big.Rat
	count := 0
	for _, h := range hours {
		switch {
		case h.at.Before(p.GetStartTime().AsTime()):
			before = h.total
			continue
		case !h.at.Before(p.GetEndTime().AsTime()):
			continue
		}
		if count++; count == 1 {
			first, lowest, highest = h.total, h.total, h.total
		}
		if last = h.total; last.Cmp(lowest) < 0 {
			lowest = last
		}
		if last.Cmp(highest) > 0 {
			highest = last
		}
		if h.flow != nil {
			if flow == nil {
				flow = new(big.Rat)
			}
			flow.Add(flow, h.flow)
		}
	}
	if count == 0 {
		first, last, lowest, highest = before, before, before, before
	}
	return fmt.Sprint(first, last, lowest, highest, flow, count, count == 0)
}

// Whatever the range and however few points: each has the first, last, lowest and highest total and the flows of its
// hours, and no hour is in none.
func TestJoinedPointsHaveTheExtremesOfTheirHours(t *testing.T) {
	t.Parallel()
	s := start(t)
	number := func(text string) *big.Rat {
		if text == "" {
			return nil
		}
		n, ok := new(big.Rat).SetString(text)
		if !ok {
			t.Fatalf("%q is no number", text)
		}
		return n
	}
	joined := 0
	for round := range testkit.Size(20, 300) {
		r := rand.New(rand.NewPCG(uint64(round), 0)) //nolint:gosec // the same in each run
		ctx, _ := s.newUser(t, "portfolio:read")
		hours := s.withRandomHours(ctx, t, r)
		for range 10 {
			end := time.Now().Add(-time.Duration(r.IntN(300)) * time.Hour)
			req := &portfoliov1.GetTimelineRequest{EndTime: timestamppb.New(end),
				StartTime: timestamppb.New(end.Add(-time.Duration(1+r.IntN(700)) * time.Hour)),
				Interval:  portfoliov1.Interval(1 + r.IntN(3)), MaxPoints: int32(1 + r.IntN(200)),
				TimeZone: []string{"UTC", "Europe/Zurich", "Asia/Kathmandu", "Pacific/Chatham"}[r.IntN(4)]}
			resp, err := s.GetTimeline(ctx, req)
			if err != nil || len(resp.GetPoints()) > int(req.GetMaxPoints()) || resp.GetTruncated() {
				t.Fatalf("round %d, %v: %d points, %v", round, req, len(resp.GetPoints()), err)
			}
			for i, p := range resp.GetPoints() {
				got := fmt.Sprint(number(p.GetOpen()), number(p.GetClose()), number(p.GetMin()), number(p.GetMax()),
					number(p.GetNetFlow()), p.GetSnapshotCount(), p.GetCarriedForward())
				if want := pointOf(hours, p); got != want {
					t.Fatalf("round %d, %v, point %v: %s, want %s", round, req, p, got, want)
				}
				if i > 0 && !p.GetStartTime().AsTime().Equal(resp.GetPoints()[i-1].GetEndTime().AsTime()) {
					t.Fatalf("round %d, %v: an hour is in no point before %v", round, req, p)
				}
				if resp.GetIntervalsPerPoint() > 1 && p.GetSnapshotCount() > 1 {
					joined++
				}
			}
			if n := len(resp.GetPoints()); n > 0 && resp.GetPoints()[n-1].GetEndTime().AsTime().Before(end) {
				t.Fatalf("round %d, %v: the end is in no point", round, req)
			}
		}
	}
	if joined < 100 {
		t.Errorf("%d points join several hours: too few to tell", joined)
	}
}
