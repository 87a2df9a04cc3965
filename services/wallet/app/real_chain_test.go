package app_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/testkit"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/servicetest"
	"github.com/purserhq/purser/services/wallet/app"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// bareNode is a stock node of chain 1, as anvil and hardhat are: without Multicall3. Every account has 2 ether and 5
// million base units of each token.
type bareNode struct {
	mu       sync.Mutex
	number   int
	age      time.Duration
	decimals int
	gone     bool // the token's contract
}

func (n *bareNode) set(change func(*bareNode)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	change(n)
}

// token is the contract of the one token; nothing is at ghost's.
const (
	tokenContract = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
	ghostContract = "0x00000000000000000000000000000000000000ff"
)

func (n *bareNode) answer(method string, params []json.RawMessage) any {
	word := func(v int) string { return fmt.Sprintf("0x%064x", v) }
	switch method {
	case "eth_chainId":
		return "0x1"
	case "eth_getBlockByNumber":
		number := n.number
		if text := strings.Trim(string(params[0]), `"`); strings.HasPrefix(text, "0x") {
			if _, err := fmt.Sscanf(text, "0x%x", &number); err != nil || number > n.number {
				return nil
			}
		}
		return map[string]any{"number": fmt.Sprintf("0x%x", number), "hash": word(number),
			"timestamp": fmt.Sprintf("0x%x", time.Now().Add(-n.age).Unix())}
	case "eth_getBalance":
		return "0x1bc16d674ec80000"
	}
	text := strings.ToLower(string(params[0]))
	isToken := strings.Contains(text, tokenContract) && !n.gone && !strings.Contains(text, `"to":"`+ghostContract)
	switch {
	case !isToken:
		return "0x" // there is no contract
	case method == "eth_getCode":
		return "0x6000"
	case strings.Contains(text, "0x313ce567"): // decimals()
		return word(n.decimals)
	}
	return word(5_000_000)
}

func (n *bareNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	type call struct {
		ID     json.RawMessage   `json:"id"`
		Method string            `json:"method"`
		Params []json.RawMessage `json:"params"`
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	reply := func(c call) any {
		return map[string]any{"jsonrpc": "2.0", "id": c.ID, "result": n.answer(c.Method, c.Params)}
	}
	w.Header().Set("Content-Type", "application/json")
	var batch []call
	if json.Unmarshal(body, &batch) == nil {
		var replies []any
		for _, c := range batch {
			replies = append(replies, reply(c))
		}
		_ = json.NewEncoder(w).Encode(replies)
		return
	}
	var c call
	_ = json.Unmarshal(body, &c)
	_ = json.NewEncoder(w).Encode(reply(c))
}

// startOnBare runs the service with these nodes and a list that is wrong about the decimals of its token.
func startOnBare(t *testing.T, nodes ...*bareNode) (service, *testkit.LogBuffer) {
	t.Helper()
	var urls []string
	for _, n := range nodes {
		server := httptest.NewServer(n)
		t.Cleanup(server.Close)
		urls = append(urls, "1="+server.URL)
	}
	list := filepath.Join(t.TempDir(), "tokens.json")
	entry := `{"chainId":1,"address":"%s","symbol":"%s","name":"T","decimals":18}`
	text := fmt.Sprintf(`{"tokens":[`+entry+`,`+entry+`,{"chainId":501000101,`+
		`"address":"5mbK36SZ7J19An8jFochhQS4of8g6BwUjbeCSxBSoWdp","symbol":"SOL","decimals":6}]}`,
		tokenContract, "TKN", ghostContract, "GHOST")
	if err := os.WriteFile(list, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s := service{db: testkit.Postgres(t, migrations.FS), issuer: servicetest.NewIssuer(t)}
	logs := &testkit.LogBuffer{}
	conn := servicetest.Start(t, app.Load, app.New, logs,
		"PURSER_DATABASE_URL="+s.db.URL, "PURSER_REDIS_URL="+servicetest.NoRedis, "PURSER_ISSUER="+s.issuer.URL,
		"PURSER_PRICE_URL=http://127.0.0.1:1", "PURSER_GRPC_PLAINTEXT=true", "PURSER_GRPC_BURST=10000",
		"PURSER_SYNC_CRON="+never, "PURSER_TOKEN_LIST="+list, "PURSER_CHAIN_RPC_URLS="+strings.Join(urls, ","))
	s.wallets, s.tokens = walletv1.NewWalletServiceClient(conn), walletv1.NewTokenServiceClient(conn)
	s.holdings = walletv1.NewHoldingsServiceClient(conn)
	return s, logs
}

func TestAWalletIsReadFromAStockNodeWithAPublishedList(t *testing.T) {
	n := &bareNode{number: 100, age: 5 * time.Second, decimals: 6}
	s, logs := startOnBare(t, n)
	ctx := s.user(t)
	w := s.create(ctx, t, account)
	synced := func() *walletv1.Sync {
		t.Helper()
		resp, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
		if err != nil {
			t.Fatal(err)
		}
		return resp.GetWallet().GetSync()
	}
	held := func() string {
		t.Helper()
		resp, err := s.holdings.GetHoldings(ctx, &walletv1.GetHoldingsRequest{})
		if err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, h := range resp.GetWallets()[0].GetHoldings() {
			i := slices.IndexFunc(resp.GetTokens(), func(k *walletv1.Token) bool {
				return k.GetId() == h.GetTokenId()
			})
			k := resp.GetTokens()[i]
			out = append(out, fmt.Sprintf("%s %s/10^%d verified=%t gone=%t", k.GetSymbol(), h.GetAmount(),
				k.GetDecimals(), k.GetVerified(), k.GetWithoutCode()))
		}
		return strings.Join(out, ", ")
	}
	if got := synced(); got.GetError() != "" || got.GetBlockNumber() != 100 {
		t.Fatal(got)
	}
	const ether = "ETH 2000000000000000000/10^18 verified=true gone=false"
	if got := held(); got != "TKN 5000000/10^6 verified=true gone=false, "+ether {
		t.Errorf("it holds %s", got)
	}
	for _, told := range []string{"entries of the token lists are left out", "501000101",
		"token with other decimals than listed", "token without a contract"} {
		if !logs.Contains(told) {
			t.Errorf("the log doesn't say %q: %s", told, logs)
		}
	}
	n.set(func(n *bareNode) { n.gone, n.number = true, 101 })
	if got := synced(); got.GetError() != "" || got.GetBlockNumber() != 101 {
		t.Fatal(got)
	}
	if got := held(); got != "TKN 5000000/10^6 verified=false gone=true, "+ether {
		t.Errorf("after its contract is gone it holds %s", got)
	}
	n.set(func(n *bareNode) { n.gone, n.number = false, 102 })
	if got := synced(); got.GetError() != "" {
		t.Fatal(got)
	}
	if got := held(); got != "TKN 5000000/10^6 verified=true gone=false, "+ether {
		t.Errorf("after it is back it holds %s", got)
	}
	n.set(func(n *bareNode) { n.number, n.age = 3, 0 }) // the chain was reset
	if got := synced(); got.GetBlockNumber() != 3 || !strings.Contains(got.GetError(), "the chain was reset") {
		t.Errorf("after a reset of the chain: %v", got)
	}
}

func TestANodeThatStandsStillIsPassedOverForTheNext(t *testing.T) {
	still, current := &bareNode{number: 50, age: 20 * time.Hour, decimals: 6}, &bareNode{number: 100, decimals: 6}
	s, _ := startOnBare(t, still, current)
	ctx := s.user(t)
	w := s.create(ctx, t, account)
	for range 2 { // the second time the wallet is ahead of the first node
		resp, err := s.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
		if err != nil || resp.GetWallet().GetSync().GetBlockNumber() != 100 ||
			resp.GetWallet().GetSync().GetError() != "" {
			t.Fatal(resp, err)
		}
	}
	chains, err := s.tokens.ListChains(ctx, &walletv1.ListChainsRequest{})
	if err != nil || chains.GetChains()[0].GetHead().GetBlockNumber() != 100 ||
		chains.GetChains()[0].GetNodes()[0].GetLastErrorReason() != "BEHIND" {
		t.Errorf("the chain is told as %v, %v", chains, err)
	}
	alone, _ := startOnBare(t, still)
	ctx = alone.user(t)
	w = alone.create(ctx, t, account)
	resp, err := alone.wallets.SyncWallet(ctx, &walletv1.SyncWalletRequest{WalletId: w.GetId()})
	if err != nil || !strings.Contains(resp.GetWallet().GetSync().GetError(), "20h0m0s ago") {
		t.Errorf("alone it is told as %v, %v", resp, err)
	}
}
