// Package rpc serves the contracts of purser.wallet.v1. It parses requests, calls
// the domain, whose rules these are, and converts the results.
package rpc

import (
	"time"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
)

func parseWalletID(text string) (uuid.UUID, error) {
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.Nil, errs.Invalid("wallet_id", "must be a UUID, "+errs.Given(text))
	}
	return id, nil
}

// checkCursor returns an error for a token id that no page token has: page tokens
// are not signed, and a caller may have changed one.
func checkCursor(id string) error {
	if id == "" {
		return nil
	}
	if _, err := caip.ParseAsset(id); err != nil {
		return errs.Invalid("page_token", page.Rule)
	}
	return nil
}

func walletToProto(w wallet.Wallet) *walletv1.Wallet {
	out := &walletv1.Wallet{
		Id: w.ID.String(), Account: w.Account.Display(), Label: w.Label,
		Sync:       syncToProto(w.Sync),
		CreateTime: timestamppb.New(w.CreatedAt), UpdateTime: timestamppb.New(w.UpdatedAt),
		Etag: w.ETag(), ArchiveTime: timeToProto(w.ArchivedAt), Ownership: ownershipToProto(w.Proof),
	}
	for _, b := range w.Balances {
		out.Balances = append(out.Balances, balanceToProto(b))
	}
	return out
}

func syncToProto(s wallet.Sync) *walletv1.Sync {
	state, ok := walletv1.SyncState_value["SYNC_STATE_"+string(s.State)]
	if !ok {
		state = int32(walletv1.SyncState_SYNC_STATE_UNSPECIFIED)
	}
	return &walletv1.Sync{
		State: walletv1.SyncState(state), BlockNumber: s.Block, SyncTime: timeToProto(s.At),
		Error: s.Error, ErrorReason: s.Reason, RetryTime: timeToProto(s.RetryAt),
	}
}

func timeToProto(t *time.Time) *timestamppb.Timestamp {
	if t == nil {
		return nil
	}
	return timestamppb.New(*t)
}

func balanceToProto(b wallet.Balance) *walletv1.Balance {
	return &walletv1.Balance{
		Token: tokenToProto(b.Token), Amount: b.Amount.Dec(),
		BlockNumber: b.Block.Number, BlockTime: timestamppb.New(b.Block.Time), Imported: b.Imported,
	}
}

func tokenToProto(t token.Token) *walletv1.Token {
	return &walletv1.Token{
		Id: t.ID, Symbol: t.Symbol, Name: t.Name, Decimals: uint32(t.Decimals), Verified: t.Verified,
		WithoutCode: t.WithoutCode, Spam: t.Spam,
	}
}

func quoteToProto(q price.Quote) *walletv1.Price {
	if q.Reason != "" {
		return &walletv1.Price{TokenId: q.TokenID, UnpricedReason: string(q.Reason)}
	}
	p := &walletv1.Price{TokenId: q.TokenID, Price: q.Value, Currency: price.USD, Source: q.Source,
		PriceTime: timestamppb.New(q.At), Stale: q.Stale}
	if q.Other != nil {
		p.Disagreement = &walletv1.Disagreement{Source: q.Other.Source, Price: q.Other.Value,
			PriceTime: timestamppb.New(q.Other.At)}
	}
	return p
}
