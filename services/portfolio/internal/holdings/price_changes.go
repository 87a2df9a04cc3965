package holdings

import (
	"context"
	"time"

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
	visit func(snapshot.Changes, string) error) error {
	return receiveChanges(ctx, f.changes, cursor, func(_ context.Context, m *walletv1.WatchChangesResponse) (bool,
		error) {
		var changes snapshot.Changes
		for _, c := range m.GetChanges() {
			switch from, until := c.GetStartTime().AsTime(), c.GetEndTime().AsTime(); c.GetKind() {
			case walletv1.ChangeKind_CHANGE_KIND_PRICES_CHANGED:
				changes.Prices = append(changes.Prices, snapshot.PriceChange{TokenID: c.GetTokenId(), From: from,
					Until: until})
			case walletv1.ChangeKind_CHANGE_KIND_BLOCKS_REPLACED:
				changes.Replaced = append(changes.Replaced, snapshot.ReplacedBlocks{Chain: c.GetChainId(), Since: from,
					Until: until})
			default: // of present holdings
			}
		}
		return len(m.GetChanges()) > 0, visit(changes, m.GetCursor())
	})
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
	list := func(req *walletv1.ListPriceHistoryRequest) (*walletv1.ListPriceHistoryResponse, error) {
		limited, cancel := context.WithTimeout(ctx, pageTimeout)
		defer cancel()
		resp, err := f.prices.ListPriceHistory(limited, req)
		if err != nil && !errs.Is(err, errs.KindNotFound) {
			err = unavailable(err)
		}
		return resp, err
	}
	return eachPricePage(list, tokenID, from, until, func(page []*walletv1.HistoricalPrice) error {
		prices := make([]snapshot.HourPrice, len(page))
		for i, p := range page {
			prices[i] = snapshot.HourPrice{Hour: p.GetHourTime().AsTime(), Price: priceFromProto(p.GetPrice())}
		}
		return visit(prices)
	})
}
