package app_test

import (
	"math"
	"math/big"
	"testing"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// measured is the performance of the fake wallet's hours, in rational numbers: an hour in which the second token has
// no price is left out, since it has one before and after, and so is one in which its wallet could not be read.
type measured struct {
	growth, inflow, outflow, start, end *big.Rat
	flows, leftOut                      int
}

func expectedPerformance(t *testing.T, from, until time.Time) measured {
	t.Helper()
	m := measured{growth: big.NewRat(1, 1), inflow: new(big.Rat), outflow: new(big.Rat)}
	var heldFirst, heldSecond, worth *big.Rat
	for h := from; !h.After(until); h = h.Add(time.Hour) {
		first, second, prices, unpriced, failed := hourOfHistory(h)
		if failed || unpriced {
			m.leftOut++
			continue
		}
		units := func(amount *big.Int, decimals int64) *big.Rat {
			return new(big.Rat).SetFrac(amount, new(big.Int).Exp(big.NewInt(10), big.NewInt(decimals), nil))
		}
		price := func(text string) *big.Rat { p, _ := new(big.Rat).SetString(text); return p }
		nowFirst, nowSecond := units(first, 18), units(second, 6)
		total := new(big.Rat).Mul(nowFirst, price(prices[0]))
		total.Add(total, new(big.Rat).Mul(nowSecond, price(prices[1])))
		if worth == nil {
			m.start = total
		} else {
			before := new(big.Rat).Mul(heldFirst, price(prices[0]))
			before.Add(before, new(big.Rat).Mul(heldSecond, price(prices[1])))
			m.growth.Mul(m.growth, new(big.Rat).Quo(before, worth))
			switch flow := new(big.Rat).Sub(total, before); flow.Sign() {
			case 1:
				m.inflow.Add(m.inflow, flow)
				m.flows++
			case -1:
				m.outflow.Sub(m.outflow, flow)
				m.flows++
			}
		}
		heldFirst, heldSecond, worth, m.end = nowFirst, nowSecond, total, total
	}
	return m
}

func TestPerformanceIsThatOfTheStoredHours(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read", "portfolio:write")
	until := time.Now().UTC().Add(-time.Hour).Truncate(24 * time.Hour) // the hour after it has passed
	from := until.AddDate(0, 0, -4)
	for _, failed := hourFails(from); failed; _, failed = hourFails(from) { // begin and end with hours that count
		from = from.Add(time.Hour)
	}
	for _, failed := hourFails(until); failed; _, failed = hourFails(until) {
		until = until.Add(-time.Hour)
	}
	if _, _, err := s.backfill(ctx, from, until.Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	resp, err := s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until), Benchmark: "eip155:1/slip44:60", RiskFreeRate: 0.02})
	if err != nil {
		t.Fatal(err)
	}
	p, want := resp.GetPerformance(), expectedPerformance(t, from, until)
	near := func(name, got string, want *big.Rat) {
		t.Helper()
		g, ok := new(big.Rat).SetString(got)
		if diff := new(big.Rat).Sub(want, g); !ok || diff.Abs(diff).Cmp(big.NewRat(1, 100_000)) > 0 {
			t.Errorf("%s is %s, want %s", name, got, want.FloatString(8))
		}
	}
	near("the value at the start", p.GetStartValue(), want.start)
	near("the value at the end", p.GetEndValue(), want.end)
	near("inflow", p.GetInflow(), want.inflow)
	near("outflow", p.GetOutflow(), want.outflow)
	gain := new(big.Rat).Sub(want.end, want.start)
	near("the gain", p.GetGain(), gain.Add(gain.Sub(gain, want.inflow), want.outflow))
	growth, _ := want.growth.Float64()
	if got := p.GetTimeWeighted().GetPeriod().GetValue() + 1; math.Abs(got/growth-1) > 1e-6 {
		t.Errorf("it grew by the factor %v, want %v", got, growth)
	}
	if int(p.GetFlowCount()) != want.flows || int(p.GetLeftOutCount()) != want.leftOut || p.GetDayCount() < 3 ||
		p.GetFlowBasis() != portfoliov1.FlowBasis_FLOW_BASIS_HOLDINGS || !p.GetTimeWeighted().GetExtrapolated() ||
		p.GetBenchmark().GetTokenReturn().GetUnavailableReason() != "NO_BENCHMARK_PRICE" || len(p.GetNotes()) < 2 {
		t.Errorf("%v, want %d flows and %d hours left out", p, want.flows, want.leftOut)
	}
	points, err := s.GetTimeline(ctx, &portfoliov1.GetTimelineRequest{Interval: portfoliov1.Interval_INTERVAL_MONTHLY,
		StartTime: timestamppb.New(from), EndTime: timestamppb.New(until.Add(time.Hour))})
	if err != nil {
		t.Fatal(err)
	}
	net := new(big.Rat)
	for _, point := range points.GetPoints() {
		flow, ok := new(big.Rat).SetString(point.GetNetFlow())
		if !ok {
			t.Fatal(point)
		}
		net.Add(net, flow)
	}
	near("the net flow of the timeline", net.FloatString(20), new(big.Rat).Sub(want.inflow, want.outflow))
}

// hourFails reports whether an hour of the fake wallet's history doesn't count.
func hourFails(h time.Time) (int64, bool) {
	_, _, _, unpriced, failed := hourOfHistory(h)
	return h.Unix(), failed || unpriced
}

func TestAPeriodWithoutSnapshotsHasNoFigureAndSaysWhy(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read")
	resp, err := s.GetPerformance(ctx, &portfoliov1.GetPerformanceRequest{Benchmark: "eip155:1/slip44:60"})
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	var walk func(m protoreflect.Message)
	walk = func(m protoreflect.Message) {
		if r, ok := m.Interface().(*portfoliov1.Ratio); ok {
			if found++; r.Value != nil || r.GetUnavailableReason() != "NO_SNAPSHOTS" {
				t.Errorf("a figure is %v", r)
			}
		}
		m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
			if f.Message() != nil && !f.IsList() {
				walk(v.Message())
			}
			return true
		})
	}
	walk(resp.GetPerformance().ProtoReflect())
	if found != 13 || resp.GetPerformance().GetGain() != "0" {
		t.Errorf("%d figures in %v", found, resp)
	}
}

func TestABadPerformanceRequestNamesItsField(t *testing.T) {
	t.Parallel()
	s := start(t)
	ctx, _ := s.newUser(t, "portfolio:read")
	now := time.Now()
	for name, tc := range map[string]struct {
		field string
		req   *portfoliov1.GetPerformanceRequest
	}{
		"an end in the future": {"end_time",
			&portfoliov1.GetPerformanceRequest{EndTime: timestamppb.New(now.Add(time.Hour))}},
		"eleven years": {"start_time",
			&portfoliov1.GetPerformanceRequest{StartTime: timestamppb.New(now.AddDate(-11, 0, 0))}},
		"an unknown zone":          {"time_zone", &portfoliov1.GetPerformanceRequest{TimeZone: "CEST"}},
		"a symbol":                 {"benchmark", &portfoliov1.GetPerformanceRequest{Benchmark: "ETH"}},
		"per cent":                 {"risk_free_rate", &portfoliov1.GetPerformanceRequest{RiskFreeRate: 4.5}},
		"no number":                {"risk_free_rate", &portfoliov1.GetPerformanceRequest{RiskFreeRate: math.NaN()}},
		"less than nothing left":   {"risk_free_rate", &portfoliov1.GetPerformanceRequest{RiskFreeRate: -1}},
		"a rate without an end":    {"risk_free_rate", &portfoliov1.GetPerformanceRequest{RiskFreeRate: math.Inf(1)}},
		"a portfolio that is none": {"portfolio_id", &portfoliov1.GetPerformanceRequest{PortfolioId: "default"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.GetPerformance(ctx, tc.req)
			servicetest.WantViolation(t, err, tc.field)
		})
	}
}
