// Package rpc serves purser.portfolio.v1: it translates between the contract and the
// domain packages, and has no rules of its own.
package rpc

import (
	"cmp"
	"context"
	"time"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	"github.com/purserhq/purser/pkg/timerange"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/internal/streams"
	"github.com/purserhq/purser/services/portfolio/internal/allocation"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/export"
	"github.com/purserhq/purser/services/portfolio/internal/kpi"
	"github.com/purserhq/purser/services/portfolio/internal/performance"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
	"github.com/purserhq/purser/services/portfolio/internal/watch"
)

// Page sizes of ListSnapshots, which the contract states.
const (
	defaultSnapshotPage = 100
	maxSnapshotPage     = 500
)

// PortfolioServer serves purser.portfolio.v1.PortfolioService.
type PortfolioServer struct {
	portfoliov1.UnimplementedPortfolioServiceServer
	portfolios   *portfolio.Service
	named        *portfolio.Named
	snapshots    *snapshot.Service
	timelines    *timeline.Service
	performances *performance.Service
	currencies   *currency.Service
	figures      *kpi.Service
	allocations  *allocation.Service
	exporter     *export.Service
	watches      *watch.Service
	exports      *streams.Pool // by caller
	watchers     *streams.Pool // by caller
}

// Services are what the methods of PortfolioServer need.
type Services struct {
	Portfolios   *portfolio.Service
	Named        *portfolio.Named
	Snapshots    *snapshot.Service
	Timelines    *timeline.Service
	Performances *performance.Service
	Currencies   *currency.Service
	Figures      *kpi.Service
	Allocations  *allocation.Service
	Exporter     *export.Service
	Watches      *watch.Service
}

// NewPortfolioServer serves portfolios, their snapshots, timelines, performance and other figures.
func NewPortfolioServer(s Services) *PortfolioServer {
	return &PortfolioServer{portfolios: s.Portfolios, named: s.Named, snapshots: s.Snapshots, timelines: s.Timelines,
		performances: s.Performances, currencies: s.Currencies, figures: s.Figures, allocations: s.Allocations,
		exporter: s.Exporter, exports: streams.NewPool(maxExports, maxExportsPerCaller), watches: s.Watches,
		watchers: streams.NewPool(maxWatchers, maxWatchersPerCaller)}
}

// GetPortfolio implements the RPC.
func (s *PortfolioServer) GetPortfolio(ctx context.Context,
	req *portfoliov1.GetPortfolioRequest) (*portfoliov1.GetPortfolioResponse, error) {
	p, err := s.callersPortfolio(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	out, err := s.withWallets(ctx, p)
	return &portfoliov1.GetPortfolioResponse{Portfolio: out}, err
}

// GetValuation implements the RPC.
func (s *PortfolioServer) GetValuation(ctx context.Context,
	req *portfoliov1.GetValuationRequest) (*portfoliov1.GetValuationResponse, error) {
	if req.GetAsOfTime() == nil {
		ctx = s.readAhead(ctx, req.GetPortfolioId())
	}
	p, err := s.callersPortfolio(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	asOf, err := timerange.Time("as_of_time", req.GetAsOfTime())
	if err != nil {
		return nil, err
	}
	if err := currency.Check("currency", req.GetCurrency()); err != nil {
		return nil, err
	}
	value := s.portfolios.ValueOrLastSnapshot
	if !asOf.IsZero() {
		value = func(ctx context.Context, p portfolio.Portfolio) (valuation.Valuation, error) {
			return s.portfolios.ValueAt(ctx, p, asOf)
		}
	}
	v, err := value(ctx, p)
	if err != nil {
		return nil, err
	}
	rate, err := s.currencies.Of(ctx, req.GetCurrency(), v, !asOf.IsZero())
	if err != nil {
		return nil, err
	}
	if v, err = rate.Valuation(v); err != nil {
		return nil, errs.Internal(err)
	}
	return &portfoliov1.GetValuationResponse{Valuation: valuationToProto(v, rate)}, nil
}

// TakeSnapshot implements the RPC.
func (s *PortfolioServer) TakeSnapshot(ctx context.Context,
	req *portfoliov1.TakeSnapshotRequest) (*portfoliov1.TakeSnapshotResponse, error) {
	p, err := s.callersPortfolio(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	if req.GetStartTime() != nil || req.GetEndTime() != nil {
		return s.backfill(ctx, p, req)
	}
	snap, stored, err := s.snapshots.Take(ctx, p)
	if err != nil {
		return nil, err
	}
	return &portfoliov1.TakeSnapshotResponse{Snapshot: snapshotToProto(snap, currency.USD()), Stored: stored}, nil
}

// backfill implements TakeSnapshot of a range.
func (s *PortfolioServer) backfill(ctx context.Context, p portfolio.Portfolio,
	req *portfoliov1.TakeSnapshotRequest) (*portfoliov1.TakeSnapshotResponse, error) {
	r, err := timerange.FromProto(req.GetStartTime(), req.GetEndTime())
	if err != nil {
		return nil, err
	}
	progress, err := s.snapshots.Backfill(ctx, p, r.Start, r.End)
	if err != nil {
		return nil, err
	}
	resp := &portfoliov1.TakeSnapshotResponse{Stored: progress.Stored > 0, Backfill: progressToProto(progress)}
	if progress.Newest != nil {
		resp.Snapshot = snapshotToProto(*progress.Newest, currency.USD())
	}
	return resp, nil
}

// ListSnapshots implements the RPC.
func (s *PortfolioServer) ListSnapshots(ctx context.Context,
	req *portfoliov1.ListSnapshotsRequest) (*portfoliov1.ListSnapshotsResponse, error) {
	p, err := s.callersPortfolio(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	if err := currency.Check("currency", req.GetCurrency()); err != nil {
		return nil, err
	}
	query := page.NewQuery("ListSnapshots", p.Owner.String(), p.ID.String())
	before, _, err := page.Parse[time.Time](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), defaultSnapshotPage, maxSnapshotPage)
	snaps, err := s.snapshots.List(ctx, p.ID, before, limit+1)
	if err != nil {
		return nil, err
	}
	converted, err := s.snapshotsIn(ctx, req.GetCurrency(), snaps)
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, converted, limit, func(s snapshotAt) time.Time { return s.Bucket },
		func(s snapshotAt) *portfoliov1.Snapshot { return snapshotToProto(s.Snapshot, s.rate) })
	if err != nil {
		return nil, err
	}
	return &portfoliov1.ListSnapshotsResponse{Snapshots: onPage, NextPageToken: next}, nil
}

// snapshotAt is a snapshot at a rate.
type snapshotAt struct {
	snapshot.Snapshot
	rate currency.Rate
}

// snapshotsIn returns snapshots, the newest first, in a currency.
func (s *PortfolioServer) snapshotsIn(ctx context.Context, code string,
	snaps []snapshot.Snapshot) ([]snapshotAt, error) {
	n := len(snaps)
	hours, out := make([]time.Time, n), make([]snapshotAt, n)
	for i, snap := range snaps {
		hours[n-1-i] = snap.Bucket
	}
	rates, err := s.currencies.Known(ctx, code, hours...)
	if err != nil {
		return nil, err
	}
	for i, snap := range snaps {
		rate := rates[n-1-i]
		if snap, err = snap.In(rate); err != nil {
			return nil, errs.Internal(err)
		}
		out[i] = snapshotAt{snap, rate}
	}
	return out, nil
}

// GetTimeline implements the RPC.
func (s *PortfolioServer) GetTimeline(ctx context.Context,
	req *portfoliov1.GetTimelineRequest) (*portfoliov1.GetTimelineResponse, error) {
	r, err := timelineRequestFromProto(req)
	if err != nil {
		return nil, err
	}
	p, err := s.callersPortfolio(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	t, err := s.timelines.Points(ctx, p, r)
	if err != nil {
		return nil, err
	}
	resp := &portfoliov1.GetTimelineResponse{Currency: cmp.Or(req.GetCurrency(), valuation.Currency),
		Truncated: t.Truncated, IntervalsPerPoint: int32(t.Joined)}
	for _, point := range t.Points {
		resp.Points = append(resp.Points, pointToProto(point))
	}
	return resp, nil
}
