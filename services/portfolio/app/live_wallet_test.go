package app_test

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
)

// liveToken is what everybody holds of a liveWallet, with no decimals.
const liveToken = "eip155:1/slip44:60"

// liveWallet is a wallet service that tells of its changes. Everybody has one wallet, with the owner's id.
type liveWallet struct {
	walletv1.UnimplementedHoldingsServiceServer
	walletv1.UnimplementedPriceServiceServer

	mu          sync.Mutex
	unavailable bool
	amounts     map[string]string // by owner; "1" for others
	price       string            // "10" when ""
	euro        string            // "2" when ""
	changes     []*walletv1.Change
	news        chan struct{} // closed and replaced with each change
	reads       map[string]int
	priceReads  int
}

func newLiveWallet() *liveWallet {
	return &liveWallet{amounts: map[string]string{}, news: make(chan struct{}), reads: map[string]int{}}
}

// with changes w under its lock.
func (w *liveWallet) with(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// hold sets what owners hold, and tells of it at once.
func (w *liveWallet) hold(amount string, owners ...string) {
	w.with(func() {
		for _, owner := range owners {
			w.amounts[owner] = amount
			w.changes = append(w.changes, &walletv1.Change{OwnerId: owner, WalletId: owner,
				Kind: walletv1.ChangeKind_CHANGE_KIND_BALANCES_CHANGED})
		}
		close(w.news)
		w.news = make(chan struct{})
	})
}

// readsOf is how often holdings of an owner were read.
func (w *liveWallet) readsOf(owner string) (n int) {
	w.with(func() { n = w.reads[owner] })
	return n
}

func (w *liveWallet) GetHoldings(_ context.Context, r *walletv1.GetHoldingsRequest) (*walletv1.GetHoldingsResponse,
	error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	owner := r.GetOwnerId()
	w.reads[owner]++
	if w.unavailable {
		return nil, status.Error(codes.Unavailable, "unavailable")
	}
	return &walletv1.GetHoldingsResponse{
		OwnerId: owner,
		Wallets: []*walletv1.WalletHoldings{{WalletId: owner, Account: "eip155:1:0x" + owner,
			Sync: &walletv1.Sync{SyncTime: timestamppb.Now()}, Holdings: []*walletv1.Holding{{TokenId: liveToken,
				Amount: cmp.Or(w.amounts[owner], "1")}}}},
		Tokens: []*walletv1.Token{{Id: liveToken, Symbol: "T", Verified: true}},
		Prices: []*walletv1.Price{w.priceOf(liveToken)},
	}, nil
}

func (w *liveWallet) priceOf(id string) *walletv1.Price {
	text := cmp.Or(w.price, "10")
	if id == "EUR" {
		text = cmp.Or(w.euro, "2")
	}
	return &walletv1.Price{TokenId: id, Price: text, Currency: "USD", Source: "test", PriceTime: timestamppb.Now()}
}

func (w *liveWallet) GetPrices(_ context.Context, r *walletv1.GetPricesRequest) (*walletv1.GetPricesResponse, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unavailable {
		return nil, status.Error(codes.Unavailable, "unavailable")
	}
	w.priceReads++
	resp := &walletv1.GetPricesResponse{}
	for _, id := range r.GetTokenIds() {
		resp.Prices = append(resp.Prices, w.priceOf(id))
	}
	return resp, nil
}

func (w *liveWallet) WatchChanges(r *walletv1.WatchChangesRequest,
	stream grpc.ServerStreamingServer[walletv1.WatchChangesResponse]) error {
	var at int
	w.mu.Lock()
	if _, err := fmt.Sscan(r.GetCursor(), &at); err != nil {
		at = len(w.changes)
	}
	w.mu.Unlock()
	for {
		w.mu.Lock()
		changes, news := w.changes[at:], w.news
		w.mu.Unlock()
		at += len(changes)
		if err := stream.Send(&walletv1.WatchChangesResponse{Changes: changes, Cursor: fmt.Sprint(at)}); err != nil {
			return err
		}
		select {
		case <-stream.Context().Done():
			return nil
		case <-news:
		case <-time.After(time.Second):
		}
	}
}

// accounts issues tokens of the service's own account.
type accounts struct {
	authv1.UnimplementedSessionServiceServer
	token string
}

func (a accounts) IssueServiceAccountToken(context.Context,
	*authv1.IssueServiceAccountTokenRequest) (*authv1.IssueServiceAccountTokenResponse, error) {
	return &authv1.IssueServiceAccountTokenResponse{AccessToken: a.token,
		AccessExpireTime: timestamppb.New(time.Now().Add(time.Hour))}, nil
}

// serveLive serves a wallet, and auth as far as portfolio needs it, and returns their address and the settings of a
// service with an account.
func serveLive(t *testing.T, i *servicetest.Issuer, w interface {
	walletv1.HoldingsServiceServer
	walletv1.PriceServiceServer
}) (addr string, account []string) {
	t.Helper()
	var lc net.ListenConfig
	lis, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	walletv1.RegisterHoldingsServiceServer(s, w)
	walletv1.RegisterPriceServiceServer(s, w)
	authv1.RegisterSessionServiceServer(s, accounts{token: i.Token(t, uuid.New(),
		servicetest.Permissions("wallet:read", "wallet:any"))})
	go func() { _ = s.Serve(lis) }() // ends with Stop
	t.Cleanup(s.Stop)
	addr = lis.Addr().String()
	return addr, []string{"PURSER_AUTH_ADDR=" + addr, "PURSER_AUTH_PLAINTEXT=true", "PURSER_SERVICE_ID=portfolio",
		"PURSER_SERVICE_SECRET=of-a-test", "PURSER_SNAPSHOT_CRON=0 0 29 2 *", "PURSER_RECOMPUTE_CRON=0 0 29 2 *"}
}
