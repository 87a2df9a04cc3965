package llama_test

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/llama"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

func noon() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

const (
	contract = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
	coin     = "ethereum:0x5aaeb6053f3e94c9b9a09f33669435e7ef1beaed"
	native   = "ethereum:0x0000000000000000000000000000000000000000"
)

// feed answers every request with the same bytes and counts them.
type feed struct {
	*httptest.Server
	mu     sync.Mutex
	status int
	body   string
	paths  []string
}

func newFeed(t *testing.T, status int, body string) *feed {
	t.Helper()
	f := &feed{status: status, body: body}
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.mu.Lock()
		f.paths = append(f.paths, r.URL.Path)
		status, body := f.status, f.body
		f.mu.Unlock()
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body)) // the reader may have had enough
	}))
	t.Cleanup(f.Close)
	return f
}

func (f *feed) set(status int, body string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status, f.body = status, body
}

func newSource(t testing.TB, url string, now func() time.Time) *llama.Source {
	t.Helper()
	s, err := llama.New(url, map[uint64]string{1: "ethereum", 2: "other"}, slog.New(slog.DiscardHandler), now)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tokens() []token.Token {
	return []token.Token{
		{ID: "erc20", Chain: 1, Contract: common.HexToAddress(contract)},
		{ID: "native", Chain: 1, Native: true},
		{ID: "elsewhere", Chain: 999, Contract: common.HexToAddress(contract)},
	}
}

func reply(coin, price string, at int64) string {
	return fmt.Sprintf(`{"coins":{%q:{"price":%s,"timestamp":%d,"symbol":"X","confidence":0.99}}}`, coin, price, at)
}

func TestPricesAreReadAsSent(t *testing.T) {
	at := noon().Unix()
	other := fmt.Sprintf(`,%q:{"price":7,"timestamp":%d}}}`, native, at)
	for _, tc := range []struct{ name, body, want string }{ // "" for none
		{"every digit is kept", reply(coin, "0.1234567890123456789", at), "0.1234567890123456789"},
		{"a large number is kept", reply(coin, "123456789012345678901234567890", at),
			"123456789012345678901234567890"},
		{"an exponent is written out", reply(coin, "1e-9", at), "0.000000001"},
		{"another case of the key is the same coin", reply("Ethereum:"+contract, "5", at), "5"},
		{"five minutes ahead is a clock", reply(coin, "5", noon().Add(5*time.Minute).Unix()), "5"},
		{"more is a made-up price", reply(coin, "5", noon().Add(5*time.Minute+time.Second).Unix()), ""},
		{"a time far past any is passed over", reply(coin, "5", 1<<62), ""},
		{"a price without a time is passed over", `{"coins":{"` + coin + `":{"price":5}}}`, ""},
		{"a time of zero is passed over", reply(coin, "5", 0), ""},
		{"a price of zero is passed over", reply(coin, "0", at), ""},
		{"a negative price is passed over", reply(coin, "-5", at), ""},
		{"no price is passed over", reply(coin, "null", at), ""},
		{"1e400 is passed over", reply(coin, "1e400", at), ""},
		{"NaN as text is passed over, and the others stay", strings.TrimSuffix(reply(coin, `"NaN"`, at), "}}") + other,
			""},
		{"NaN, which JSON does not have, is passed over, and the others stay",
			strings.TrimSuffix(reply(coin, "NaN", at), "}}") + other, ""},
		{"an infinity is passed over, and the others stay",
			strings.TrimSuffix(reply(coin, "-Infinity", at), "}}") + other, ""},
		{"NaN for a time is passed over, and the others stay",
			`{"coins":{"` + coin + `":{"price":5,"timestamp":NaN}` + other, ""},
		{"a time in floats is one",
			`{"coins":{"` + coin + `":{"price":5,"timestamp":` + fmt.Sprint(at) + `.0}}}`, "5"},
		{"a time in milliseconds is passed over", reply(coin, "5", at*1000), ""},
		{"little confidence is passed over", strings.Replace(reply(coin, "5", at), "0.99", "0.01", 1), ""},
		{"an object for a price is passed over, and the others stay",
			strings.TrimSuffix(reply(coin, "{}", at), "}}") + other, ""},
		{"a coin that is a number is passed over, and the others stay", `{"coins":{"` + coin + `":5` + other, ""},
		{"coins that nobody asked for are passed over", reply("ethereum:0x1", "5", at), ""},
		{"a coin of another chain is passed over", reply("other:"+strings.TrimPrefix(coin, "ethereum:"), "5", at), ""},
		{"no coins", `{"coins":{}}`, ""},
		{"nothing at all", `{}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := newSource(t, newFeed(t, 200, tc.body).URL, noon).Current(t.Context(), tokens())
			if err != nil {
				t.Fatal(err)
			}
			if q := got["erc20"]; q.Value != tc.want ||
				tc.want != "" && (q.Source != "llama" || q.At.IsZero()) {
				t.Errorf("price %+v, want %q", q, tc.want)
			}
			if strings.HasSuffix(tc.name, "the others stay") && got["native"].Value != "7" {
				t.Errorf("the other coin: %+v", got)
			}
		})
	}
}

func TestCoinsAreRequestedInBatches(t *testing.T) {
	f := newFeed(t, 200, `{"coins":{}}`)
	var many []token.Token
	for i := range 170 {
		many = append(many, token.Token{ID: fmt.Sprint(i), Chain: 1, Contract: common.Address{byte(i), 1}})
	}
	if _, err := newSource(t, f.URL+"/", noon).Current(t.Context(), append(many, tokens()...)); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, path := range f.paths {
		list, ok := strings.CutPrefix(path, "/prices/current/")
		coins := strings.Split(list, ",")
		if !ok || len(coins) > 80 {
			t.Errorf("%d coins at %.60s", len(coins), path)
		}
		for _, c := range coins {
			seen[c] = true
		}
	}
	if len(seen) != 172 || !seen[coin] || !seen[native] {
		t.Errorf("%d coins were asked for in %d requests", len(seen), len(f.paths))
	}
}

func TestAFeedThatFailsGetsACooldown(t *testing.T) {
	for _, tc := range []struct {
		name   string
		status int
		body   string
	}{
		{"asked too often", 429, ""},
		{"broken", 500, reply(coin, "5", noon().Unix())},
		{"no content", 204, ""},
		{"no JSON", 200, "<html>"},
		{"half a reply", 200, `{"coins":{`},
		{"a list", 200, `[]`},
		{"coins that are a text", 200, `{"coins":"none"}`},
		{"an endless reply", 200, `{"coins":{"x":"` + strings.Repeat("x", 5<<20) + `"}}`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			now := noon()
			f := newFeed(t, tc.status, tc.body)
			s := newSource(t, f.URL, func() time.Time { return now })
			for range 3 {
				if got, err := s.Current(t.Context(), tokens()); err == nil {
					t.Fatalf("answered %v", got)
				}
			}
			if len(f.paths) != 1 {
				t.Errorf("asked %d times during its cooldown", len(f.paths))
			}
			f.set(200, reply(coin, "5", noon().Unix()))
			now = now.Add(5 * time.Second)
			if got, err := s.Current(t.Context(), tokens()); err != nil || got["erc20"].Value != "5" {
				t.Errorf("after its cooldown: %v, %v", got, err)
			}
		})
	}
}

func TestAFeedThatHangsIsTimedOut(t *testing.T) {
	hang := make(chan struct{})
	f := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer f.Close()
	defer close(hang)
	begun := time.Now()
	if _, err := newSource(t, f.URL, time.Now).Current(t.Context(), tokens()); err == nil {
		t.Error("answered")
	}
	if took := time.Since(begun); took > 6*time.Second {
		t.Errorf("after %s", took)
	}
}

func TestNoKeyOfTheFeedsURLGetsIntoErrors(t *testing.T) {
	f := newFeed(t, 200, "")
	url := f.URL + "/hunter2"
	f.Close()
	_, err := newSource(t, url, noon).Current(t.Context(), tokens())
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("told: %v", err)
	}
}

func TestURLsThatAreRefused(t *testing.T) {
	for _, url := range []string{"", "feed.example", "file:///prices", "http://"} {
		if _, err := llama.New(url, nil, slog.New(slog.DiscardHandler), noon); err == nil {
			t.Errorf("%q was taken", url)
		}
	}
}
