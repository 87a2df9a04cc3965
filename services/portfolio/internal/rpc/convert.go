package rpc

import (
	"cmp"
	"time"

	"github.com/cockroachdb/apd/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/timerange"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

func valuationToProto(v valuation.Valuation, r currency.Rate) *portfoliov1.Valuation {
	out := &portfoliov1.Valuation{
		Currency: r.Currency, Total: decimalToProto(v.Total), Assets: decimalToProto(v.Assets),
		Liabilities: decimalToProto(v.Liabilities), Collateral: decimalToProto(v.Collateral),
		Positions: positionsToProto(v.Positions),
		Receipts:  positionsToProto(v.Receipts), UnpricedCount: int32(v.Unpriced),
		UnpricedShare:   decimalToProto(v.UnpricedShare()),
		UnverifiedCount: int32(v.Unverified), Complete: v.Complete(), IncompleteReasons: v.IncompleteReasons,
		ValuationTime: timestamppb.New(v.ValuationTime), Stale: v.Stale,
	}
	out.Rate = rateToProto(r)
	return out
}

func positionsToProto(positions []valuation.Position) []*portfoliov1.Position {
	out := make([]*portfoliov1.Position, 0, len(positions))
	for _, p := range positions {
		out = append(out, &portfoliov1.Position{
			TokenId: p.TokenID, Symbol: p.Symbol, Decimals: uint32(p.Decimals), Amount: p.Amount.String(),
			Price: p.Price.Amount, PriceSource: p.Price.Source, PriceTime: timeToProto(p.Price.Time),
			PriceStale: p.Price.Stale, UnpricedReason: p.Price.UnpricedReason,
			Value: decimalToProto(p.Value), Share: p.Share, Verified: p.Verified,
			Kind: kindToProto(p.Place.Kind), Protocol: p.Place.Protocol, Market: p.Place.Market,
			RateMode: p.Place.RateMode, Collateral: p.Place.Collateral,
		})
	}
	return out
}

// rateToProto returns nil for US dollars.
func rateToProto(r currency.Rate) *portfoliov1.ExchangeRate {
	if r.Currency == valuation.Currency {
		return nil
	}
	return &portfoliov1.ExchangeRate{Price: r.Price, Source: r.Source, RateTime: timeToProto(r.Time), Stale: r.Stale}
}

func kindToProto(k valuation.PositionKind) portfoliov1.HoldingKind {
	return portfoliov1.HoldingKind(portfoliov1.HoldingKind_value["HOLDING_KIND_"+cmp.Or(string(k), "WALLET")])
}

// snapshotToProto returns a snapshot at a rate.
func snapshotToProto(s snapshot.Snapshot, r currency.Rate) *portfoliov1.Snapshot {
	out := &portfoliov1.Snapshot{
		PortfolioId: s.Portfolio.String(), BucketTime: timestamppb.New(s.Bucket),
		SnapshotTime: timestamppb.New(s.SnapshotTime),
		Currency:     r.Currency, Total: decimalToProto(s.Total), Complete: s.Complete,
		PositionCount: int32(s.Positions), UnpricedCount: int32(s.Unpriced), Backfilled: s.Backfilled,
		NetFlow: decimalToProto(s.NetFlow), Collateral: decimalToProto(s.Collateral), PriceGap: s.PriceGap,
		OutOfDate: s.OutOfDate,
	}
	if assets, err := s.Assets(); err == nil {
		out.Assets, out.Liabilities = decimalToProto(assets), decimalToProto(s.Liabilities)
	}
	if !r.Known() {
		out.UnavailableReason = currency.ReasonUnavailable
	}
	return out
}

func progressToProto(p snapshot.BackfillProgress) *portfoliov1.BackfillProgress {
	return &portfoliov1.BackfillProgress{
		ProcessedCount: int32(p.Done), StoredCount: int32(p.Stored), IncompleteCount: int32(p.Incomplete),
		RemainingCount: int32(p.Remaining), NextStartTime: timeToProto(p.NextStart),
		SkippedCount: int32(p.Skipped),
	}
}

func pointToProto(p timeline.Point) *portfoliov1.TimelinePoint {
	return &portfoliov1.TimelinePoint{
		StartTime: timestamppb.New(p.Start), EndTime: timestamppb.New(p.End),
		Assets: p.Assets, Liabilities: p.Liabilities, Collateral: p.Collateral,
		Open: p.Open, Close: p.Close, Min: p.Min, Max: p.Max,
		SnapshotCount: int32(p.Snapshots), CarriedForward: p.CarriedForward, Complete: p.Complete,
		NetFlow: p.NetFlow, LeftOutCount: int32(p.LeftOut), OutOfDateCount: int32(p.OutOfDate),
	}
}

// decimalToProto returns a decimal number without an exponent, "" for nil.
func decimalToProto(d *apd.Decimal) string {
	if d == nil {
		return ""
	}
	return d.Text('f')
}

// timeToProto returns nil for the zero time.
func timeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// intervalFromProto returns 0 for an interval that is not given.
func intervalFromProto(i portfoliov1.Interval) timeline.Interval {
	return map[portfoliov1.Interval]timeline.Interval{
		portfoliov1.Interval_INTERVAL_HOURLY:  timeline.Hourly,
		portfoliov1.Interval_INTERVAL_DAILY:   timeline.Daily,
		portfoliov1.Interval_INTERVAL_WEEKLY:  timeline.Weekly,
		portfoliov1.Interval_INTERVAL_MONTHLY: timeline.Monthly,
	}[i]
}

func timelineRequestFromProto(req *portfoliov1.GetTimelineRequest) (timeline.Request, error) {
	r, err := timerange.FromProto(req.GetStartTime(), req.GetEndTime())
	return timeline.Request{
		Interval: intervalFromProto(req.GetInterval()), Start: r.Start, End: r.End, Zone: req.GetTimeZone(),
		Limit: int(req.GetLimit()), Currency: req.GetCurrency(), MaxPoints: int(req.GetMaxPoints()),
	}, err
}
