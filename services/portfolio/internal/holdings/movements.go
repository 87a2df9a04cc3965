package holdings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/portfolio/internal/gains"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// Movements implements gains.Source. It is safe for concurrent use.
type Movements struct {
	transactions walletv1.TransactionServiceClient
	history      walletv1.PriceServiceClient
	prices       *Prices
}

// NewMovements reads through clients whose connections forward the token of the context.
func NewMovements(t walletv1.TransactionServiceClient, p walletv1.PriceServiceClient) *Movements {
	asCaller := func(ctx context.Context) (context.Context, error) { return ctx, nil }
	return &Movements{transactions: t, history: p, prices: NewPrices(p, asCaller)}
}

// Movements implements gains.Source.
func (r *Movements) Movements(ctx context.Context, owner uuid.UUID) (gains.Moved, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	moved := gains.Moved{Tokens: map[string]gains.Token{}, Prices: map[gains.TokenHour]*gains.Price{}}
	stream, err := r.transactions.StreamTransactions(ctx,
		&walletv1.StreamTransactionsRequest{OwnerId: owner.String()})
	if err != nil {
		return moved, unavailable(err)
	}
	var count int64
	for {
		m, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return moved, errs.Unavailable("WALLET_UNAVAILABLE", "the wallet service ended in the midst of an answer")
		case err != nil:
			return moved, unavailable(err)
		case m.GetOwnerId() != owner.String():
			return moved, errs.Internal(fmt.Errorf("transactions of owner %q, requested those of %s", m.GetOwnerId(),
				owner))
		}
		for _, t := range m.GetTokens() {
			if t.GetDecimals() > math.MaxUint8 {
				return moved, errs.Internal(fmt.Errorf("token %s has %d decimals", t.GetId(), t.GetDecimals()))
			}
			moved.Tokens[t.GetId()] = gains.Token{Symbol: t.GetSymbol(), Decimals: uint8(t.GetDecimals()),
				Ignored: t.GetSpam()}
		}
		count += int64(len(m.GetMovements()))
		if count > gains.MaxMovements {
			return moved, errs.Exhausted("TOO_MANY_TRANSACTIONS", fmt.Sprintf("the wallets have more than %d "+
				"transactions, the most of which lots are computed", gains.MaxMovements))
		}
		for _, t := range m.GetMovements() {
			if err := addMovement(&moved, t); err != nil {
				return moved, errs.Internal(err)
			}
		}
		if m.MovementCount != nil {
			if m.GetMovementCount() != count {
				return moved, errs.Internal(fmt.Errorf("received %d transactions of %d", count, m.GetMovementCount()))
			}
			return moved, nil
		}
	}
}

var movementKinds = map[walletv1.TransactionKind]gains.Kind{
	walletv1.TransactionKind_TRANSACTION_KIND_TRANSFER:   gains.Transfer,
	walletv1.TransactionKind_TRANSACTION_KIND_FEE:        gains.Fee,
	walletv1.TransactionKind_TRANSACTION_KIND_ADJUSTMENT: gains.Adjustment,
}

func addMovement(to *gains.Moved, m *walletv1.Movement) error {
	if m.GetDirection() == walletv1.Direction_DIRECTION_SELF {
		return nil // the balance stays
	}
	amount, ok := amountOf(m.GetAmount())
	kind, known := movementKinds[m.GetKind()]
	in := m.GetDirection() == walletv1.Direction_DIRECTION_IN
	if _, has := to.Tokens[m.GetTokenId()]; !ok || amount.Sign() == 0 || !known || !has ||
		!in && m.GetDirection() != walletv1.Direction_DIRECTION_OUT {
		return fmt.Errorf("transaction of %s: amount %q, %s, %s", m.GetTokenId(), m.GetAmount(), m.GetKind(),
			m.GetDirection())
	}
	at := m.GetBlockTime().AsTime()
	hour := gains.TokenHour{Token: m.GetTokenId(), Hour: at.Truncate(time.Hour).Unix()}
	price, has := to.Prices[hour]
	if !has {
		price = &gains.Price{Unread: true}
		to.Prices[hour] = price
	}
	if price.Unread {
		*price = gains.Price{USD: m.GetPrice(), Stale: m.GetPriceStale(), Unread: m.GetPriceUnread()}
	}
	to.Movements = append(to.Movements, gains.Movement{Wallet: m.GetWalletId(), Token: m.GetTokenId(), Kind: kind,
		In: in, Amount: amount, Counterparty: m.GetCounterpartyAddress(),
		CounterpartyWallet: m.GetCounterpartyWalletId(), Hash: m.GetTransactionHash(), Time: at,
		Block: m.GetBlockNumber(), Index: m.GetTransactionIndex(), Log: m.GetLogIndex(), Row: m.GetRowId(),
		Price: price})
	return nil
}

// PriceHours implements gains.Source.
func (r *Movements) PriceHours(ctx context.Context, token string, from, until time.Time) (map[int64]gains.Price,
	error) {
	out := map[int64]gains.Price{}
	list := func(req *walletv1.ListPriceHistoryRequest) (*walletv1.ListPriceHistoryResponse, error) {
		resp, err := r.history.ListPriceHistory(ctx, req)
		if err != nil && !errs.Is(err, errs.KindNotFound) {
			err = unavailable(err)
		}
		return resp, err
	}
	err := eachPricePage(list, token, from, until, func(page []*walletv1.HistoricalPrice) error {
		for _, p := range page {
			out[p.GetHourTime().AsTime().Unix()] = gains.Price{USD: p.GetPrice().GetPrice(),
				Stale:  p.GetPrice().GetStale(),
				Unread: p.GetPrice().GetUnpricedReason() == valuation.ReasonSourceUnavailable}
		}
		return nil
	})
	return out, err
}

// Now implements gains.Source.
func (r *Movements) Now(ctx context.Context, tokens []string) (map[string]valuation.Price, error) {
	return r.prices.Now(ctx, tokens)
}
