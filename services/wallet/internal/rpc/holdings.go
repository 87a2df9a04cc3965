package rpc

import (
	"context"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/internal/holding"
)

// Page sizes of GetHoldings, by the contract.
const (
	defaultHoldings = 1000
	maxHoldings     = 2000
)

// anyOwner is the permission that reaches beyond one's own wallets.
const anyOwner = "wallet:any"

// HoldingsServer serves purser.wallet.v1.HoldingsService.
type HoldingsServer struct {
	walletv1.UnimplementedHoldingsServiceServer
	holdings *holding.Service
}

// NewHoldingsServer serves the holdings.
func NewHoldingsServer(h *holding.Service) *HoldingsServer { return &HoldingsServer{holdings: h} }

// GetHoldings implements the RPC.
func (s *HoldingsServer) GetHoldings(ctx context.Context, req *walletv1.GetHoldingsRequest) (*walletv1.GetHoldingsResponse, error) {
	caller := authn.CallerFrom(ctx)
	owner, err := ownerOf(caller, req.GetOwnerId())
	if err != nil {
		return nil, err
	}
	query := page.NewQuery("GetHoldings", caller.UserID.String(), owner.String())
	after, _, err := page.Parse[holding.Cursor](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if err := checkCursor(after.Token); err != nil {
		return nil, err
	}
	rows, next, err := s.holdings.Of(ctx, owner, after, page.Size(req.GetPageSize(), defaultHoldings, maxHoldings))
	if err != nil {
		return nil, err
	}
	resp := &walletv1.GetHoldingsResponse{Wallets: group(rows), OwnerId: owner.String()}
	if next != nil {
		if resp.NextPageToken, err = page.Token(query, *next); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// ownerOf is whose wallets are asked for: the caller's own for "".
func ownerOf(caller authn.Caller, text string) (uuid.UUID, error) {
	if text == "" {
		return caller.UserID, nil
	}
	owner, err := uuid.Parse(text)
	if err != nil {
		return owner, errs.Invalid("owner_id", "must be a UUID")
	}
	if owner != caller.UserID && !caller.May(anyOwner) {
		return owner, errs.PermissionDenied("PERMISSION_MISSING", "needs the permission "+anyOwner)
	}
	return owner, nil
}

// group puts the rows of one wallet, which stand together, under it.
func group(rows []holding.Row) []*walletv1.WalletHoldings {
	var out []*walletv1.WalletHoldings
	var last uuid.UUID
	for _, r := range rows {
		if len(out) == 0 || r.Wallet.ID != last {
			last = r.Wallet.ID
			out = append(out, &walletv1.WalletHoldings{
				WalletId: last.String(), Account: r.Wallet.Account.Display(), Sync: syncToProto(r.Wallet.Sync),
			})
		}
		if r.Balance != nil {
			w := out[len(out)-1]
			w.Holdings = append(w.Holdings, &walletv1.Holding{
				Balance: balanceToProto(*r.Balance), Price: quoteToProto(r.Quote, r.Stale),
			})
		}
	}
	return out
}
