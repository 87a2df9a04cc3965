package app_test

import (
	"cmp"
	"context"
	"fmt"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
)

// fakeWallet is a wallet service. Its zero value has one wallet that holds 1.5 ETH.
type fakeWallet struct {
	walletv1.UnimplementedHoldingsServiceServer
	mu sync.Mutex

	unavailable bool
	price       string                        // of the one token: 1824.53 when "", no price when "none"
	tokens      []string                      // the bearer tokens of the calls
	more        *walletv1.GetHoldingsResponse // besides
	history     fakeHistory
	rates       fakeRates
	ledger      fakeLedger
	own         []ownedWallet // what it has instead, if any were set
	owned       bool
}

func (w *fakeWallet) setPrice(price string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.price = price
}

func (w *fakeWallet) setUnavailable(unavailable bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unavailable = unavailable
}

func (w *fakeWallet) GetHoldings(ctx context.Context,
	r *walletv1.GetHoldingsRequest) (*walletv1.GetHoldingsResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.noteToken(ctx)
	if w.unavailable {
		return nil, status.Error(codes.Unavailable, "unavailable")
	}
	if w.owned {
		resp := &walletv1.GetHoldingsResponse{OwnerId: r.GetOwnerId()}
		resp.Wallets, resp.Tokens, resp.Prices = w.ownedAt(time.Now())
		return resp, nil
	}
	price := &walletv1.Price{TokenId: "t", Price: cmp.Or(w.price, "1824.53"), Source: "test",
		PriceTime: timestamppb.Now()}
	if w.price == "none" {
		price = &walletv1.Price{TokenId: "t", UnpricedReason: "NO_PRICE"}
	}
	resp := &walletv1.GetHoldingsResponse{OwnerId: r.GetOwnerId(), Wallets: append([]*walletv1.WalletHoldings{{
		WalletId: "b", Account: "eip155:1:0x2", Sync: &walletv1.Sync{SyncTime: timestamppb.Now()},
	}, {
		WalletId: "a", Account: "eip155:1:0x1", Sync: &walletv1.Sync{SyncTime: timestamppb.Now()},
		Holdings: []*walletv1.Holding{{TokenId: "t", Amount: "1500000000000000000"}},
	}}, w.more.GetWallets()...), Tokens: append([]*walletv1.Token{{Id: "t", Symbol: "ETH", Decimals: 18,
		Verified: true}}, w.more.GetTokens()...), Prices: append([]*walletv1.Price{price}, w.more.GetPrices()...)}
	return resp, nil
}

func (w *fakeWallet) serve(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	walletv1.RegisterHoldingsServiceServer(s, w)
	walletv1.RegisterPriceServiceServer(s, &w.rates)
	walletv1.RegisterTransactionServiceServer(s, &w.ledger)
	go func() { _ = s.Serve(lis) }() // ends with Stop
	t.Cleanup(s.Stop)
	return lis.Addr().String()
}

// noteToken notes the token of a call; w.mu has to be held.
func (w *fakeWallet) noteToken(ctx context.Context) {
	md, _ := metadata.FromIncomingContext(ctx)
	for _, header := range md.Get("authorization") {
		w.tokens = append(w.tokens, strings.TrimPrefix(header, "Bearer "))
	}
}

// tokensSeen returns the tokens of all calls.
func (w *fakeWallet) tokensSeen() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.tokens)
}

func (w *fakeWallet) lastToken() string {
	tokens := w.tokensSeen()
	return tokens[len(tokens)-1]
}

// fakeHistory is what two wallets of one token each held: amounts and prices are
// computed from the hour.
type fakeHistory struct {
	mu    sync.Mutex
	read  map[int64]int           // how often each hour was read, by Unix time
	fail  func(h time.Time) error // an error ends the call at an hour; may be nil
	calls int
}

// hourOfHistory returns the amounts of two tokens with 18 and 6 decimals, and their
// prices. Every 7th hour has no price of the second token, and in every 11th its
// wallet could not be read, unless that is next to one without a price: there is
// never more than one hour in a row that counts for nothing.
func hourOfHistory(h time.Time) (first, second *big.Int, prices [2]string, unpriced, failed bool) {
	n := h.Unix() / 3600
	first = new(big.Int).Exp(big.NewInt(n%9973+1000), big.NewInt(6), nil)
	return first, big.NewInt(n % 7919 * 1000003),
		[2]string{fmt.Sprintf("%d.%d", n%4001+1, n%97), fmt.Sprintf("0.%06d", n%99991)}, n%7 == 0,
		n%11 == 0 && n%7 != 1 && n%7 != 6
}

// expectedTotal is the total of an hour's snapshot, computed with math/big.Rat.
func expectedTotal(h time.Time) (total string, complete bool) {
	first, second, prices, unpriced, failed := hourOfHistory(h)
	value := func(amount *big.Int, decimals int64, price string) *big.Rat {
		p, _ := new(big.Rat).SetString(price)
		exact := new(big.Rat).Mul(new(big.Rat).SetFrac(amount,
			new(big.Int).Exp(big.NewInt(10), big.NewInt(decimals), nil)), p)
		// Half to even at eight decimals.
		scaled := exact.Mul(exact, big.NewRat(100_000_000, 1))
		whole, rest := new(big.Int).QuoRem(scaled.Num(), scaled.Denom(), new(big.Int))
		if c := rest.Lsh(rest, 1).Cmp(scaled.Denom()); c > 0 || c == 0 && whole.Bit(0) == 1 {
			whole.Add(whole, big.NewInt(1))
		}
		return new(big.Rat).SetFrac(whole, big.NewInt(100_000_000))
	}
	sum := value(first, 18, prices[0])
	if !unpriced && !failed {
		sum.Add(sum, value(second, 6, prices[1]))
	}
	return sum.FloatString(8), !unpriced && !failed
}

func (p *fakeHistory) at(h time.Time) *walletv1.HistoricalHoldings {
	first, second, prices, unpriced, failed := hourOfHistory(h)
	hour := &walletv1.HistoricalHoldings{HourTime: timestamppb.New(h)}
	held := func(id string, amount *big.Int, price string) *walletv1.Holding {
		quote := &walletv1.Price{TokenId: id, Price: price, Source: "test",
			PriceTime: timestamppb.New(h.Add(-time.Minute))}
		if price == "" {
			quote = &walletv1.Price{TokenId: id, UnpricedReason: "NO_PRICE"}
		}
		hour.Prices = append(hour.Prices, quote)
		return &walletv1.Holding{TokenId: id, Amount: amount.String()}
	}
	if unpriced {
		prices[1] = ""
	}
	a := &walletv1.WalletHoldings{WalletId: "a", Account: "eip155:1:0xa",
		Sync:     &walletv1.Sync{SyncTime: timestamppb.New(h)},
		Holdings: []*walletv1.Holding{held("a", first, prices[0])}}
	b := &walletv1.WalletHoldings{WalletId: "b", Account: "eip155:1:0xb",
		Sync:     &walletv1.Sync{SyncTime: timestamppb.New(h)},
		Holdings: []*walletv1.Holding{held("b", second, prices[1])}}
	if failed {
		b.Sync, b.Holdings = &walletv1.Sync{State: walletv1.SyncState_SYNC_STATE_FAILED,
			Error: "no state of that block"}, nil
	}
	hour.Wallets = []*walletv1.WalletHoldings{a, b}
	return hour
}

// ListHistoricalHoldings returns pages of at most ten hours.
func (w *fakeWallet) ListHistoricalHoldings(ctx context.Context,
	r *walletv1.ListHistoricalHoldingsRequest) (*walletv1.ListHistoricalHoldingsResponse, error) {
	w.mu.Lock()
	w.noteToken(ctx)
	owned := w.owned
	w.mu.Unlock()
	if owned {
		return w.ownedHistory(r)
	}
	p := &w.history
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls++
	if p.read == nil {
		p.read = map[int64]int{}
	}
	from := r.GetStartTime().AsTime()
	if r.GetPageToken() != "" {
		if err := from.UnmarshalText([]byte(r.GetPageToken())); err != nil {
			return nil, status.Error(codes.InvalidArgument, "page_token")
		}
	}
	if from.Truncate(time.Hour) != from {
		return nil, status.Error(codes.InvalidArgument, "not an hour")
	}
	resp := &walletv1.ListHistoricalHoldingsResponse{OwnerId: r.GetOwnerId(), Tokens: []*walletv1.Token{
		{Id: "a", Symbol: "a", Decimals: 18, Verified: true}, {Id: "b", Symbol: "b", Decimals: 6, Verified: true}}}
	for h := from; h.Before(r.GetEndTime().AsTime()); h = h.Add(time.Hour) {
		if p.fail != nil {
			if err := p.fail(h); err != nil {
				return nil, err
			}
		}
		whole := p.at(h)
		if h.Sub(from) == 10*time.Hour {
			resp.NextPageToken = h.Format(time.RFC3339)
			break
		}
		p.read[h.Unix()]++
		resp.Hours = append(resp.Hours, whole)
	}
	return resp, nil
}
