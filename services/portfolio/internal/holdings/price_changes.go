package holdings

import (
	"context"
	"errors"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
)

// PriceFeed implements snapshot.PriceFeed. It is safe for concurrent use.
type PriceFeed struct {
	changes walletv1.HoldingsServiceClient
	prices  walletv1.PriceServiceClient
	now     func() time.Time
}

// NewPriceFeed reads through clients whose connections forward the token of the context.
func NewPriceFeed(c walletv1.HoldingsServiceClient, p walletv1.PriceServiceClient, now func() time.Time) *PriceFeed {
	return &PriceFeed{changes: c, prices: p, now: now}
}

// Follow implements snapshot.PriceFeed.
func (f *PriceFeed) Follow(ctx context.Context, cursor string,
	visit func([]snapshot.PriceChange, string) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	quiet := time.AfterFunc(silenceTimeout, func() { stop(errSilent) })
	defer quiet.Stop()
	stream, err := f.changes.WatchChanges(ctx, &walletv1.WatchChangesRequest{Cursor: cursor,
		Shard: &walletv1.Shard{Count: 1}})
	if err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return errors.Join(err, context.Cause(ctx))
		}
		quiet.Reset(silenceTimeout)
		var changes []snapshot.PriceChange
		for _, c := range m.GetChanges() {
			if c.GetKind() == walletv1.ChangeKind_CHANGE_KIND_PRICES_CHANGED {
				changes = append(changes, snapshot.PriceChange{TokenID: c.GetTokenId(),
					From: c.GetStartTime().AsTime(), Until: c.GetEndTime().AsTime()})
			}
		}
		if err := visit(changes, m.GetCursor()); err != nil || len(m.GetChanges()) == 0 {
			return err
		}
	}
}

// Hours implements snapshot.PriceFeed.
func (f *PriceFeed) Hours(ctx context.Context, tokenID string, from, until time.Time,
	visit func([]snapshot.HourPrice) error) error {
	if now := f.now(); until.After(now) { // hours that begin before now
		until = now
	}
	if !from.Before(until) {
		return nil
	}
	req := &walletv1.ListPriceHistoryRequest{TokenId: tokenID, StartTime: timestamppb.New(from),
		EndTime: timestamppb.New(until), PageSize: ratesPerPage}
	for {
		limited, cancel := context.WithTimeout(ctx, pageTimeout)
		resp, err := f.prices.ListPriceHistory(limited, req)
		cancel()
		if errs.Is(err, errs.KindNotFound) {
			return err
		}
		if err != nil {
			return unavailable(err)
		}
		prices := make([]snapshot.HourPrice, len(resp.GetPrices()))
		for i, p := range resp.GetPrices() {
			prices[i] = snapshot.HourPrice{Hour: p.GetHourTime().AsTime(), Price: priceFromProto(p.GetPrice())}
		}
		if err := visit(prices); err != nil {
			return err
		}
		if req.PageToken = resp.GetNextPageToken(); req.GetPageToken() == "" {
			return nil
		}
	}
}
