// Package rpc translates between the contract of purser.portfolio.v1 and the
// domain. No rule lives here.
package rpc

import (
	"context"
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Page sizes of ListSnapshots, by the contract.
const (
	defaultSnapshots = 100
	maxSnapshots     = 500
)

// PortfolioServer serves purser.portfolio.v1.PortfolioService.
type PortfolioServer struct {
	portfoliov1.UnimplementedPortfolioServiceServer
	portfolios *portfolio.Service
	snapshots  *snapshot.Service
	timelines  *timeline.Service
}

// NewPortfolioServer serves portfolios, their snapshots and timelines.
func NewPortfolioServer(p *portfolio.Service, s *snapshot.Service, t *timeline.Service) *PortfolioServer {
	return &PortfolioServer{portfolios: p, snapshots: s, timelines: t}
}

// find returns the caller's portfolio with this id, the default one for "".
func (s *PortfolioServer) find(ctx context.Context, text string) (portfolio.Portfolio, error) {
	var id uuid.UUID
	if text != "" {
		var err error
		if id, err = uuid.Parse(text); err != nil {
			return portfolio.Portfolio{}, errs.Invalid("portfolio_id", "must be a UUID")
		}
		if id == uuid.Nil {
			return portfolio.Portfolio{}, errs.NotFound("portfolio")
		}
	}
	return s.portfolios.Find(ctx, authn.CallerFrom(ctx).UserID, id)
}

// GetPortfolio implements the RPC.
func (s *PortfolioServer) GetPortfolio(ctx context.Context,
	req *portfoliov1.GetPortfolioRequest) (*portfoliov1.GetPortfolioResponse, error) {
	p, err := s.find(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	return &portfoliov1.GetPortfolioResponse{Portfolio: &portfoliov1.Portfolio{
		Id: p.ID.String(), Name: p.Name, Default: p.Default, CreateTime: timestamppb.New(p.CreatedAt),
	}}, nil
}

// GetValuation implements the RPC.
func (s *PortfolioServer) GetValuation(ctx context.Context,
	req *portfoliov1.GetValuationRequest) (*portfoliov1.GetValuationResponse, error) {
	p, err := s.find(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	v, err := s.portfolios.ValueOrLast(ctx, p)
	if err != nil {
		return nil, err
	}
	return &portfoliov1.GetValuationResponse{Valuation: valuationToProto(v)}, nil
}

// TakeSnapshot implements the RPC.
func (s *PortfolioServer) TakeSnapshot(ctx context.Context,
	req *portfoliov1.TakeSnapshotRequest) (*portfoliov1.TakeSnapshotResponse, error) {
	p, err := s.find(ctx, req.GetPortfolioId())
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
	return &portfoliov1.TakeSnapshotResponse{Snapshot: snapshotToProto(snap), Stored: stored}, nil
}

// backfill takes the snapshots of a range.
func (s *PortfolioServer) backfill(ctx context.Context, p portfolio.Portfolio,
	req *portfoliov1.TakeSnapshotRequest) (*portfoliov1.TakeSnapshotResponse, error) {
	start, end, err := rangeFromProto(req)
	if err != nil {
		return nil, err
	}
	done, err := s.snapshots.Backfill(ctx, p, start, end)
	if err != nil {
		return nil, err
	}
	resp := &portfoliov1.TakeSnapshotResponse{Stored: done.Stored > 0, Backfill: &portfoliov1.BackfillProgress{
		ProcessedCount: int32(done.Done), StoredCount: int32(done.Stored), IncompleteCount: int32(done.Incomplete),
		RemainingCount: int32(done.Remaining), NextStartTime: timeToProto(done.Next),
	}}
	if done.Newest != nil {
		resp.Snapshot = snapshotToProto(*done.Newest)
	}
	return resp, nil
}

// ListSnapshots implements the RPC.
func (s *PortfolioServer) ListSnapshots(ctx context.Context,
	req *portfoliov1.ListSnapshotsRequest) (*portfoliov1.ListSnapshotsResponse, error) {
	p, err := s.find(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	query := page.NewQuery("ListSnapshots", p.Owner.String(), p.ID.String())
	before, _, err := page.Parse[time.Time](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), defaultSnapshots, maxSnapshots)
	snaps, err := s.snapshots.List(ctx, p.ID, before, limit+1)
	if err != nil {
		return nil, err
	}
	resp := &portfoliov1.ListSnapshotsResponse{}
	if len(snaps) > limit {
		snaps = snaps[:limit]
		if resp.NextPageToken, err = page.Token(query, snaps[limit-1].Bucket); err != nil {
			return nil, err
		}
	}
	for _, snap := range snaps {
		resp.Snapshots = append(resp.Snapshots, snapshotToProto(snap))
	}
	return resp, nil
}

// GetTimeline implements the RPC.
func (s *PortfolioServer) GetTimeline(ctx context.Context,
	req *portfoliov1.GetTimelineRequest) (*portfoliov1.GetTimelineResponse, error) {
	r, err := timelineRequest(req)
	if err != nil {
		return nil, err
	}
	p, err := s.find(ctx, req.GetPortfolioId())
	if err != nil {
		return nil, err
	}
	points, truncated, err := s.timelines.Of(ctx, p, r)
	if err != nil {
		return nil, err
	}
	resp := &portfoliov1.GetTimelineResponse{Currency: valuation.Currency, Truncated: truncated}
	for _, pt := range points {
		resp.Points = append(resp.Points, pointToProto(pt))
	}
	return resp, nil
}

func timelineRequest(req *portfoliov1.GetTimelineRequest) (timeline.Request, error) {
	r := timeline.Request{Interval: timeline.Daily, Zone: req.GetTimeZone(), Limit: int(req.GetLimit())}
	if req.GetInterval() == portfoliov1.Interval_INTERVAL_HOURLY {
		r.Interval = timeline.Hourly
	}
	var err error
	r.Start, r.End, err = rangeFromProto(req)
	return r, err
}
