package rpc

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/internal/history"
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
	history  *history.Service
}

// NewHoldingsServer serves the holdings, of now and of the past.
func NewHoldingsServer(now *holding.Service, past *history.Service) *HoldingsServer {
	return &HoldingsServer{holdings: now, history: past}
}

// GetHoldings implements the RPC.
func (s *HoldingsServer) GetHoldings(ctx context.Context,
	req *walletv1.GetHoldingsRequest) (*walletv1.GetHoldingsResponse, error) {
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

// ListHistoricalHoldings implements the RPC.
func (s *HoldingsServer) ListHistoricalHoldings(ctx context.Context,
	req *walletv1.ListHistoricalHoldingsRequest) (*walletv1.ListHistoricalHoldingsResponse, error) {
	caller := authn.CallerFrom(ctx)
	owner, err := ownerOf(caller, req.GetOwnerId())
	if err != nil {
		return nil, err
	}
	for field, at := range map[string]*timestamppb.Timestamp{"start_time": req.GetStartTime(),
		"end_time": req.GetEndTime()} {
		if at.CheckValid() != nil {
			return nil, errs.Invalid(field, "must be a time from the year 1 to 9999")
		}
	}
	from, until, err := s.history.Hours(req.GetStartTime().AsTime(), req.GetEndTime().AsTime())
	if err != nil {
		return nil, err
	}
	query := page.NewQuery("ListHistoricalHoldings", caller.UserID.String(), owner.String(), from.String(),
		until.String())
	after, some, err := page.Parse[history.Cursor](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if some && !after.Within(from, until) {
		return nil, errs.Invalid("page_token", "must be a next_page_token of this same query")
	}
	if err := checkCursor(after.Token); err != nil {
		return nil, err
	}
	rows, next, err := s.history.Of(ctx, owner, from, until, after,
		page.Size(req.GetPageSize(), defaultHoldings, maxHoldings))
	if err != nil {
		return nil, err
	}
	resp := &walletv1.ListHistoricalHoldingsResponse{Hours: groupHours(rows), OwnerId: owner.String()}
	if next != nil {
		if resp.NextPageToken, err = page.Token(query, *next); err != nil {
			return nil, err
		}
	}
	return resp, nil
}

// groupHours puts the rows of one hour, which stand together, under it.
func groupHours(rows []history.Row) []*walletv1.HistoricalHoldings {
	var out []*walletv1.HistoricalHoldings
	for len(rows) > 0 {
		hour := rows[0].Hour
		var of []holding.Row
		for len(rows) > 0 && rows[0].Hour.Equal(hour) {
			of, rows = append(of, rows[0].Row), rows[1:]
		}
		out = append(out, &walletv1.HistoricalHoldings{HourTime: timestamppb.New(hour), Wallets: group(of)})
	}
	return out
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
