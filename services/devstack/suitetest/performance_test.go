package suitetest

import (
	"context"
	"math"
	"math/big"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/devstack/demo"
)

// What a client computes from the totals and flows of ListSnapshots is what GetPerformance answers.
func TestPerformanceCanBeRecomputedFromTheSnapshots(t *testing.T) {
	s := shared(t)
	c := dial(t, s.Endpoints)
	ctx, _ := withHolders(t, s, c)
	begin := s.Chain.Plan().Start.Truncate(time.Hour).Add(2 * time.Hour)
	end := begin.Add(45 * time.Hour)
	if n, incomplete := backfill(t, ctx, c, begin, end.Add(time.Hour)); n != 46 || incomplete != 0 {
		t.Fatalf("%d stored, %d of them incomplete", n, incomplete)
	}
	list, err := c.Portfolios.ListSnapshots(ctx, &portfoliov1.ListSnapshotsRequest{PageSize: 500})
	if err != nil || len(list.GetSnapshots()) != 46 {
		t.Fatal(list, err)
	}
	growth, net := big.NewRat(1, 1), new(big.Rat)
	flows := 0
	for i := len(list.GetSnapshots()) - 2; i >= 0; i-- { // the newest is the first
		snap, before := list.GetSnapshots()[i], list.GetSnapshots()[i+1]
		flow := rat(t, snap.GetNetFlow())
		if flow.Sign() != 0 {
			flows++
		}
		net.Add(net, flow)
		growth.Mul(growth, new(big.Rat).Quo(new(big.Rat).Sub(rat(t, snap.GetTotal()), flow),
			rat(t, before.GetTotal())))
	}
	whole := performanceOf(t, ctx, c, begin, end)
	want, _ := growth.Float64()
	if got := 1 + whole.GetTimeWeighted().GetPeriod().GetValue(); math.Abs(got-want) > 1e-9 {
		t.Errorf("it grew by the factor %v, want %v", got, want)
	}
	if in := rat(t, whole.GetInflow()); in.Sub(in, rat(t, whole.GetOutflow())).Cmp(net) != 0 ||
		int(whole.GetFlowCount()) != flows || flows == 0 {
		t.Errorf("%v, want %d flows of %s together", whole, flows, net.FloatString(8))
	}
	first := performanceOf(t, ctx, c, begin, begin.Add(17*time.Hour))
	rest := performanceOf(t, ctx, c, begin.Add(17*time.Hour), end)
	chained := (1 + first.GetTimeWeighted().GetPeriod().GetValue()) *
		(1 + rest.GetTimeWeighted().GetPeriod().GetValue())
	if math.Abs(chained-want) > 1e-9 {
		t.Errorf("two parts chain to %v, the whole is %v", chained, want)
	}
}

func performanceOf(t *testing.T, ctx context.Context, c *demo.Clients,
	start, end time.Time) *portfoliov1.Performance {
	t.Helper()
	resp, err := c.Portfolios.GetPerformance(ctx,
		&portfoliov1.GetPerformanceRequest{StartTime: timestamppb.New(start), EndTime: timestamppb.New(end)})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetPerformance()
}
