package rpc

import (
	"context"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/internal/block"
	"github.com/purserhq/purser/services/wallet/internal/defi"
)

// PositionServer serves purser.wallet.v1.PositionService.
type PositionServer struct {
	walletv1.UnimplementedPositionServiceServer
	positions defi.Lister
}

// NewPositionServer serves stored positions.
func NewPositionServer(l defi.Lister) *PositionServer { return &PositionServer{positions: l} }

// ListPositions implements the RPC.
func (s *PositionServer) ListPositions(ctx context.Context,
	req *walletv1.ListPositionsRequest) (*walletv1.ListPositionsResponse, error) {
	owner := authn.CallerFrom(ctx).UserID
	f := defi.Filter{Protocol: req.GetProtocol()}
	if err := defi.CheckProtocol("protocol", f.Protocol); err != nil {
		return nil, err
	}
	var err error
	if req.GetWalletId() != "" {
		if f.Wallet, err = parseWalletID(req.GetWalletId()); err != nil {
			return nil, err
		}
	}
	query := page.NewQuery("ListPositions", owner.String(), f.Wallet.String(), f.Protocol)
	after, continued, err := page.Parse[defi.Cursor](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if _, err := defi.ParseMarket(after.Market); continued && err != nil {
		return nil, errs.Invalid("page_token", page.Rule)
	}
	limit := page.Size(req.GetPageSize(), defaultRowsPerPage, maxRowsPerPage)
	held, err := s.positions.Positions(ctx, owner, f, after, limit+1)
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, held, limit,
		func(h defi.Held) defi.Cursor { return defi.Cursor{Wallet: h.Wallet, Market: h.String()} },
		func(h defi.Held) *walletv1.MarketPositions { return marketToProto(h.Wallet, &h.Reading) })
	if err != nil {
		return nil, err
	}
	return &walletv1.ListPositionsResponse{Markets: onPage, NextPageToken: next}, nil
}

func marketToProto(wallet uuid.UUID, r *defi.Reading) *walletv1.MarketPositions {
	out := &walletv1.MarketPositions{WalletId: wallet.String(), Protocol: r.Protocol, Market: r.Market.Account(),
		Complete: r.Missing == "", Missing: r.Missing, Account: lendingAccountToProto(r.Account)}
	for i := range r.Positions {
		p := &r.Positions[i]
		out.Positions = append(out.Positions, &walletv1.Position{
			Kind:     walletv1.PositionKind(walletv1.PositionKind_value["POSITION_KIND_"+string(p.Kind)]),
			RateMode: walletv1.RateMode(walletv1.RateMode_value["RATE_MODE_"+string(p.Mode)]),
			TokenId:  p.Asset, Amount: p.Amount.Dec(), ReceiptTokenId: p.Receipt, YearlyRate: p.YearlyRate,
			GrowthIndex: p.GrowthIndexText(), Collateral: p.Collateral, BlockNumber: p.Block.Number,
			BlockTime: blockTime(p.Block)})
	}
	return out
}

// blockTime is that of a block; nil in a past hour, which has the block of its wallet.
func blockTime(b block.Block) *timestamppb.Timestamp {
	if b.Time.IsZero() {
		return nil
	}
	return timestamppb.New(b.Time)
}

func lendingAccountToProto(a *defi.Account) *walletv1.LendingAccount {
	if a == nil {
		return nil
	}
	out := &walletv1.LendingAccount{Collateral: a.Collateral.Dec(), Debt: a.Debt.Dec(), Unit: a.Unit.Dec(),
		LiquidationThreshold: a.Threshold, HealthFactor: a.Health, EMode: uint32(a.EMode), BlockNumber: a.Block.Number,
		BlockTime: blockTime(a.Block)}
	switch {
	case a.Health != "":
	case a.HasDebt:
		out.HealthUnavailableReason = "DEBT_TOO_SMALL"
	default:
		out.HealthUnavailableReason = "NO_DEBT"
	}
	return out
}
