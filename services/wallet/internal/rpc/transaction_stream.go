package rpc

import (
	"strings"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/purserhq/purser/pkg/authn"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/streams"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
)

const (
	// maxMovementStreams bounds the streams of StreamTransactions on one replica, each of which has a connection to
	// the database; maxMovementStreamsPerCaller those of one caller.
	maxMovementStreams, maxMovementStreamsPerCaller = 8, 8
	// movementSendTimeout is how long a message of StreamTransactions may wait for its reader.
	movementSendTimeout = 10 * time.Second
	// movementsPerMessage are about 150 KiB.
	movementsPerMessage = 500
)

// StreamTransactions implements the RPC. One message is in memory.
func (s *TransactionServer) StreamTransactions(req *walletv1.StreamTransactionsRequest,
	stream grpc.ServerStreamingServer[walletv1.StreamTransactionsResponse]) (err error) {
	owner, err := ownerOf(authn.CallerFrom(stream.Context()), req.GetOwnerId())
	if err != nil {
		return err
	}
	ctx, end, err := hold(stream.Context(), s.streams)
	if err != nil {
		return err
	}
	defer end(&err)
	send := func(m *walletv1.StreamTransactionsResponse) error {
		m.OwnerId = owner.String()
		return streams.Deliver(ctx, movementSendTimeout, func() error { return stream.Send(m) })
	}
	var count int64
	told := map[string]bool{}
	err = s.transactions.Stream(ctx, owner, movementsPerMessage, func(page []transaction.Priced) error {
		m := &walletv1.StreamTransactionsResponse{Movements: make([]*walletv1.Movement, len(page))}
		for i, p := range page {
			if !told[p.TokenID] {
				told[p.TokenID] = true
				m.Tokens = append(m.Tokens, tokenToProto(p.Token))
			}
			m.Movements[i] = s.movementToProto(p)
		}
		count += int64(len(page))
		return send(m)
	})
	if err == nil {
		err = send(&walletv1.StreamTransactionsResponse{MovementCount: &count})
	}
	return err
}

func (s *TransactionServer) movementToProto(p transaction.Priced) *walletv1.Movement {
	m := &walletv1.Movement{WalletId: p.Wallet.String(), TokenId: p.TokenID, Amount: p.Amount.String(),
		Kind:        walletv1.TransactionKind(walletv1.TransactionKind_value["TRANSACTION_KIND_"+string(p.Kind)]),
		Direction:   walletv1.Direction(walletv1.Direction_value["DIRECTION_"+string(p.Direction)]),
		BlockNumber: p.Block, BlockTime: timestamppb.New(p.At.Time), TransactionIndex: p.TransactionIndex,
		LogIndex: p.LogIndex, Imported: p.Imported, RowId: p.RowID, Price: p.Price.Value, PriceUnread: p.Unread}
	if p.Kind == transaction.Transfer && (!p.Imported || p.Counterparty != (common.Address{})) {
		m.CounterpartyAddress = strings.ToLower(p.Counterparty.Hex())
	}
	if p.Kind != transaction.Adjustment && (!p.Imported || p.Hash != (common.Hash{})) {
		m.TransactionHash = p.Hash.Hex()
	}
	if p.CounterpartyWallet != uuid.Nil {
		m.CounterpartyWalletId = p.CounterpartyWallet.String()
	}
	if p.Price.Value != "" {
		m.PriceStale = p.Price.StaleAt(p.At.Time.Truncate(time.Hour), s.priceStale)
	}
	return m
}
