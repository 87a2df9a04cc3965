package rpc

import (
	"context"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/internal/asof"
	"github.com/purserhq/purser/services/wallet/internal/importing"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// Page sizes of ListBalances and ListTokens, as in the contract.
const (
	defaultRowsPerPage = 100
	maxRowsPerPage     = 500
)

// BalanceServer serves purser.wallet.v1.BalanceService.
type BalanceServer struct {
	walletv1.UnimplementedBalanceServiceServer
	wallets *wallet.Service
	past    asof.Store
	imports *importing.Service
}

// NewBalanceServer serves balances of now and of the past, and imports them.
func NewBalanceServer(w *wallet.Service, past asof.Store, i *importing.Service) *BalanceServer {
	return &BalanceServer{wallets: w, past: past, imports: i}
}

// ListBalances implements the RPC.
func (s *BalanceServer) ListBalances(ctx context.Context,
	req *walletv1.ListBalancesRequest) (*walletv1.ListBalancesResponse, error) {
	owner := authn.CallerFrom(ctx).UserID
	id, err := parseWalletID(req.GetWalletId())
	if err != nil {
		return nil, err
	}
	query := page.NewQuery("ListBalances", owner.String(), id.String())
	after, _, err := page.Parse[string](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if err := checkCursor(after); err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), defaultRowsPerPage, maxRowsPerPage)
	balances, err := s.wallets.Balances(ctx, owner, id, after, limit+1)
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, balances, limit, func(b wallet.Balance) string { return b.Token.ID },
		balanceToProto)
	if err != nil {
		return nil, err
	}
	return &walletv1.ListBalancesResponse{Balances: onPage, NextPageToken: next}, nil
}
