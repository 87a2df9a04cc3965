package rpc

import (
	"google.golang.org/protobuf/types/known/timestamppb"

	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	"github.com/purserhq/purser/services/portfolio/internal/gains"
	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

const (
	// maxUnpriced is how many values that aren't known an answer lists.
	maxUnpriced = 100
	// maxReplacements is how many replacements of a wash sale a part lists.
	maxReplacements = 100
)

func lotStateToProto(r *gains.Result) *portfoliov1.LotState {
	out := &portfoliov1.LotState{Currency: r.Currency, TimeZone: r.ZoneName, Method: portfoliov1.LotMethod(r.Method),
		View: portfoliov1.LotView(r.View), ReadTime: timestamppb.New(r.ReadAt), TransactionCount: int32(r.Movements),
		UnpricedCount: int32(len(r.Unpriced)), StaleCount: int32(r.Stale)}
	for _, u := range r.Unpriced[:min(len(r.Unpriced), maxUnpriced)] {
		out.Unpriced = append(out.Unpriced, &portfoliov1.Unpriced{TokenId: u.Token, HourTime: timestamppb.New(u.Hour),
			Reason: u.Reason, Fix: u.Fix(r.Currency)})
	}
	return out
}

func lotToProto(r *gains.Result, l *gains.Priced) *portfoliov1.Lot {
	t, _ := r.Token(l.Asset)
	return &portfoliov1.Lot{LotId: l.ID, TokenId: l.Asset, WalletId: l.Wallet, AcquireTime: timeToProto(l.Acquired),
		Cause: portfoliov1.LotCause(l.Cause), TransactionHash: l.Hash, Quantity: l.Quantity.String(),
		TokenQuantity: gains.Decimal(l.Quantity, t.Decimals), Cost: gains.Money(l.Cost), Value: gains.Money(l.Value),
		Gain: gains.Money(l.Gain), Symbol: t.Symbol, Decimals: uint32(t.Decimals)}
}

func partToProto(r *gains.Result, p *gains.Part) *portfoliov1.DisposalPart {
	t, _ := r.Token(p.Asset)
	out := &portfoliov1.DisposalPart{DisposalId: p.Disposal, TokenId: p.Asset, Symbol: t.Symbol,
		Decimals: uint32(t.Decimals), WalletId: p.Wallet, DisposeTime: timestamppb.New(p.Time),
		Cause: portfoliov1.LotCause(p.Cause), TransactionHash: p.Hash, Quantity: p.Quantity.String(),
		TokenQuantity: gains.Decimal(p.Quantity, t.Decimals), Proceeds: gains.Money(p.Proceeds),
		Cost: gains.Money(p.Cost), Gain: gains.Money(p.Gain), LotId: p.Lot, AcquireTime: timeToProto(p.Acquired),
		Missing:  p.Missing,
		LongTerm: p.LongTerm, WashLoss: gains.Money(p.Wash.Loss), WashDenied: p.Denied, UnmetReason: p.Unmet,
		ReplacementLotIds: p.Wash.Replacements[:min(len(p.Wash.Replacements), maxReplacements)]}
	if p.Rule != 0 && p.Rule != lots.NotFound {
		out.Rule = portfoliov1.LotRule(p.Rule)
	}
	return out
}

func realizedToProto(r *gains.Realized) *portfoliov1.RealizedPnl {
	return &portfoliov1.RealizedPnl{TokenId: r.Asset, WalletId: r.Wallet, PeriodStartTime: timeToProto(r.Start),
		Proceeds: gains.Money(&r.Proceeds), Cost: gains.Money(&r.Cost), Gain: gains.Money(&r.Gain),
		ShortTermGain: gains.Money(&r.Short), LongTermGain: gains.Money(&r.Long), DeniedLoss: gains.Money(&r.Denied),
		Income: gains.Money(&r.Income), DisposalPartCount: int32(r.Parts), UnpricedCount: int32(r.Unpriced)}
}

func unrealizedToProto(r *gains.Unrealized) *portfoliov1.UnrealizedPnl {
	return &portfoliov1.UnrealizedPnl{TokenId: r.Asset, WalletId: r.Wallet, Cost: gains.Money(&r.Cost),
		Value: gains.Money(&r.Value), Gain: gains.Money(&r.Gain), LotCount: int32(r.Lots),
		UnpricedCount: int32(r.Unpriced)}
}
