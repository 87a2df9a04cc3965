package rpc

import (
	"context"
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/page"
	"github.com/purserhq/purser/pkg/timerange"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/streams"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/importing"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

// TransactionServer serves purser.wallet.v1.TransactionService.
type TransactionServer struct {
	walletv1.UnimplementedTransactionServiceServer
	transactions transaction.Store
	imports      *importing.Service
	priceStale   time.Duration
	streams      *streams.Pool
}

// NewTransactionServer serves movements of balances. Prices are stale that are older than priceStale at their hours.
func NewTransactionServer(s transaction.Store, i *importing.Service, priceStale time.Duration) *TransactionServer {
	return &TransactionServer{transactions: s, imports: i, priceStale: priceStale,
		streams: streams.NewPool(maxMovementStreams, maxMovementStreamsPerCaller)}
}

// ListTransactions implements the RPC.
func (s *TransactionServer) ListTransactions(ctx context.Context,
	req *walletv1.ListTransactionsRequest) (*walletv1.ListTransactionsResponse, error) {
	owner := authn.CallerFrom(ctx).UserID
	f, err := transactionFilter(req)
	if err != nil {
		return nil, err
	}
	parts := []string{"ListTransactions", owner.String(), f.Wallet.String(), f.Token, f.From.String(),
		f.Until.String()}
	for _, k := range f.Kinds {
		parts = append(parts, string(k))
	}
	query := page.NewQuery(parts...)
	cursor, more, err := page.Parse[transaction.Cursor](query, req.GetPageToken())
	if err != nil {
		return nil, err
	}
	var after *transaction.Cursor
	if more {
		after = &cursor
		if err := checkCursor(cursor.Token); err != nil || cursor.Time.Year() > 9999 ||
			cursor.Time.Year() < 1 {
			return nil, errs.Invalid("page_token", page.Rule)
		}
	}
	limit := page.Size(req.GetPageSize(), defaultRowsPerPage, maxRowsPerPage)
	found, err := s.transactions.List(ctx, owner, f, after, limit+1)
	if err != nil {
		return nil, err
	}
	onPage, next, err := page.Cut(query, found, limit, cursorOf, transactionToProto)
	if err != nil {
		return nil, err
	}
	return &walletv1.ListTransactionsResponse{Transactions: onPage, NextPageToken: next}, nil
}

func transactionFilter(req *walletv1.ListTransactionsRequest) (f transaction.Filter, err error) {
	if req.GetWalletId() != "" {
		if f.Wallet, err = parseWalletID(req.GetWalletId()); err != nil {
			return f, err
		}
	}
	if req.GetTokenId() != "" {
		asset, err := caip.ParseAsset(req.GetTokenId())
		if err != nil {
			return f, errs.Invalid("token_id", err.Error())
		}
		f.Token = asset.String()
	}
	for _, k := range req.GetKinds() {
		f.Kinds = append(f.Kinds, transaction.Kind(strings.TrimPrefix(k.String(), "TRANSACTION_KIND_")))
	}
	times, err := timerange.FromProto(req.GetStartTime(), req.GetEndTime())
	if err != nil {
		return f, err
	}
	f.From, f.Until = times.Start, times.End
	return f, times.Check(timerange.Rules{})
}

func cursorOf(m transaction.Movement) transaction.Cursor {
	c := transaction.Cursor{Time: m.At.Time, Wallet: m.Wallet, Block: int64(m.Block),
		TransactionIndex: m.TransactionIndex, LogIndex: m.LogIndex, Token: m.TokenID}
	if m.Imported {
		c.Block = importing.Position(m.At.Time)
	}
	return c
}

func transactionToProto(m transaction.Movement) *walletv1.Transaction {
	out := &walletv1.Transaction{
		WalletId: m.Wallet.String(), Token: tokenToProto(m.Token), Amount: m.Amount.String(),
		Kind:        walletv1.TransactionKind(walletv1.TransactionKind_value["TRANSACTION_KIND_"+string(m.Kind)]),
		Direction:   walletv1.Direction(walletv1.Direction_value["DIRECTION_"+string(m.Direction)]),
		BlockNumber: m.Block, BlockTime: timestamppb.New(m.At.Time), Imported: m.Imported, RowId: m.RowID,
	}
	if m.Kind == transaction.Transfer && (!m.Imported || m.Counterparty != (common.Address{})) {
		out.Counterparty = caip.Account{Chain: m.Token.Chain, Address: m.Counterparty}.Display()
	}
	if m.Kind != transaction.Adjustment && (!m.Imported || m.Hash != (common.Hash{})) {
		out.TransactionHash = m.Hash.Hex()
	}
	if m.CounterpartyWallet != uuid.Nil {
		out.CounterpartyWalletId = m.CounterpartyWallet.String()
	}
	if m.Kind == transaction.Transfer && m.LogIndex >= 0 && !m.Imported {
		index := uint32(m.LogIndex)
		out.LogIndex = &index
	}
	return out
}

// kindText and directionText are "" for UNSPECIFIED.
func kindText(k walletv1.TransactionKind) string {
	return strings.TrimPrefix(strings.TrimPrefix(k.String(), "TRANSACTION_KIND_"), "UNSPECIFIED")
}

func directionText(d walletv1.Direction) string {
	return strings.TrimPrefix(strings.TrimPrefix(d.String(), "DIRECTION_"), "UNSPECIFIED")
}
