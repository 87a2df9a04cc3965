package rpc

import (
	"time"

	"github.com/cockroachdb/apd/v3"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

func valuationToProto(v valuation.Valuation) *portfoliov1.Valuation {
	out := &portfoliov1.Valuation{
		Currency: valuation.Currency, Total: money(v.Total),
		UnpricedCount: int32(v.Unpriced), UnverifiedCount: int32(v.Unverified),
		Complete: v.Complete(), IncompleteReasons: v.Reasons,
		ValuationTime: timestamppb.New(v.At), Stale: v.Stale,
	}
	for _, p := range v.Positions {
		out.Positions = append(out.Positions, &portfoliov1.Position{
			TokenId: p.TokenID, Symbol: p.Symbol, Decimals: uint32(p.Decimals), Amount: p.Amount.String(),
			Price: p.Price, PriceSource: p.PriceSource, PriceTime: timeToProto(p.PriceTime), PriceStale: p.PriceStale,
			Value: money(p.Value), Share: p.Share, Verified: p.Verified, UnpricedReason: p.Reason,
		})
	}
	return out
}

func snapshotToProto(s snapshot.Snapshot) *portfoliov1.Snapshot {
	return &portfoliov1.Snapshot{
		PortfolioId: s.Portfolio.String(), BucketTime: timestamppb.New(s.Bucket),
		SnapshotTime: timestamppb.New(s.TakenAt),
		Currency:     valuation.Currency, Total: money(s.Total), Complete: s.Complete,
		PositionCount: int32(s.Positions), UnpricedCount: int32(s.Unpriced), Backfilled: s.Backfilled,
	}
}

func pointToProto(p timeline.Point) *portfoliov1.TimelinePoint {
	return &portfoliov1.TimelinePoint{
		StartTime: timestamppb.New(p.Start), EndTime: timestamppb.New(p.End),
		Open: p.Open, Close: p.Close, Min: p.Min, Max: p.Max,
		SnapshotCount: int32(p.Snapshots), CarriedForward: p.Carried, Complete: p.Complete,
	}
}

// money is a decimal number without exponent; empty for none.
func money(d *apd.Decimal) string {
	if d == nil {
		return ""
	}
	return d.Text('f')
}

func timeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// rangeFromProto returns the zero time for one that isn't set.
func rangeFromProto(req interface {
	GetStartTime() *timestamppb.Timestamp
	GetEndTime() *timestamppb.Timestamp
}) (start, end time.Time, err error) {
	for _, f := range []struct {
		name string
		from *timestamppb.Timestamp
		to   *time.Time
	}{{"start_time", req.GetStartTime(), &start}, {"end_time", req.GetEndTime(), &end}} {
		if f.from == nil {
			continue
		}
		if f.from.CheckValid() != nil {
			return start, end, errs.Invalid(f.name, "must be a time within the years 1 to 9999")
		}
		*f.to = f.from.AsTime()
	}
	return start, end, nil
}
