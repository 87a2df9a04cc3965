package rpc

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/requests"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/ownership"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

// Page sizes of ListWallets, as in the contract.
const (
	defaultWalletsPerPage = 50
	maxWalletsPerPage     = 200
)

// WalletServer serves purser.wallet.v1.WalletService.
type WalletServer struct {
	walletv1.UnimplementedWalletServiceServer
	wallets   *wallet.Service
	ownership *ownership.Service
	sync      *balancesync.Service
	limits    Limits
}

// NewWalletServer serves wallets, the proofs of their ownership, and their syncs.
func NewWalletServer(w *wallet.Service, o *ownership.Service, s *balancesync.Service, l Limits) *WalletServer {
	return &WalletServer{wallets: w, ownership: o, sync: s, limits: l}
}

// CreateWallet implements the RPC.
func (s *WalletServer) CreateWallet(ctx context.Context,
	req *walletv1.CreateWalletRequest) (*walletv1.CreateWalletResponse, error) {
	c, err := creationFromProto(req)
	if err != nil {
		return nil, err
	}
	w, err := s.wallets.Create(ctx, authn.CallerFrom(ctx).UserID, c)
	if err != nil {
		return nil, err
	}
	return &walletv1.CreateWalletResponse{Wallet: walletToProto(w)}, nil
}

func creationFromProto(req *walletv1.CreateWalletRequest) (c wallet.Creation, err error) {
	c = wallet.Creation{Account: req.GetAccount(), Label: req.GetLabel(),
		AllowUnconfiguredChain: req.GetAllowUnconfiguredChain()}
	c.RequestID, err = requests.ID(req)
	return c, err
}

// GetWallet implements the RPC.
func (s *WalletServer) GetWallet(ctx context.Context, req *walletv1.GetWalletRequest) (*walletv1.GetWalletResponse,
	error) {
	id, err := parseWalletID(req.GetWalletId())
	if err != nil {
		return nil, err
	}
	w, err := s.wallets.ByID(ctx, authn.CallerFrom(ctx).UserID, id)
	if err != nil {
		return nil, err
	}
	return &walletv1.GetWalletResponse{Wallet: walletToProto(w)}, nil
}

// ListWallets implements the RPC.
func (s *WalletServer) ListWallets(ctx context.Context,
	req *walletv1.ListWalletsRequest) (*walletv1.ListWalletsResponse, error) {
	owner := authn.CallerFrom(ctx).UserID
	query := page.NewQuery("ListWallets", owner.String(), req.GetView().String(),
		strconv.FormatBool(req.GetShowArchived()))
	after, _, err := page.Parse[uuid.UUID](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	limit := page.Size(req.GetPageSize(), defaultWalletsPerPage, maxWalletsPerPage)
	wallets, err := s.wallets.List(ctx, owner, after, limit+1, wallet.Listing{
		Balances: req.GetView() == walletv1.WalletView_WALLET_VIEW_WITH_BALANCES, Archived: req.GetShowArchived(),
	})
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(wallets, func(w wallet.Wallet) bool { return w.WithoutBalances }); i == 0 {
		return nil, errs.Exhausted("TOO_MANY_BALANCES", fmt.Sprintf("wallet %s has more than %d balances above zero, "+
			"the most that a list of wallets has: list it with WALLET_VIEW_BASIC, and its balances with ListBalances",
			wallets[0].ID, wallet.MaxListedBalances))
	} else if i > 0 {
		limit = min(limit, i)
	}
	onPage, next, err := page.Cut(query, wallets, limit, func(w wallet.Wallet) uuid.UUID { return w.ID },
		walletToProto)
	if err != nil {
		return nil, err
	}
	return &walletv1.ListWalletsResponse{Wallets: onPage, NextPageToken: next}, nil
}

// UpdateWallet implements the RPC.
func (s *WalletServer) UpdateWallet(ctx context.Context,
	req *walletv1.UpdateWalletRequest) (*walletv1.UpdateWalletResponse, error) {
	id, err := parseWalletID(req.GetWalletId())
	if err != nil {
		return nil, err
	}
	if err := checkMask(req); err != nil {
		return nil, err
	}
	request, err := requests.ID(req)
	if err != nil {
		return nil, err
	}
	w, err := s.wallets.Rename(ctx, authn.CallerFrom(ctx).UserID, id, req.GetLabel(), req.GetEtag(), request)
	if err != nil {
		return nil, err
	}
	return &walletv1.UpdateWalletResponse{Wallet: walletToProto(w)}, nil
}

func checkMask(req *walletv1.UpdateWalletRequest) error {
	paths := req.GetUpdateMask().GetPaths()
	if len(paths) == 0 || slices.Equal(paths, []string{"label"}) {
		return nil
	}
	return errs.Invalid("update_mask", `must be empty or name "label", the only field that can be set, `+
		errs.Given(strings.Join(paths, ",")))
}

// ArchiveWallet implements the RPC.
func (s *WalletServer) ArchiveWallet(ctx context.Context,
	req *walletv1.ArchiveWalletRequest) (*walletv1.ArchiveWalletResponse, error) {
	id, err := parseWalletID(req.GetWalletId())
	if err != nil {
		return nil, err
	}
	w, err := s.wallets.Archive(ctx, authn.CallerFrom(ctx).UserID, id, req.GetEtag())
	if err != nil {
		return nil, err
	}
	return &walletv1.ArchiveWalletResponse{Wallet: walletToProto(w)}, nil
}

// RestoreWallet implements the RPC.
func (s *WalletServer) RestoreWallet(ctx context.Context,
	req *walletv1.RestoreWalletRequest) (*walletv1.RestoreWalletResponse, error) {
	id, err := parseWalletID(req.GetWalletId())
	if err != nil {
		return nil, err
	}
	w, err := s.wallets.Restore(ctx, authn.CallerFrom(ctx).UserID, id, req.GetEtag())
	if err != nil {
		return nil, err
	}
	return &walletv1.RestoreWalletResponse{Wallet: walletToProto(w)}, nil
}

// DeleteWallet implements the RPC.
func (s *WalletServer) DeleteWallet(ctx context.Context,
	req *walletv1.DeleteWalletRequest) (*walletv1.DeleteWalletResponse, error) {
	id, err := parseWalletID(req.GetWalletId())
	if err != nil {
		return nil, err
	}
	request, err := requests.ID(req)
	if err != nil {
		return nil, err
	}
	removed, err := s.wallets.Delete(ctx, authn.CallerFrom(ctx).UserID, id, req.GetEtag(), request)
	if err != nil {
		return nil, err
	}
	return &walletv1.DeleteWalletResponse{BalanceCount: removed.Balances, HistoryHourCount: removed.HistoryHours,
		HistoryBalanceCount: removed.HistoryBalances, TransactionCount: removed.Transactions}, nil
}

// SyncWallet implements the RPC.
func (s *WalletServer) SyncWallet(ctx context.Context, req *walletv1.SyncWalletRequest) (*walletv1.SyncWalletResponse,
	error) {
	id, err := parseWalletID(req.GetWalletId())
	if err != nil {
		return nil, err
	}
	owner := authn.CallerFrom(ctx).UserID
	if err := s.limits.takeSync(ctx, owner); err != nil {
		return nil, err
	}
	w, n, err := s.sync.Sync(ctx, owner, id)
	if err != nil {
		return nil, err
	}
	return &walletv1.SyncWalletResponse{Wallet: walletToProto(w), TokenCount: int32(n)}, nil
}
