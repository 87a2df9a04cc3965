package rpc

import (
	"cmp"
	"context"

	"github.com/purserhq/purser/pkg/timerange"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/portfolio/internal/performance"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// GetPerformance implements the RPC.
func (s *PortfolioServer) GetPerformance(ctx context.Context,
	req *portfoliov1.GetPerformanceRequest) (*portfoliov1.GetPerformanceResponse, error) {
	r, err := performanceRequestFromProto(req)
	if err != nil {
		return nil, err
	}
	p, err := s.callersPortfolio(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	m, err := s.performances.Measure(ctx, p, r)
	if err != nil {
		return nil, err
	}
	out := performanceToProto(m)
	out.Currency = cmp.Or(req.GetCurrency(), valuation.Currency)
	if m.Benchmark != nil {
		out.Benchmark = &portfoliov1.Benchmark{TokenId: r.Benchmark, TokenReturn: ratioToProto(m.Benchmark.Return),
			TrackingDifference: ratioToProto(m.Benchmark.Difference)}
	}
	for _, p := range m.Points {
		point := &portfoliov1.GrowthPoint{StartTime: timeToProto(p.Start), EndTime: timeToProto(p.End),
			SnapshotTime: timeToProto(p.Mark), TimeWeighted: ratioToProto(p.TimeWeighted),
			Drawdown: ratioToProto(p.Drawdown)}
		if p.Benchmark != nil {
			point.Benchmark = ratioToProto(*p.Benchmark)
		}
		out.Growth = append(out.Growth, point)
	}
	return &portfoliov1.GetPerformanceResponse{Performance: out}, nil
}

func performanceRequestFromProto(req *portfoliov1.GetPerformanceRequest) (performance.Request, error) {
	r, err := timerange.FromProto(req.GetStartTime(), req.GetEndTime())
	return performance.Request{
		Start: r.Start, End: r.End, Zone: req.GetTimeZone(), Benchmark: req.GetBenchmark(),
		RiskFree: req.GetRiskFreeRate(), Currency: req.GetCurrency(),
		Interval: intervalFromProto(req.GetGrowthInterval()),
	}, err
}

func performanceToProto(m performance.Measured) *portfoliov1.Performance {
	return &portfoliov1.Performance{
		StartTime: timeToProto(m.Start), EndTime: timeToProto(m.End),
		StartValue: decimalToProto(m.StartValue), EndValue: decimalToProto(m.EndValue),
		Inflow: decimalToProto(m.Inflow), Outflow: decimalToProto(m.Outflow), Gain: decimalToProto(m.Gain),
		FlowCount: int32(m.Flows), FlowBasis: portfoliov1.FlowBasis_FLOW_BASIS_HOLDINGS, DayCount: int32(m.Days),
		TimeWeighted: returnToProto(m.TimeWeighted), MoneyWeighted: returnToProto(m.MoneyWeighted),
		MoneyWeightedCandidates: m.Rates, ModifiedDietz: ratioToProto(m.ModifiedDietz),
		DailyReturnCount: int32(m.Risk.Returns), Volatility: ratioToProto(m.Risk.Volatility),
		DownsideDeviation: ratioToProto(m.Risk.DownsideDeviation), Sharpe: ratioToProto(m.Risk.Sharpe),
		Sortino: ratioToProto(m.Risk.Sortino), Calmar: ratioToProto(m.Risk.Calmar),
		MaxDrawdown: &portfoliov1.Drawdown{
			Depth: ratioToProto(m.Drawdown.Depth), PeakTime: timeToProto(m.Drawdown.Peak),
			TroughTime: timeToProto(m.Drawdown.Trough), RecoveryTime: timeToProto(m.Drawdown.Recovery),
		},
		SkippedCount: int32(m.Skipped), SkipThreshold: performance.Epsilon, LeftOutCount: int32(m.LeftOut),
		Notes: m.Notes, OutOfDateCount: int32(m.OutOfDate),
	}
}

func returnToProto(r performance.Return) *portfoliov1.Return {
	return &portfoliov1.Return{
		Period: ratioToProto(r.Period), Annualized: ratioToProto(r.Annualized), Extrapolated: r.Extrapolated,
	}
}

func ratioToProto(r performance.Ratio) *portfoliov1.Ratio {
	if r.Unavailable != "" {
		return &portfoliov1.Ratio{UnavailableReason: string(r.Unavailable)}
	}
	return &portfoliov1.Ratio{Value: &r.Figure}
}
