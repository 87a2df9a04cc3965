package app_test

import (
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// ownedWallet is a wallet with an amount of one token, at all times, whose price is 2 USD at all
// times. A token is called after its wallet.
type ownedWallet struct {
	id, amount string
	price      string // "2" when ""
	second     string // the amount of another token at 5; none when ""
	unread     bool   // its chain has no node
	syncing    bool   // its first sync is under way: nothing is known of its balances
}

// setOwned sets the wallets that everybody has.
func (w *fakeWallet) setOwned(own ...ownedWallet) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.owned, w.own = true, own
}

// ownedAt returns what they held, with the tokens and prices; w.mu has to be held.
func (w *fakeWallet) ownedAt(at time.Time) (all []*walletv1.WalletHoldings, tokens []*walletv1.Token,
	prices []*walletv1.Price) {
	for _, o := range w.own {
		held := &walletv1.WalletHoldings{WalletId: o.id, Account: "eip155:1:" + o.id,
			Sync: &walletv1.Sync{SyncTime: timestamppb.New(at), State: walletv1.SyncState_SYNC_STATE_SYNCED}}
		if o.unread {
			held.Sync = &walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_FAILED,
				Error: "no node is configured for chain eip155:9"}
			all = append(all, held)
			continue
		}
		if o.syncing {
			held.Sync = &walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_SYNCING}
			all = append(all, held)
			continue
		}
		price := &walletv1.Price{TokenId: o.id, Price: "2", Source: "test", PriceTime: timestamppb.New(at)}
		if o.price != "" {
			price.Price = o.price
		}
		held.Holdings = []*walletv1.Holding{{TokenId: o.id, Amount: o.amount}}
		all, prices = append(all, held), append(prices, price)
		tokens = append(tokens, &walletv1.Token{Id: o.id, Symbol: "T", Verified: true})
		if o.second != "" {
			id := o.id + "/second"
			held.Holdings = append(held.Holdings, &walletv1.Holding{TokenId: id, Amount: o.second})
			prices = append(prices, &walletv1.Price{TokenId: id, Price: "5", Source: "test",
				PriceTime: timestamppb.New(at)})
			tokens = append(tokens, &walletv1.Token{Id: id, Symbol: "S", Verified: true})
		}
	}
	return all, tokens, prices
}

// ownedHistory answers with pages of at most ten hours.
func (w *fakeWallet) ownedHistory(r *walletv1.ListHistoricalHoldingsRequest) (*walletv1.ListHistoricalHoldingsResponse,
	error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unavailable {
		return nil, status.Error(codes.Unavailable, "unavailable")
	}
	resp := &walletv1.ListHistoricalHoldingsResponse{OwnerId: r.GetOwnerId()}
	if len(w.own) == 0 {
		return resp, nil
	}
	from := r.GetStartTime().AsTime()
	if r.GetPageToken() != "" {
		if err := from.UnmarshalText([]byte(r.GetPageToken())); err != nil {
			return nil, status.Error(codes.InvalidArgument, "page_token")
		}
	}
	for h := from; h.Before(r.GetEndTime().AsTime()); h = h.Add(time.Hour) {
		if h.Sub(from) == 10*time.Hour {
			resp.NextPageToken = h.Format(time.RFC3339)
			break
		}
		hour := &walletv1.HistoricalHoldings{HourTime: timestamppb.New(h)}
		hour.Wallets, resp.Tokens, hour.Prices = w.ownedAt(h)
		resp.Hours = append(resp.Hours, hour)
	}
	return resp, nil
}
