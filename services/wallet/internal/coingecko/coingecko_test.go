package coingecko_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/coingecko"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

const contract = "0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"

// feed answers by a function and keeps what it was asked.
type feed struct {
	*httptest.Server
	mu    sync.Mutex
	asked []*url.URL
	keys  []http.Header
}

func newFeed(t testing.TB, answer func(w http.ResponseWriter, r *http.Request)) *feed {
	t.Helper()
	f := &feed{}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.asked, f.keys = append(f.asked, r.URL), append(f.keys, r.Header)
		f.mu.Unlock()
		answer(w, r)
	}))
	t.Cleanup(f.Close)
	return f
}

func always(status int, body string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // the reader may have had enough
	}
}

func newSource(t testing.TB, url string, now func() time.Time, log *bytes.Buffer) *coingecko.Source {
	t.Helper()
	logger := slog.New(slog.DiscardHandler)
	if log != nil {
		logger = slog.New(slog.NewTextHandler(log, nil))
	}
	s, err := coingecko.New(coingecko.Options{URL: url + "/api/v3", Key: "hunter2",
		Platforms: map[uint64]string{1: "ethereum", 10: "optimistic-ethereum"},
		Coins:     map[uint64]string{1: "ethereum", 10: "ethereum"}, Log: logger, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tokens() []token.Token {
	return []token.Token{
		{ID: "erc20", Chain: 1, Contract: common.HexToAddress(contract)},
		{ID: "native", Chain: 1, Native: true}, {ID: "native10", Chain: 10, Native: true},
		{ID: "elsewhere", Chain: 999, Contract: common.HexToAddress(contract)},
		price.CurrencyToken("EUR"), price.CurrencyToken("JPY"),
	}
}

// Replies as docs.coingecko.com shows them.
func TestPricesAndRatesOfOneCall(t *testing.T) {
	at := noon().Unix()
	f := newFeed(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/api/v3/simple/token_price/") {
			_, _ = fmt.Fprintf(w, `{%q:{"usd":1.000123456789012345,"last_updated_at":%d}}`, contract, at)
			return
		}
		_, _ = fmt.Fprintf(w, `{"bitcoin":{"usd":64800,"eur":60000,"jpy":9720000.5,"last_updated_at":%d},
			"ethereum":{"usd":2853.55,"eur":2600,"jpy":null,"last_updated_at":%d}}`, at, at-60)
	})
	s := newSource(t, f.URL, noon, nil)
	got, err := s.Current(t.Context(), tokens())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"erc20": "1.000123456789012345", "native": "2853.55", "native10": "2853.55",
		"EUR": "1.08", "JPY": "0.006666666323731156186668920438841541"}
	for id, value := range want {
		if p := got[id]; p.Value != value || p.Source != "coingecko" {
			t.Errorf("%s: %+v, want %s", id, p, value)
		}
	}
	if len(got) != len(want) || !got["native"].At.Equal(noon().Add(-time.Minute)) {
		t.Errorf("%+v", got)
	}
	if len(f.asked) != 2 || f.asked[0].Query().Get("vs_currencies") != "usd,eur,jpy" ||
		f.asked[0].Query().Get("ids") != "bitcoin,ethereum" || f.asked[0].Query().Get("precision") != "full" {
		t.Errorf("asked %v", f.asked)
	}
	if f.keys[0].Get("X-Cg-Demo-Api-Key") != "hunter2" || strings.Contains(f.asked[0].String(), "hunter2") {
		t.Errorf("the key is in %v, %v", f.keys[0], f.asked[0])
	}
}

func TestOddPricesAreLeftOutAlone(t *testing.T) {
	at := noon().Unix()
	other := fmt.Sprintf(`,"0x00":{"usd":5,"last_updated_at":%d}}`, at)
	for _, tc := range []struct{ name, coin, want string }{
		{"a price", fmt.Sprintf(`{"usd":0.5,"last_updated_at":%d}`, at), "0.5"},
		{"an exponent", fmt.Sprintf(`{"usd":5e-7,"last_updated_at":%d}`, at), "0.0000005"},
		{"null", fmt.Sprintf(`{"usd":null,"last_updated_at":%d}`, at), ""},
		{"nothing, as of a coin that is listed and not traded", `{}`, ""},
		{"no time", `{"usd":1}`, ""},
		{"a time of null", `{"usd":1,"last_updated_at":null}`, ""},
		{"a time of the future", fmt.Sprintf(`{"usd":1,"last_updated_at":%d}`, at+301), ""},
		{"a time in milliseconds", fmt.Sprintf(`{"usd":1,"last_updated_at":%d000}`, at), ""},
		{"NaN", fmt.Sprintf(`{"usd":NaN,"last_updated_at":%d}`, at), ""},
		{"an infinity", fmt.Sprintf(`{"usd":Infinity,"last_updated_at":%d}`, at), ""},
		{"zero", fmt.Sprintf(`{"usd":0,"last_updated_at":%d}`, at), ""},
		{"a negative number", fmt.Sprintf(`{"usd":-5,"last_updated_at":%d}`, at), ""},
		{"a huge exponent", fmt.Sprintf(`{"usd":1e999999999,"last_updated_at":%d}`, at), ""},
		{"a tiny exponent", fmt.Sprintf(`{"usd":1e-999999999,"last_updated_at":%d}`, at), ""},
		{"a text", fmt.Sprintf(`{"usd":"5","last_updated_at":%d}`, at), ""},
		{"an object", fmt.Sprintf(`{"usd":{"usd":5},"last_updated_at":%d}`, at), ""},
		{"two prices", fmt.Sprintf(`{"usd":5,"usd":6,"last_updated_at":%d}`, at), ""},
		{"the same price twice", fmt.Sprintf(`{"usd":5,"usd":5,"last_updated_at":%d}`, at), "5"},
		{"a coin that is a list", `[5]`, ""},
		{"the coin again with another price", fmt.Sprintf(`{"usd":5,"last_updated_at":%d},%q:{"usd":6,`+
			`"last_updated_at":%d}`, at, strings.ToUpper(contract[2:]), at), "5"}, // that is another name
		{"the coin again in another case", fmt.Sprintf(`{"usd":5,"last_updated_at":%d},%q:{"usd":6,`+
			`"last_updated_at":%d}`, at, "0x"+strings.ToUpper(contract[2:]), at), ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newFeed(t, always(200, fmt.Sprintf(`{%q:%s`, contract, tc.coin)+other))
			list := []token.Token{tokens()[0], {ID: "other", Chain: 1}}
			list[1].Contract = common.HexToAddress("0x00")
			got, err := newSource(t, f.URL, noon, nil).Current(t.Context(), list)
			if err != nil || got["erc20"].Value != tc.want {
				t.Errorf("%+v, %v; want %q", got, err, tc.want)
			}
			if len(got) > 1 {
				t.Errorf("a coin by a wrong name was taken: %+v", got)
			}
		})
	}
}

// The feed's words and limit, as it answers without a key.
func TestFewerTokensAreAskedForWhenTheFeedWantsIt(t *testing.T) {
	f := newFeed(t, func(w http.ResponseWriter, r *http.Request) {
		addresses := strings.Split(r.URL.Query().Get("contract_addresses"), ",")
		if len(addresses) > 10 {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = w.Write([]byte(`{"timestamp":"2023-11-23T14:08:29.074+00:00","error_code":10012,"status":` +
				`{"error_message":"Number of contract addresses in the request exceeds the allowed limit ` +
				`(10 addresses)."}}`))
			return
		}
		var coins []string
		for _, a := range addresses {
			coins = append(coins, fmt.Sprintf(`%q:{"usd":2,"last_updated_at":%d}`, a, noon().Unix()))
		}
		_, _ = w.Write([]byte("{" + strings.Join(coins, ",") + "}"))
	})
	s := newSource(t, f.URL, noon, nil)
	var many []token.Token
	for i := range 45 {
		many = append(many, token.Token{ID: fmt.Sprint(i), Chain: 1, Contract: common.Address{1, byte(i)}})
	}
	for range 2 {
		got, err := s.Current(t.Context(), many)
		if err != nil || len(got) != 45 {
			t.Fatalf("%d prices, %v", len(got), err)
		}
	}
	refused := 0
	for _, u := range f.asked {
		if strings.Count(u.Query().Get("contract_addresses"), ",") >= 10 {
			refused++
		}
	}
	if refused != 3 { // 45, 22 and 11; the second call begins with what was learned
		t.Errorf("%d of %d requests were refused", refused, len(f.asked))
	}
}

func TestAFeedThatFailsRests(t *testing.T) {
	for _, tc := range []struct {
		name     string
		status   int
		after    string
		body     string
		cooldown time.Duration
	}{
		{"asked too often", 429, "60", "", time.Minute},
		{"asked too often, until a date", 429, noon().Add(90 * time.Second).Format(http.TimeFormat), "",
			90 * time.Second},
		{"a cooldown of a year", 429, "31536000", "", 15 * time.Minute},
		{"a cooldown of nonsense", 429, "-1", "", 5 * time.Second},
		{"a cooldown below zero", 429, noon().Add(-time.Hour).Format(http.TimeFormat), "", 5 * time.Second},
		{"broken", 500, "", "", 5 * time.Second},
		{"unavailable", 503, "10", "", 10 * time.Second},
		{"a wrong key", 401, "", `{"status":{"error_code":10011}}`, 5 * time.Second},
		{"no JSON", 200, "", "<html>", 5 * time.Second},
		{"half a reply", 200, "", `{"bitcoin":{`, 5 * time.Second},
		{"a list", 200, "", "[]", 5 * time.Second},
		{"100 MB", 200, "", strings.Repeat(" ", 100<<20), 5 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now := noon()
			broken := true
			f := newFeed(t, func(w http.ResponseWriter, r *http.Request) {
				if !broken {
					_, _ = fmt.Fprintf(w, `{"ethereum":{"usd":5,"last_updated_at":%d}}`, noon().Unix())
					return
				}
				if tc.after != "" {
					w.Header().Set("Retry-After", tc.after)
				}
				always(tc.status, tc.body)(w, r)
			})
			s := newSource(t, f.URL, func() time.Time { return now }, nil)
			native := tokens()[1:2]
			for range 3 {
				if got, err := s.Current(t.Context(), native); err == nil || strings.Contains(err.Error(), "hunter2") {
					t.Fatalf("answered %v, %v", got, err)
				}
			}
			broken, now = false, now.Add(tc.cooldown-time.Second)
			if _, err := s.Current(t.Context(), native); err == nil || len(f.asked) != 1 {
				t.Errorf("asked %d times during its cooldown", len(f.asked))
			}
			now = now.Add(time.Second)
			if got, err := s.Current(t.Context(), native); err != nil || got["native"].Value != "5" {
				t.Errorf("after its cooldown: %v, %v", got, err)
			}
		})
	}
}

func TestThePastOfTokensAndCurrencies(t *testing.T) {
	from := noon().Add(-100 * 24 * time.Hour)
	f := newFeed(t, func(w http.ResponseWriter, r *http.Request) {
		start, err1 := strconv.ParseInt(r.URL.Query().Get("from"), 10, 64)
		end, err2 := strconv.ParseInt(r.URL.Query().Get("to"), 10, 64)
		if err1 != nil || err2 != nil || end-start > 90*24*3600 {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		usd := "2000"
		switch {
		case strings.Contains(r.URL.Path, "/contract/"):
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"error":"coin not found"}`))
			return
		case strings.HasPrefix(r.URL.Path, "/api/v3/coins/bitcoin/") && r.URL.Query().Get("vs_currency") == "eur":
			usd = "60000"
		case strings.HasPrefix(r.URL.Path, "/api/v3/coins/bitcoin/"):
			usd = "66000"
		}
		var points []string
		for at := start + 37; at < end; at += 3600 { // not on the hour
			points = append(points, fmt.Sprintf("[%d123,%s]", at, usd))
		}
		points = append(points, "[null,5]", "[5]", fmt.Sprintf("[%d000,null]", start),
			fmt.Sprintf(`[%d000,"7"]`, start))
		_, _ = w.Write([]byte(`{"prices":[` + strings.Join(points, ",") + `],"market_caps":[],"total_volumes":[]}`))
	})
	s := newSource(t, f.URL, noon, nil)
	got, err := s.History(t.Context(), []token.Token{tokens()[0], tokens()[1], price.CurrencyToken("EUR")}, from,
		100*24)
	if err != nil {
		t.Fatal(err)
	}
	if prices, read := got["erc20"]; !read || len(prices) != 0 {
		t.Errorf("a coin that the feed doesn't know: %v, %t", prices, read)
	}
	for id, value := range map[string]string{"native": "2000", "EUR": "1.1"} {
		prices := got[id]
		if len(prices) != 2400 || prices[0].Value != value || !slices.IsSortedFunc(prices,
			func(a, b price.Price) int { return a.At.Compare(b.At) }) {
			t.Errorf("%s: %d prices, the first %+v", id, len(prices), prices[:min(1, len(prices))])
		}
	}
}

func TestWhatIsLeftOutIsTold(t *testing.T) {
	var log bytes.Buffer
	f := newFeed(t, always(200, `{"bitcoin":{"usd":5},"ethereum":{"usd":null,"last_updated_at":1700000000}}`))
	got, err := newSource(t, f.URL, noon, &log).Current(t.Context(), tokens()[1:])
	if err != nil || len(got) != 0 {
		t.Fatal(got, err)
	}
	told := log.String()
	if !strings.Contains(told, "no price: 2, such as native") || !strings.Contains(told, "no time: 2, such as EUR") {
		t.Errorf("logged %s", told)
	}
}
