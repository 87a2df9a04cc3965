package app_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
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

const (
	aaa = "eip155:1/erc20:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
	// llamaEther is ether in DefiLlama's shape.
	llamaEther = "ethereum:0x0000000000000000000000000000000000000000"
)

// priceFeeds are an HTTP server in both shapes. A price is a text as it goes into the reply, "" for none.
type priceFeeds struct {
	*httptest.Server
	mu       sync.Mutex
	llama    map[string]string // by the name of the coin
	gecko    map[string]string // by the currency: the price of bitcoin; "ethereum" for ether in USD
	status   int               // in place of a reply, if not 0
	requests int
}

func newPriceFeeds(t *testing.T) *priceFeeds {
	t.Helper()
	f := &priceFeeds{llama: map[string]string{}, gecko: map[string]string{}}
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

func (f *priceFeeds) set(change func(*priceFeeds)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *priceFeeds) count() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

func (f *priceFeeds) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasPrefix(r.URL.Path, "/prices/current/coingecko:") || r.URL.Query().Get("ids") == "bitcoin" &&
		r.URL.Query().Get("vs_currencies") == "usd" {
		_, _ = w.Write([]byte(`{}`)) // whether it answers
		return
	}
	f.requests++
	if f.status != 0 {
		w.WriteHeader(f.status)
		return
	}
	now := time.Now().Unix()
	if coins, ok := strings.CutPrefix(r.URL.Path, "/prices/current/"); ok {
		var found []string
		for coin := range strings.SplitSeq(coins, ",") {
			if p := f.llama[coin]; p != "" {
				found = append(found, fmt.Sprintf(`%q:{"price":%s,"timestamp":%d}`, coin, p, now))
			}
		}
		_, _ = fmt.Fprintf(w, `{"coins":{%s}}`, strings.Join(found, ","))
		return
	}
	if coins, ok := strings.CutPrefix(r.URL.Path, "/chart/"); ok {
		f.chart(w, r, coins)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/api/v3/simple/token_price/") {
		_, _ = w.Write([]byte(`{}`)) // it knows none
		return
	}
	if r.URL.Path != "/api/v3/simple/price" {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	bitcoin := []string{fmt.Sprintf(`"last_updated_at":%d`, now)}
	for currency, p := range f.gecko {
		if currency != "ethereum" {
			bitcoin = append(bitcoin, fmt.Sprintf("%q:%s", currency, p))
		}
	}
	eth := "null"
	if p := f.gecko["ethereum"]; p != "" {
		eth = p
	}
	_, _ = fmt.Fprintf(w, `{"bitcoin":{%s},"ethereum":{"usd":%s,"last_updated_at":%d}}`,
		strings.Join(bitcoin, ","), eth, now)
}

// chart has the coins' prices at every full hour.
func (f *priceFeeds) chart(w http.ResponseWriter, r *http.Request, coins string) {
	start, err := strconv.ParseInt(r.URL.Query().Get("start"), 10, 64)
	span, spanErr := strconv.Atoi(r.URL.Query().Get("span"))
	if err != nil || spanErr != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	var found []string
	for coin := range strings.SplitSeq(coins, ",") {
		if f.llama[coin] == "" {
			continue
		}
		var points []string
		for i := range int64(span) {
			points = append(points, fmt.Sprintf(`{"price":%s,"timestamp":%d}`, f.llama[coin], start+i*3600))
		}
		found = append(found, fmt.Sprintf(`%q:{"prices":[%s]}`, coin, strings.Join(points, ",")))
	}
	_, _ = fmt.Fprintf(w, `{"coins":{%s}}`, strings.Join(found, ","))
}

// startPriced runs the service with sources of prices, in this order, and a currency's coin in DefiLlama's shape.
func startPriced(t *testing.T, sources string, more ...string) (service, *priceFeeds, *testkit.LogBuffer) {
	t.Helper()
	f, logs := newPriceFeeds(t), &testkit.LogBuffer{}
	s := service{db: testkit.Postgres(t, migrations.FS), issuer: servicetest.NewIssuer(t)}
	list := filepath.Join(t.TempDir(), "tokens.json")
	if err := os.WriteFile(list, []byte(tokenList), 0o600); err != nil {
		t.Fatal(err)
	}
	env := append([]string{"PURSER_PRICE_SOURCES=" + sources}, more...)
	env = append(env,
		"PURSER_DATABASE_URL="+s.db.URL, "PURSER_REDIS_URL="+servicetest.NoRedis, "PURSER_ISSUER="+s.issuer.URL,
		"PURSER_TOKEN_LIST="+list, "PURSER_GRPC_PLAINTEXT=true", "PURSER_GRPC_BURST=10000",
		"PURSER_SIWE_DOMAIN=app.example", "PURSER_SYNC_CRON="+never, "PURSER_TRANSACTIONS_CRON="+never,
		"PURSER_PRICE_REFRESH=1s", "PURSER_PRICE_COMPARE_EVERY=1s", "PURSER_PRICE_CURRENCY_COINS=EUR=test:euro")
	if !strings.Contains(strings.Join(more, " "), "PURSER_CHAIN_RPC_URLS") {
		env = append(env, "PURSER_CHAIN_RPC_URLS=137=http://127.0.0.1:1")
	}
	if strings.Contains(sources, "llama") {
		env = append(env, "PURSER_PRICE_URL="+f.URL)
	}
	if strings.Contains(sources, "coingecko") {
		env = append(env, "PURSER_PRICE_COINGECKO_URL="+f.URL+"/api/v3")
	}
	conn := servicetest.Start(t, app.Load, app.New, logs, env...)
	s.wallets, s.prices = walletv1.NewWalletServiceClient(conn), walletv1.NewPriceServiceClient(conn)
	s.tokens, s.holdings = walletv1.NewTokenServiceClient(conn), walletv1.NewHoldingsServiceClient(conn)
	return s, f, logs
}
