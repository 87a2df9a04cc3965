package prices_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/devstack/prices"
)

func TestCoinGeckosShape(t *testing.T) {
	f := start(t, nil)
	ask := func(path string, into any) {
		t.Helper()
		status, _, body, err := get(t.Context(), f, path)
		if err != nil || status != http.StatusOK {
			t.Fatalf("%s: status %d, %v: %s", path, status, err, body)
		}
		if err := json.Unmarshal([]byte(body), into); err != nil {
			t.Fatal(err, body)
		}
	}
	now := march().Add(20 * time.Minute)
	ether, _ := prices.PriceAt("ETH", now)
	euro, _ := prices.PriceAt("EUR", now)
	var coins map[string]map[string]json.Number
	ask("/api/v3/simple/price?ids=ethereum,nothing&vs_currencies=usd,eur,xau&include_last_updated_at=true", &coins)
	got := coins["ethereum"]
	if len(coins) != 1 || len(got) != 3 || got["usd"].String() != ether ||
		got["last_updated_at"].String() != fmt.Sprint(now.Unix()) {
		t.Errorf("%v", coins)
	}
	inUSD, _ := new(big.Rat).SetString(ether)
	rate, _ := new(big.Rat).SetString(euro)
	if want := new(big.Rat).Quo(inUSD, rate).FloatString(12); got["eur"].String() != want {
		t.Errorf("in euros %s, want %s", got["eur"], want)
	}
	address := strings.ToLower(strings.TrimPrefix(wethKey, "local:"))
	coins = nil
	ask("/api/v3/simple/token_price/local?contract_addresses="+address+",0xdead&vs_currencies=usd", &coins)
	if len(coins) != 1 || coins[address]["usd"].String() != ether {
		t.Errorf("%v", coins)
	}
	from := march().Add(-3 * time.Hour)
	for _, path := range []string{"/api/v3/coins/ethereum", "/api/v3/coins/local/contract/" + address} {
		var chart struct{ Prices [][2]json.Number }
		ask(fmt.Sprintf("%s/market_chart/range?vs_currency=usd&from=%d&to=%d", path, from.Unix(), from.Unix()+36000),
			&chart)
		want, _ := prices.PriceAt("ETH", from)
		if len(chart.Prices) != 4 || chart.Prices[0][1].String() != want ||
			chart.Prices[0][0].String() != fmt.Sprint(from.UnixMilli()) {
			t.Errorf("%s: %v, want %s first", path, chart.Prices, want)
		}
	}
	for path, want := range map[string]int{
		"/api/v3/simple/price?ids=ethereum":                                          422,
		"/api/v3/coins/nothing/market_chart/range?vs_currency=usd&from=0&to=1":       404,
		"/api/v3/coins/ethereum/market_chart/range?vs_currency=usd&from=5&to=1":      422,
		"/api/v3/coins/ethereum/market_chart/range?vs_currency=usd&from=0&to=9e18":   422,
		"/api/v3/coins/ethereum/market_chart/range?vs_currency=usd&from=0&to=999e7":  422,
		"/api/v3/coins/ethereum/market_chart/range?vs_currency=usd&from=-1&to=99999": 422,
	} {
		if status, _, body, err := get(t.Context(), f, path); err != nil || status != want {
			t.Errorf("%s: status %d, want %d: %s %v", path, status, want, body, err)
		}
	}
}
