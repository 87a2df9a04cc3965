package app_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	jobsv1 "github.com/purserhq/purser/proto/gen/purser/jobs/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/app"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// proxy passes calls on to a node and may change what comes back.
type proxy struct {
	*httptest.Server
	mu     sync.Mutex
	change func(answer string) string
}

func (p *proxy) set(change func(string) string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.change = change
}

func newProxy(t *testing.T, node http.Handler) *proxy {
	t.Helper()
	p := &proxy{}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		node.ServeHTTP(rec, r)
		p.mu.Lock()
		change := p.change
		p.mu.Unlock()
		text := rec.Body.String()
		if change != nil {
			text = change(text)
		}
		_, _ = fmt.Fprint(w, text)
	}))
	t.Cleanup(p.Close)
	return p
}

// startOnNodes runs the service with nodes of chain 1 and further settings.
func startOnNodes(t *testing.T, urls []string, more ...string) service {
	t.Helper()
	var nodes []string
	for _, u := range urls {
		nodes = append(nodes, "1="+u)
	}
	s := service{db: testkit.Postgres(t, migrations.FS), issuer: servicetest.NewIssuer(t)}
	conn := servicetest.Start(t, app.Load, app.New, &testkit.LogBuffer{}, append(more,
		"PURSER_DATABASE_URL="+s.db.URL, "PURSER_REDIS_URL="+servicetest.NoRedis, "PURSER_ISSUER="+s.issuer.URL,
		"PURSER_PRICE_URL=http://127.0.0.1:1", "PURSER_GRPC_PLAINTEXT=true", "PURSER_GRPC_BURST=10000",
		"PURSER_SYNC_CRON="+never, "PURSER_TRANSACTIONS_CRON="+never, "PURSER_SIWE_DOMAIN=app.example",
		"PURSER_CHAIN_RPC_URLS="+strings.Join(nodes, ","))...)
	s.wallets, s.tokens = walletv1.NewWalletServiceClient(conn), walletv1.NewTokenServiceClient(conn)
	s.balances, s.holdings = walletv1.NewBalanceServiceClient(conn), walletv1.NewHoldingsServiceClient(conn)
	s.jobs, s.moves = jobsv1.NewJobServiceClient(conn), walletv1.NewTransactionServiceClient(conn)
	s.positions = walletv1.NewPositionServiceClient(conn)
	return s
}

// state is what a wallet has of the native coin, the block of the last sync, and its error.
func (s service) state(ctx context.Context, t *testing.T, id string) (amount string, block uint64, fault string) {
	t.Helper()
	list, err := s.balances.ListBalances(ctx, &walletv1.ListBalancesRequest{WalletId: id})
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range list.GetBalances() {
		amount += b.GetAmount()
	}
	w, err := s.wallets.GetWallet(ctx, &walletv1.GetWalletRequest{WalletId: id})
	if err != nil {
		t.Fatal(err)
	}
	return amount, w.GetWallet().GetSync().GetBlockNumber(), w.GetWallet().GetSync().GetError()
}

// The first node of two begins to lie after a sound sync. The control doesn't ask for a quorum.
func TestALyingNodeChangesNoBalanceWhereTwoHaveToAgree(t *testing.T) {
	const sound, lie = "0x1bc16d674ec80000", "0x1bc16d674ec80001"
	for _, quorum := range []int{2, 1} {
		t.Run(fmt.Sprint("quorum of ", quorum), func(t *testing.T) {
			node := &bareNode{number: 100, age: 5 * time.Second, decimals: 6}
			liar, honest := newProxy(t, node), newProxy(t, node)
			s := startOnNodes(t, []string{liar.URL, honest.URL}, fmt.Sprintf("PURSER_CHAIN_QUORUM=1=%d", quorum))
			ctx := s.user(t)
			w := s.create(ctx, t, account)
			syncNow := func() error {
				_, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
				return err
			}
			if err := syncNow(); err != nil {
				t.Fatal(err)
			}
			if amount, block, fault := s.state(ctx, t, w.GetId()); amount != "2000000000000000000" || block != 100 ||
				fault != "" {
				t.Fatal(amount, block, fault)
			}
			node.set(func(n *bareNode) { n.number = 101 })
			liar.set(func(text string) string { return strings.ReplaceAll(text, sound, lie) })
			err := syncNow()
			amount, block, fault := s.state(ctx, t, w.GetId())
			if quorum == 1 {
				if err != nil || amount != "2000000000000000001" {
					t.Errorf("the control has %s, %v", amount, err)
				}
				return
			}
			if err == nil || amount != "2000000000000000000" || block != 100 ||
				!strings.Contains(fault, "nodes of chain eip155:1 have to agree on balances at block 101, and don't") {
				t.Errorf("it has %s at block %d, %q, %v", amount, block, fault, err)
			}
			held, err := s.holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{})
			if err != nil || held.GetWallets()[0].GetSync().GetError() == "" {
				t.Errorf("holdings say %v, %v", held, err)
			}
			liar.set(nil)
			if err := syncNow(); err != nil {
				t.Fatal(err)
			}
			if _, block, fault := s.state(ctx, t, w.GetId()); block != 101 || fault != "" {
				t.Errorf("after the truth it is at block %d: %q", block, fault)
			}
		})
	}
}

// Nodes that agree are read over different ways.
func TestAQuorumOfRealNodesOverHTTPAndWebSocket(t *testing.T) {
	n := servicetest.StartNode(t, "anvil")
	port := string(n)[strings.LastIndex(string(n), ":"):]
	s := startOnNodes(t, []string{"http://127.0.0.1" + port, "ws://localhost" + port}, "PURSER_CHAIN_QUORUM=1=2")
	ctx := s.user(t)
	w := s.create(ctx, t, "eip155:1:"+strings.ToLower(servicetest.NodeHolder))
	if _, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()}); err != nil {
		t.Fatal(err)
	}
	if amount, _, fault := s.state(ctx, t, w.GetId()); amount != "10000000000000000000000" || fault != "" {
		t.Errorf("it has %s: %q", amount, fault)
	}
}
