package app_test

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// Tokens of fakeLedger: dollars of 6 decimals at 1, a coin of 18 and one of 2.
const (
	usd   = "eip155:1/erc20:0x00000000000000000000000000000000000000d0"
	coin  = "eip155:1/slip44:60"
	small = "eip155:1/erc20:0x00000000000000000000000000000000000000e0"
)

// fakeLedger is the transactions of everybody's wallets.
type fakeLedger struct {
	walletv1.UnimplementedTransactionServiceServer
	mu          sync.Mutex
	moved       []*walletv1.Movement
	unavailable bool
	cut         bool // the last message is missing
	foreign     bool // the answer is of another owner
	streams     int
}

func (l *fakeLedger) with(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
}

func (l *fakeLedger) StreamTransactions(r *walletv1.StreamTransactionsRequest,
	stream grpc.ServerStreamingServer[walletv1.StreamTransactionsResponse]) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.streams++
	if l.unavailable {
		return status.Error(codes.Unavailable, "away")
	}
	owner := r.GetOwnerId()
	if l.foreign {
		owner = "another"
	}
	tokens := []*walletv1.Token{{Id: usd, Symbol: "USD", Decimals: 6, Verified: true},
		{Id: coin, Symbol: "ETH", Decimals: 18, Verified: true}, {Id: small, Symbol: "=1+1", Decimals: 2}}
	count := int64(len(l.moved))
	for rest := l.moved; len(rest) > 0; {
		n := min(500, len(rest))
		err := stream.Send(&walletv1.StreamTransactionsResponse{OwnerId: owner, Movements: rest[:n], Tokens: tokens})
		if err != nil {
			return err
		}
		rest, tokens = rest[n:], nil
	}
	if l.cut {
		return nil
	}
	return stream.Send(&walletv1.StreamTransactionsResponse{OwnerId: owner, MovementCount: &count})
}

// moved is a movement: "wallet in|out|fee|adjin|adjout amount token [hash] [>wallet]". Dollars cost 1, and other
// tokens have no price.
func moved(at time.Time, text string) *walletv1.Movement {
	f := strings.Fields(text)
	m := &walletv1.Movement{WalletId: f[0], Amount: f[2], BlockTime: timestamppb.New(at),
		BlockNumber: uint64(at.Unix()),
		Kind:        walletv1.TransactionKind_TRANSACTION_KIND_TRANSFER, Direction: walletv1.Direction_DIRECTION_OUT,
		TokenId: map[string]string{"usd": usd, "coin": coin, "small": small}[f[3]]}
	if m.TokenId == usd {
		m.Price = "1"
	}
	switch {
	case f[1] == "fee":
		m.Kind, m.LogIndex = walletv1.TransactionKind_TRANSACTION_KIND_FEE, -2
	case strings.HasPrefix(f[1], "adj"):
		m.Kind = walletv1.TransactionKind_TRANSACTION_KIND_ADJUSTMENT
	}
	if strings.HasSuffix(f[1], "in") {
		m.Direction = walletv1.Direction_DIRECTION_IN
	}
	for _, more := range f[4:] {
		if more[0] == '>' {
			m.CounterpartyWalletId = more[1:]
		} else {
			m.TransactionHash = more
		}
	}
	return m
}

// ledger sets what moved: of each time some texts.
func (s service) ledger(of ...any) {
	var all []*walletv1.Movement
	var at time.Time
	for _, next := range of {
		if t, ok := next.(time.Time); ok {
			at = t
			continue
		}
		m := moved(at, next.(string))
		m.LogIndex += int32(len(all))
		all = append(all, m)
	}
	s.wallet.ledger.with(func() { s.wallet.ledger.moved = all })
}

// bought and sold are the texts of trades of coins in wallet a for whole dollars; n tells transactions apart.
func bought(n int, coins int64, dollars int64) (string, string) {
	return fmt.Sprintf("a in %d coin %s", coins, hashOf(n)), fmt.Sprintf("a out %d000000 usd %s", dollars, hashOf(n))
}

func sold(n int, coins int64, dollars int64) (string, string) {
	return fmt.Sprintf("a out %d coin %s", coins, hashOf(n)), fmt.Sprintf("a in %d000000 usd %s", dollars, hashOf(n))
}

func hashOf(n int) string { return fmt.Sprintf("0x%064x", n) }

// trade is a trade at noon of a day: of coins below zero a sale.
type trade struct {
	day     string
	coins   int64
	dollars int64
}

// trades sets what moved. Before them 10^12 dollars came.
func (s service) trades(of ...trade) {
	all := []any{time.Date(2010, 1, 1, 0, 0, 0, 0, time.UTC), "a in 1000000000000000000 usd"}
	for i, t := range of {
		at, err := time.Parse(time.DateOnly, t.day)
		if err != nil {
			panic(err)
		}
		x, y := bought(i, t.coins, t.dollars)
		if t.coins < 0 {
			x, y = sold(i, -t.coins, t.dollars)
		}
		all = append(all, at.Add(12*time.Hour+time.Duration(i)*time.Second), x, y)
	}
	s.ledger(all...)
}
