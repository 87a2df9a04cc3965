package llama_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"

	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/token"
)

// charted is a reply with these prices and times of the coin.
func charted(points ...string) string {
	return fmt.Sprintf(`{"coins":{%q:{"symbol":"X","confidence":0.99,"prices":[%s]}}}`, coin,
		strings.Join(points, ","))
}

func pointOf(text string, at time.Time) string {
	return fmt.Sprintf(`{"timestamp":%d,"price":%s}`, at.Unix(), text)
}

// priced are prices as text.
func priced(prices []price.Price) string {
	var out []string
	for _, p := range prices {
		out = append(out, p.At.Format("15:04")+" "+p.Value)
	}
	return strings.Join(out, ", ")
}

func TestChartsAreReadAsSentAndInOrder(t *testing.T) {
	at := noon().Add(-3 * time.Hour)
	good := pointOf("5", at)
	for _, tc := range []struct{ name, body, want string }{
		{"every digit is kept", charted(pointOf("0.1234567890123456789", at)), "09:00 0.1234567890123456789"},
		{"points out of order", charted(pointOf("2", at.Add(time.Hour)), pointOf("1", at)), "09:00 1, 10:00 2"},
		{"a price of the future is left out", charted(good, pointOf("9", noon().Add(6*time.Minute))), "09:00 5"},
		{"a negative price is left out", charted(good, pointOf("-1", at)), "09:00 5"},
		{"a price of zero is left out", charted(good, pointOf("0", at)), "09:00 5"},
		{"1e400 is left out", charted(good, pointOf("1e400", at)), "09:00 5"},
		{"NaN is left out", charted(good, pointOf(`"NaN"`, at)), "09:00 5"},
		{"null is left out", charted(good, "null", pointOf("null", at)), "09:00 5"},
		{"a point that is a list is left out", charted(good, "[1]"), "09:00 5"},
		{"a time that is a text is left out", charted(good, `{"timestamp":"soon","price":1}`), "09:00 5"},
		{"a time past any is left out", charted(good, `{"timestamp":9223372036854775807,"price":1}`), "09:00 5"},
		{"a chart that is a number", `{"coins":{"` + coin + `":5}}`, ""},
		{"prices that are a number", `{"coins":{"` + coin + `":{"prices":5}}}`, ""},
		{"a coin that nobody asked for", strings.ReplaceAll(charted(good), coin, "ethereum:0x1"), ""},
		{"nothing at all", `{}`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := newSource(t, newFeed(t, 200, tc.body).URL, noon).History(t.Context(), tokens(), at, 3)
			if err != nil || priced(got["erc20"]) != tc.want {
				t.Errorf("read %s, %v, want %s", priced(got["erc20"]), err, tc.want)
			}
		})
	}
}

// Every hour of every coin is asked for once, and no request has more points
// than the public feed allows.
func TestChartsAreRequestedInBatches(t *testing.T) {
	for _, tc := range []struct{ coins, hours int }{{1, 1}, {7, 50}, {100, 50}, {3, 1234}, {600, 2}} {
		t.Run(fmt.Sprintf("%d coins and %d hours", tc.coins, tc.hours), func(t *testing.T) {
			var mu sync.Mutex
			seen := map[string]int{}
			f := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				list, _ := strings.CutPrefix(r.URL.Path, "/chart/")
				coins := strings.Split(list, ",")
				query, err := url.ParseQuery(r.URL.RawQuery)
				span, spanErr := strconv.Atoi(query.Get("span"))
				start, startErr := strconv.ParseInt(query.Get("start"), 10, 64)
				if err != nil || spanErr != nil || startErr != nil || query.Get("period") != "1h" ||
					len(coins)*span > 500 || len(coins) > 80 {
					t.Errorf("%d coins, %s", len(coins), r.URL.RawQuery)
				}
				for _, c := range coins {
					for i := range span {
						seen[fmt.Sprint(c, start+int64(i)*3600)]++
					}
				}
				_, _ = w.Write([]byte(`{"coins":{}}`))
			}))
			defer f.Close()
			var many []token.Token
			for i := range tc.coins {
				many = append(many, token.Token{ID: fmt.Sprint(i), Chain: 1,
					Contract: common.Address{byte(i), byte(i >> 8), 1}})
			}
			if _, err := newSource(t, f.URL, noon).History(t.Context(), many, noon().Add(-2000*time.Hour),
				tc.hours); err != nil {
				t.Fatal(err)
			}
			if len(seen) != tc.coins*tc.hours {
				t.Errorf("%d points were asked for, want %d", len(seen), tc.coins*tc.hours)
			}
			for what, times := range seen {
				if times != 1 {
					t.Fatalf("%s was asked for %d times", what, times)
				}
			}
		})
	}
}

func TestAFeedWithoutChartsGetsACooldown(t *testing.T) {
	f := newFeed(t, 500, "")
	s := newSource(t, f.URL+"/hunter2", noon)
	for range 3 {
		got, err := s.History(t.Context(), tokens(), noon().Add(-time.Hour), 1)
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Fatalf("answered %v, %v", got, err)
		}
	}
	if len(f.paths) != 1 {
		t.Errorf("asked %d times during its cooldown", len(f.paths))
	}
}

// A feed that is too slow for all of them loses nobody what it did say, and
// what it was not asked or didn't answer is not taken for none.
func TestTheChartsReadInTimeAreReturnedWithTheError(t *testing.T) {
	var calls atomic.Int32
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	f := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) > 2 {
			<-r.Context().Done()
			return
		}
		_, _ = w.Write([]byte(`{"coins":{}}`))
	}))
	defer f.Close()
	var many []token.Token
	for i := range 130 {
		many = append(many, token.Token{ID: fmt.Sprint(i), Chain: 1, Contract: common.Address{byte(i), 1}})
	}
	s := newSource(t, f.URL, noon)
	got, err := s.History(ctx, many, noon().Add(-60*time.Hour), 51)
	if err == nil || len(got) != 18 {
		t.Errorf("%d coins of two requests for 9 each, %v", len(got), err)
	}
	calls.Store(-100)
	if got, err := s.History(t.Context(), many, noon().Add(-60*time.Hour), 51); err != nil || len(got) != 130 {
		t.Errorf("the feed rests for a caller's haste: %d coins, %v", len(got), err)
	}
}

func TestSeveralChartsAreRequestedConcurrently(t *testing.T) {
	together := make(chan struct{})
	var calls atomic.Int32
	f := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if calls.Add(1) == 4 {
			close(together)
		}
		<-together
		_, _ = w.Write([]byte(`{"coins":{}}`))
	}))
	defer f.Close()
	var many []token.Token
	for i := range 40 {
		many = append(many, token.Token{ID: fmt.Sprint(i), Chain: 1, Contract: common.Address{byte(i), 1}})
	}
	if got, err := newSource(t, f.URL, noon).History(t.Context(), many, noon().Add(-60*time.Hour), 50); err != nil ||
		len(got) != 40 {
		t.Errorf("%d coins, %v", len(got), err)
	}
}
