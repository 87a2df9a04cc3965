package prices

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxPoints limits the points of all coins of one request.
const maxPoints = 500

// chart is the history of a coin in an answer.
type chart struct {
	Decimals   *uint8  `json:"decimals,omitempty"`
	Symbol     string  `json:"symbol"`
	Confidence number  `json:"confidence"`
	Prices     []point `json:"prices"`
}

type point struct {
	Timestamp int64  `json:"timestamp"`
	Price     number `json:"price"`
}

// chart answers with the prices at start and at each hour after it.
func (f *Feed) chart(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	start, err := strconv.ParseInt(query.Get("start"), 10, 64)
	span, spanErr := strconv.Atoi(query.Get("span"))
	if err != nil || spanErr != nil || span < 1 || query.Get("period") != "1h" {
		http.Error(w, `{"message":"start and span must be numbers, and period 1h"}`, http.StatusBadRequest)
		return
	}
	keys := strings.Split(r.PathValue("coins"), ",")
	if span > maxPoints/len(keys) {
		http.Error(w, `{"message":"too many points"}`, http.StatusBadRequest)
		return
	}
	faults, answered := f.begin(w, r)
	if answered {
		return
	}
	charts := map[string]chart{}
	for _, key := range keys {
		if c, ok := f.history(key, time.Unix(start, 0), span, faults); ok {
			charts[key] = c
		}
	}
	answer(w, charts)
}

// history returns the chart of the coin with this key; false if it has no points.
func (f *Feed) history(key string, start time.Time, span int, faults Faults) (c chart, ok bool) {
	for i := range span {
		at := start.Add(time.Duration(i) * time.Hour)
		q, found := f.quote(key, at, faults)
		if !found {
			continue
		}
		c.Decimals, c.Symbol, c.Confidence = q.Decimals, q.Symbol, q.Confidence
		c.Prices = append(c.Prices, point{Timestamp: at.Truncate(time.Hour).Add(-faults.Age).Unix(), Price: q.Price})
	}
	return c, len(c.Prices) > 0
}
