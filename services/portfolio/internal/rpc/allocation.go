package rpc

import (
	"cmp"
	"context"

	"github.com/purserhq/purser/pkg/timerange"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/portfolio/internal/allocation"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// GetAllocation implements the RPC.
func (s *PortfolioServer) GetAllocation(ctx context.Context,
	req *portfoliov1.GetAllocationRequest) (*portfoliov1.GetAllocationResponse, error) {
	r, err := allocationRequestFromProto(req)
	if err != nil {
		return nil, err
	}
	p, err := s.callersPortfolio(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	a, err := s.allocations.Allocate(ctx, p, r)
	if err != nil {
		return nil, err
	}
	out := allocationToProto(a)
	out.Currency = cmp.Or(r.Currency, valuation.Currency)
	return &portfoliov1.GetAllocationResponse{Allocation: out}, nil
}

// GetAllocationHistory implements the RPC.
func (s *PortfolioServer) GetAllocationHistory(ctx context.Context,
	req *portfoliov1.GetAllocationHistoryRequest) (*portfoliov1.GetAllocationHistoryResponse, error) {
	r, err := allocationHistoryRequestFromProto(req)
	if err != nil {
		return nil, err
	}
	p, err := s.callersPortfolio(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	h, err := s.allocations.History(ctx, p, r)
	if err != nil {
		return nil, err
	}
	resp := &portfoliov1.GetAllocationHistoryResponse{Currency: cmp.Or(r.Currency, valuation.Currency),
		Truncated: h.Truncated}
	for _, point := range h.Points {
		resp.Points = append(resp.Points, &portfoliov1.AllocationPoint{StartTime: timeToProto(point.Start),
			EndTime: timeToProto(point.End), SnapshotTime: timeToProto(point.Snapshot),
			Total: decimalToProto(point.Total), Assets: decimalToProto(point.Assets),
			Liabilities: decimalToProto(point.Liabilities), Complete: point.Complete,
			UnavailableReason: point.Unavailable})
	}
	for _, series := range h.Series {
		out := &portfoliov1.AllocationSeries{Group: series.Key, Label: series.Label, Other: series.Other}
		for i, value := range series.Values {
			out.Values = append(out.Values, decimalToProto(value))
			out.Shares = append(out.Shares, decimalToProto(series.Shares[i]))
		}
		resp.Series = append(resp.Series, out)
	}
	return resp, nil
}

func allocationRequestFromProto(req *portfoliov1.GetAllocationRequest) (allocation.Request, error) {
	at, err := timerange.Time("as_of_time", req.GetAsOfTime())
	return allocation.Request{Dimension: allocation.Dimension(req.GetDimension()), At: at,
		MaxEntries: int(req.GetMaxEntries()), Currency: req.GetCurrency()}, err
}

func allocationHistoryRequestFromProto(req *portfoliov1.GetAllocationHistoryRequest) (allocation.HistoryRequest,
	error) {
	interval := map[portfoliov1.AllocationInterval]timeline.Interval{
		portfoliov1.AllocationInterval_ALLOCATION_INTERVAL_WEEKLY:  timeline.Weekly,
		portfoliov1.AllocationInterval_ALLOCATION_INTERVAL_MONTHLY: timeline.Monthly,
	}[req.GetInterval()] // timeline.Daily is its default
	r, err := timerange.FromProto(req.GetStartTime(), req.GetEndTime())
	return allocation.HistoryRequest{Dimension: allocation.Dimension(req.GetDimension()), Interval: interval,
		Start: r.Start, End: r.End, Zone: req.GetTimeZone(), MaxEntries: int(req.GetMaxEntries()),
		Limit: int(req.GetLimit()), Currency: req.GetCurrency()}, err
}

func allocationToProto(a allocation.Allocation) *portfoliov1.Allocation {
	out := &portfoliov1.Allocation{
		Total: decimalToProto(a.Total), Assets: decimalToProto(a.Assets), Liabilities: decimalToProto(a.Liabilities),
		Entries: entriesToProto(a.Entries), LiabilityEntries: entriesToProto(a.Debts),
		ValuationTime: timeToProto(a.Of.ValuationTime),
		Complete:      a.Of.Complete(), IncompleteReasons: a.Of.IncompleteReasons, Stale: a.Of.Stale,
	}
	for _, u := range a.Uncounted {
		out.Uncounted = append(out.Uncounted, &portfoliov1.UncountedHolding{TokenId: u.TokenID, Symbol: u.Symbol,
			Decimals: uint32(u.Decimals), Amount: u.Amount.String(), Verified: u.Verified,
			UnpricedReason: u.Price.UnpricedReason, Account: u.Account, Protocol: u.Place.Protocol,
			Market: u.Place.Market})
	}
	return out
}

func entriesToProto(entries []allocation.Entry) []*portfoliov1.AllocationEntry {
	out := make([]*portfoliov1.AllocationEntry, 0, len(entries))
	for _, e := range entries {
		entry := &portfoliov1.AllocationEntry{Group: e.Key, Label: e.Label, Decimals: uint32(e.Decimals),
			Value: decimalToProto(e.Value), Share: decimalToProto(e.Share), Count: int32(e.Count), Other: e.Other}
		if e.Amount != nil {
			entry.Amount = e.Amount.String()
		}
		out = append(out, entry)
	}
	return out
}
