package prices_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/devstack/prices"
)

const (
	wethKey  = "local:0x53aD3834B2B27b1909090e3A67aD819d86B3AC4C"
	maxKey   = "local:0xed81fc2d5433050b1b4e1a6e297fa81f0eddbfe0"
	etherKey = "local:0x0000000000000000000000000000000000000000"
)

func start(t *testing.T, change func(*prices.Options)) *prices.Feed {
	t.Helper()
	o := prices.Options{
		Now: func() time.Time { return march().Add(20 * time.Minute) },
		Coins: []prices.Coin{
			{Keys: []string{etherKey, "coingecko:ethereum"}, Symbol: "ETH", Decimals: 18},
			{Keys: []string{wethKey}, Symbol: "WETH", Decimals: 18},
			{Keys: []string{maxKey}, Symbol: "MAX"},
		},
	}
	if change != nil {
		change(&o)
	}
	f, err := prices.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return f
}

// get returns an answer's status, headers and body.
func get(ctx context.Context, f *prices.Feed, path string) (int, http.Header, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL()+path, nil)
	if err != nil {
		return 0, nil, "", err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, res.Header, string(body), err
}

type coin struct {
	Decimals   *int
	Symbol     string
	Price      json.RawMessage
	Timestamp  int64
	Confidence json.Number
}

func coins(t *testing.T, f *prices.Feed, path string) map[string]coin {
	t.Helper()
	status, _, body, err := get(t.Context(), f, path)
	if err != nil || status != http.StatusOK {
		t.Fatalf("%s: status %d, %v: %s", path, status, err, body)
	}
	var answer struct{ Coins map[string]coin }
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatalf("%s: %v: %s", path, err, body)
	}
	if answer.Coins == nil {
		t.Fatalf("%s: no coins in %s", path, body)
	}
	return answer.Coins
}

func TestCurrentPricesAreThoseOfTheHourStatedAsOfNow(t *testing.T) {
	f := start(t, nil)
	have := coins(t, f, "/prices/current/"+wethKey+",coingecko:ethereum,"+etherKey+","+maxKey+",local:0xdead")
	want, _ := prices.PriceAt("WETH", march())
	for _, key := range []string{wethKey, etherKey, "coingecko:ethereum"} {
		c, ok := have[key]
		if !ok || string(c.Price) != want || c.Timestamp != march().Add(20*time.Minute).Unix() ||
			c.Confidence != "0.99" {
			t.Errorf("%s: %+v, want price %s", key, c, want)
		}
	}
	if len(have) != 3 {
		t.Errorf("%d coins, want three: MAX has no price and 0xdead isn't known", len(have))
	}
	if d := have[wethKey].Decimals; d == nil || *d != 18 {
		t.Error("WETH hasn't 18 decimals")
	}
	if have["coingecko:ethereum"].Decimals != nil {
		t.Error("a coingecko key states decimals")
	}
}

func TestHistoricalPricesAreStatedAsOfTheirHour(t *testing.T) {
	f := start(t, nil)
	past := march().Add(-40 * 24 * time.Hour)
	path := fmt.Sprintf("/prices/historical/%d/%s", past.Add(59*time.Minute).Unix(), wethKey)
	want, _ := prices.PriceAt("WETH", past)
	if c := coins(t, f, path)[wethKey]; string(c.Price) != want || c.Timestamp != past.Unix() {
		t.Errorf("have %+v, want %s at %d", c, want, past.Unix())
	}
}

func TestKeysAreComparedWithoutCaseAndAnsweredAsAsked(t *testing.T) {
	f := start(t, nil)
	asked := strings.ToLower(wethKey)
	if _, ok := coins(t, f, "/prices/current/"+asked)[asked]; !ok {
		t.Error("the lower-case key isn't in the answer")
	}
}

func TestTheFutureAndTheTimeBeforeHistoryHaveNoPrices(t *testing.T) {
	f := start(t, nil)
	for _, at := range []int64{march().Add(time.Hour).Unix(), 0, -1} {
		if have := coins(t, f, fmt.Sprintf("/prices/historical/%d/%s", at, wethKey)); len(have) != 0 {
			t.Errorf("at %d: %v", at, have)
		}
	}
}

func TestAnUnreadableTimestampIsTheCallersFault(t *testing.T) {
	f := start(t, nil)
	if status, _, _, err := get(t.Context(), f, "/prices/historical/soon/"+wethKey); err != nil ||
		status != http.StatusBadRequest {
		t.Errorf("status %d, %v", status, err)
	}
}

func TestFaultsReplaceTheAnswer(t *testing.T) {
	f := start(t, nil)
	f.SetFaults(prices.Faults{Status: http.StatusTooManyRequests, RetryAfter: 7 * time.Second})
	status, header, _, err := get(t.Context(), f, "/prices/current/"+wethKey)
	if err != nil || status != http.StatusTooManyRequests || header.Get("Retry-After") != "7" {
		t.Errorf("status %d, retry after %q, %v", status, header.Get("Retry-After"), err)
	}
	f.SetFaults(prices.Faults{Body: "<html>"})
	if status, _, body, err := get(t.Context(), f, "/prices/current/"+wethKey); err != nil ||
		status != http.StatusOK || body != "<html>" {
		t.Errorf("status %d, %q, %v", status, body, err)
	}
	f.SetFaults(prices.Faults{})
	if len(coins(t, f, "/prices/current/"+wethKey)) != 1 {
		t.Error("the fault stayed")
	}
	if f.Requests() != 3 {
		t.Errorf("%d requests counted, want 3", f.Requests())
	}
}

func TestFaultsChangePrices(t *testing.T) {
	huge := "1" + strings.Repeat("0", 400)
	f := start(t, nil)
	for _, price := range []string{"-1", "0", huge, "1e400", "null", `"soon"`} {
		f.SetFaults(prices.Faults{Price: map[string]string{"WETH": price}, Age: time.Hour})
		c := coins(t, f, "/prices/current/"+wethKey)[wethKey]
		if string(c.Price) != price || c.Timestamp != march().Add(-40*time.Minute).Unix() {
			t.Errorf("have %s at %d, want %s an hour old", c.Price, c.Timestamp, price)
		}
	}
	f.SetFaults(prices.Faults{Absent: []string{"WETH"}})
	if have := coins(t, f, "/prices/current/"+wethKey+","+etherKey); len(have) != 1 {
		t.Errorf("have %v, want ether alone", have)
	}
}

func TestADelayHoldsTheAnswerBackUntilTheTimerOrTheCallerEndsIt(t *testing.T) {
	asked, timer := make(chan time.Duration), make(chan time.Time)
	f := start(t, func(o *prices.Options) {
		o.Faults.Delay = 3 * time.Second
		o.After = func(d time.Duration) <-chan time.Time {
			asked <- d
			return timer
		}
	})
	answered := make(chan error, 1)
	request := func(ctx context.Context) {
		go func() {
			_, _, _, err := get(ctx, f, "/prices/current/"+wethKey)
			answered <- err
		}()
	}
	request(t.Context())
	if d := <-asked; d != 3*time.Second {
		t.Errorf("delay of %s", d)
	}
	select {
	case err := <-answered:
		t.Fatalf("answered before the timer: %v", err)
	default:
	}
	timer <- time.Time{}
	if err := <-answered; err != nil {
		t.Error(err)
	}

	ctx, cancel := context.WithCancel(t.Context())
	request(ctx)
	<-asked
	cancel()
	if err := <-answered; !errors.Is(err, context.Canceled) {
		t.Errorf("have %v, want the caller's end", err)
	}
}

func TestOtherAddressesThanLoopbackAreRefused(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "192.0.2.1:80"} {
		if _, err := prices.Start(t.Context(), prices.Options{Addr: addr}); err == nil {
			t.Errorf("%s was taken", addr)
		}
	}
}
