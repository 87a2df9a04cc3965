package app_test

import (
	"context"
	"fmt"
	"io"
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
	// instead, when set, answers in place of the node.
	instead http.HandlerFunc
}

func (p *proxy) answer(instead http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.instead = instead
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
		p.mu.Lock()
		change, instead := p.change, p.instead
		p.mu.Unlock()
		if instead != nil {
			instead(w, r)
			return
		}
		rec := httptest.NewRecorder()
		node.ServeHTTP(rec, r)
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

// A node that answers with something else than the truth, or not at all, leaves stored balances as they are where the
// other one has to agree, and the wallet says so; with a third node they are right. The control believes the node.
func TestWhateverANodeAnswersStoredBalancesAreRightOrOld(t *testing.T) {
	const sound = "0x1bc16d674ec80000"
	node, stale := &bareNode{number: 100, age: 5 * time.Second, decimals: 6}, &bareNode{age: time.Hour, decimals: 6}
	changed := func(change func(string) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			rec := httptest.NewRecorder()
			node.ServeHTTP(rec, r)
			_, _ = fmt.Fprint(w, change(rec.Body.String()))
		}
	}
	lies := []struct {
		name     string
		answer   http.HandlerFunc
		believed string // the balance of a service that asks this node alone; "" where it has an error
	}{
		{"half a body", changed(func(text string) string { return text[:len(text)/2] }), ""},
		{"HTTP 429", func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "too many requests", http.StatusTooManyRequests)
		}, ""},
		{"the hashes of other blocks", changed(func(text string) string {
			return strings.ReplaceAll(text, `"hash":"0x00`, `"hash":"0xff`)
		}), "2000000000000000000"},
		{"nothing", func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body) // only then the server notices that the caller goes
			<-r.Context().Done()
		}, ""},
		{"a head that is old", stale.ServeHTTP, ""},
		{"zeros", changed(func(text string) string { return strings.ReplaceAll(text, sound, "0x0") }), "0"},
		{"a balance that is larger by 1", changed(func(text string) string {
			return strings.ReplaceAll(text, sound, sound[:len(sound)-1]+"1")
		}), "2000000000000000001"},
		{"a balance as text", changed(func(text string) string { return strings.ReplaceAll(text, sound, "two") }), ""},
	}
	for name, tc := range map[string]struct{ quorum, honest int }{"two of two agree": {2, 1},
		"two of three agree": {2, 2}, "control: it is believed": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			liar := newProxy(t, node)
			urls := []string{liar.URL}
			for range tc.honest {
				urls = append(urls, newProxy(t, node).URL)
			}
			s := startOnNodes(t, urls, fmt.Sprintf("PURSER_CHAIN_QUORUM=1=%d", tc.quorum))
			ctx := s.user(t)
			w := s.create(ctx, t, account)
			syncNow := func() error {
				_, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
				return err
			}
			for _, lie := range lies {
				var last uint64
				node.set(func(n *bareNode) { n.number++; last = uint64(n.number) })
				stale.set(func(n *bareNode) { n.number = int(last) - 90 })
				liar.answer(nil)
				if err := syncNow(); err != nil {
					t.Fatalf("before %s: %v", lie.name, err)
				}
				node.set(func(n *bareNode) { n.number++ })
				liar.answer(lie.answer)
				err := syncNow()
				amount, block, fault := s.state(ctx, t, w.GetId())
				told := fmt.Sprintf("%s: %s at block %d of %d, %q, %v", lie.name, amount, block, last+1, fault, err)
				switch {
				case tc.honest == 0 && lie.believed != "" && (err != nil || amount != lie.believed):
					t.Errorf("the control has %s", told)
				case tc.honest > 0 && amount != "2000000000000000000":
					t.Error(told)
				case tc.honest == 1 && (err == nil || block != last || fault == ""):
					t.Errorf("nodes that differ are not told of: %s", told)
				case tc.honest == 2 && (err != nil || block != last+1 || fault != ""):
					t.Errorf("two nodes that agree are not enough: %s", told)
				}
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
