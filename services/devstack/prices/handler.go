package prices

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// confidence of every quote, the usual value of the public feed for well-known coins.
const confidence = "0.99"

// quote is a coin in an answer.
type quote struct {
	Decimals *uint8 `json:"decimals,omitempty"`
	Symbol   string `json:"symbol"`
	// Price and Confidence are printed verbatim.
	Price      number `json:"price"`
	Timestamp  int64  `json:"timestamp"`
	Confidence number `json:"confidence"`
}

// number is a JSON number as text. Unlike json.Number it may be any JSON value, for faults.
type number string

func (n number) MarshalJSON() ([]byte, error) { return []byte(n), nil }

// Handler serves the feed's paths.
func (f *Feed) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /prices/current/{coins}", func(w http.ResponseWriter, r *http.Request) {
		now := f.now()
		f.serve(w, r, now, now)
	})
	mux.HandleFunc("GET /prices/historical/{timestamp}/{coins}", func(w http.ResponseWriter, r *http.Request) {
		seconds, err := strconv.ParseInt(r.PathValue("timestamp"), 10, 64)
		if err != nil {
			http.Error(w, `{"message":"timestamp is not a number of seconds"}`, http.StatusBadRequest)
			return
		}
		at := time.Unix(seconds, 0)
		f.serve(w, r, at, at.Truncate(time.Hour))
	})
	mux.HandleFunc("GET /chart/{coins}", f.chart)
	f.coinGecko(mux)
	return mux
}

// serve answers with the prices at one time; stated is the timestamp in the answer.
func (f *Feed) serve(w http.ResponseWriter, r *http.Request, at, stated time.Time) {
	faults, answered := f.begin(w, r)
	if answered {
		return
	}
	quotes := map[string]quote{}
	for key := range strings.SplitSeq(r.PathValue("coins"), ",") {
		if q, ok := f.quote(key, at, faults); ok {
			q.Timestamp = stated.Add(-faults.Age).Unix()
			quotes[key] = q
		}
	}
	answer(w, quotes)
}

// begin counts a request and applies the faults. answered is true if it has written an answer.
func (f *Feed) begin(w http.ResponseWriter, r *http.Request) (faults Faults, answered bool) {
	f.mu.Lock()
	f.requests++
	if strings.HasPrefix(r.URL.Path, "/chart/") {
		f.chartRequests++
	}
	faults = f.faults
	f.mu.Unlock()

	if faults.Delay > 0 {
		select {
		case <-f.after(faults.Delay):
		case <-r.Context().Done():
			return faults, true
		}
	}
	w.Header().Set("Content-Type", "application/json")
	return faults, faults.answer(w)
}

// answer writes the coins as JSON.
func answer(w http.ResponseWriter, coins any) {
	body, err := json.Marshal(map[string]any{"coins": coins})
	if err != nil {
		http.Error(w, `{"message":"internal error"}`, http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(body)
}

// quote is the price of the coin with the given key, without its time.
func (f *Feed) quote(key string, at time.Time, faults Faults) (quote, bool) {
	coin, ok := f.coins[fold(key)]
	if !ok || at.After(f.now()) || slices.Contains(faults.Absent, coin.Symbol) {
		return quote{}, false
	}
	price, ok := PriceAt(coin.Symbol, at)
	if fault, replaced := faults.Price[coin.Symbol]; replaced {
		price, ok = fault, true
	}
	if !ok {
		return quote{}, false
	}
	q := quote{Symbol: coin.Symbol, Price: number(price), Confidence: confidence}
	if !strings.HasPrefix(fold(key), "coingecko:") {
		q.Decimals = &coin.Decimals
	}
	return q, true
}

// fold makes keys comparable without regard to case.
func fold(key string) string { return strings.ToLower(strings.TrimSpace(key)) }
