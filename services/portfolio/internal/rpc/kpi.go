package rpc

import (
	"context"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/portfolio/internal/kpi"
)

// GetKpi implements the RPC.
func (s *PortfolioServer) GetKpi(ctx context.Context,
	req *portfoliov1.GetKpiRequest) (*portfoliov1.GetKpiResponse, error) {
	r := kpiRequestFromProto(req)
	if err := s.figures.Check(r); err != nil {
		return nil, err
	}
	p, err := s.callersPortfolio(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	k, err := s.figures.Figures(ctx, p, r)
	if err != nil {
		return nil, err
	}
	return &portfoliov1.GetKpiResponse{Kpi: kpiToProto(k)}, nil
}

func kpiRequestFromProto(req *portfoliov1.GetKpiRequest) kpi.Request {
	return kpi.Request{Zone: req.GetTimeZone(), Currency: req.GetCurrency()}
}

func kpiToProto(k kpi.KPI) *portfoliov1.Kpi {
	v := k.Valuation
	out := &portfoliov1.Kpi{
		Currency: k.Currency, Value: decimalToProto(v.Total), ValueTime: timeToProto(v.ValuationTime),
		NetWorth: decimalToProto(v.Total), Assets: decimalToProto(v.Assets),
		Liabilities: decimalToProto(v.Liabilities), Complete: v.Complete(), IncompleteReasons: v.IncompleteReasons,
		Stale: v.Stale, HoldingCount: int32(k.Holdings), UnpricedCount: int32(v.Unpriced),
		UnpricedShare: figureToProto(k.UnpricedShare), UnverifiedCount: int32(v.Unverified),
		WalletCount: figureToProto(k.Wallets),
		Highest: &portfoliov1.HighestValue{Value: figureToProto(k.Highest.Value), Time: timeToProto(k.Highest.Time),
			Drawdown: figureToProto(k.Highest.Drawdown)},
		Best: moveToProto(k.Best), Worst: moveToProto(k.Worst),
		OldestBalance: ageToProto(k.OldestBalance, k.Now), OldestPrice: ageToProto(k.OldestPrice, k.Now),
	}
	for _, c := range k.Changes {
		out.Changes = append(out.Changes, &portfoliov1.Change{
			Period: portfoliov1.Period(c.Period), StartTime: timeToProto(c.Start),
			SnapshotTime: timeToProto(c.Snapshot), EndTime: timeToProto(c.End),
			StartValue: figureToProto(c.StartValue), Gross: figureToProto(c.Gross),
			GrossRatio: figureToProto(c.GrossRatio), NetFlow: figureToProto(c.NetFlow), Net: figureToProto(c.Net),
			NetRatio: figureToProto(c.NetRate),
		})
	}
	return out
}

func figureToProto(f kpi.Figure) *portfoliov1.Figure {
	return &portfoliov1.Figure{Value: decimalToProto(f.Value), UnavailableReason: f.Unavailable}
}

func moveToProto(m kpi.Move) *portfoliov1.HoldingMove {
	if m.Unavailable != "" {
		return &portfoliov1.HoldingMove{UnavailableReason: m.Unavailable}
	}
	return &portfoliov1.HoldingMove{TokenId: m.Position.TokenID, Symbol: m.Position.Symbol,
		Value: decimalToProto(m.Position.Value), Price: m.Position.Price.Amount, PriceBefore: m.PriceBefore,
		PriceChangeRatio: decimalToProto(m.Ratio)}
}

func ageToProto(a kpi.Age, now time.Time) *portfoliov1.Age {
	if a.Unavailable != "" {
		return &portfoliov1.Age{UnavailableReason: a.Unavailable}
	}
	return &portfoliov1.Age{Time: timeToProto(a.Time), Age: durationpb.New(max(0, now.Sub(a.Time)))}
}
