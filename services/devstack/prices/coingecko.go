package prices

import (
	"encoding/json"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// coinGecko adds the paths of CoinGecko's API. As there, a coin that is unknown is left out, prices are in the
// currencies that are asked for, and a chart has a point an hour for up to 90 days, and one a day for longer ranges.
func (f *Feed) coinGecko(mux *http.ServeMux) {
	mux.HandleFunc("GET /api/v3/simple/price", func(w http.ResponseWriter, r *http.Request) {
		f.simple(w, r, r.URL.Query().Get("ids"), "coingecko:")
	})
	mux.HandleFunc("GET /api/v3/simple/token_price/{platform}", func(w http.ResponseWriter, r *http.Request) {
		f.simple(w, r, r.URL.Query().Get("contract_addresses"), r.PathValue("platform")+":")
	})
	mux.HandleFunc("GET /api/v3/coins/{id}/market_chart/range", func(w http.ResponseWriter, r *http.Request) {
		f.marketChart(w, r, "coingecko:"+r.PathValue("id"))
	})
	mux.HandleFunc("GET /api/v3/coins/{platform}/contract/{address}/market_chart/range",
		func(w http.ResponseWriter, r *http.Request) {
			f.marketChart(w, r, r.PathValue("platform")+":"+r.PathValue("address"))
		})
}

// simple answers with the prices of coins now, by their names, which are behind a prefix in the feed's keys.
func (f *Feed) simple(w http.ResponseWriter, r *http.Request, names, prefix string) {
	currencies := strings.Split(strings.ToLower(r.URL.Query().Get("vs_currencies")), ",")
	if names == "" || currencies[0] == "" {
		http.Error(w, `{"error":"Missing parameter"}`, http.StatusUnprocessableEntity)
		return
	}
	faults, answered := f.begin(w, r)
	if answered {
		return
	}
	now := f.now()
	coins := map[string]map[string]number{}
	for name := range strings.SplitSeq(names, ",") {
		q, ok := f.quote(prefix+name, now, faults)
		if !ok {
			continue
		}
		coin := map[string]number{}
		for _, c := range currencies {
			if p, ok := inCurrency(q.Price, c, now, faults); ok {
				coin[c] = p
			}
		}
		if r.URL.Query().Get("include_last_updated_at") == "true" {
			coin["last_updated_at"] = number(strconv.FormatInt(now.Add(-faults.Age).Unix(), 10))
		}
		coins[strings.ToLower(name)] = coin
	}
	reply(w, coins)
}

// marketChart answers with the prices of a coin in a range.
func (f *Feed) marketChart(w http.ResponseWriter, r *http.Request, key string) {
	from, err := strconv.ParseInt(r.URL.Query().Get("from"), 10, 64)
	to, toErr := strconv.ParseInt(r.URL.Query().Get("to"), 10, 64)
	const maxRange = 10 * 366 * 24 * 3600
	if err != nil || toErr != nil || from < 0 || to < from || to-from > maxRange {
		http.Error(w, `{"error":"Invalid from or to"}`, http.StatusUnprocessableEntity)
		return
	}
	faults, answered := f.begin(w, r)
	if answered {
		return
	}
	if _, known := f.coins[fold(key)]; !known {
		http.Error(w, `{"error":"coin not found"}`, http.StatusNotFound)
		return
	}
	step := time.Hour
	if to-from > 90*24*3600 {
		step = 24 * time.Hour
	}
	points := [][2]number{}
	start := time.Unix(from, 0).Add(time.Hour - 1).Truncate(time.Hour)
	for at := start; at.Unix() <= to && !at.After(f.now()); at = at.Add(step) {
		q, found := f.quote(key, at, faults)
		if !found {
			continue
		}
		if p, ok := inCurrency(q.Price, strings.ToLower(r.URL.Query().Get("vs_currency")), at, faults); ok {
			points = append(points, [2]number{number(strconv.FormatInt(at.Add(-faults.Age).UnixMilli(), 10)), p})
		}
	}
	reply(w, map[string]any{"prices": points})
}

// inCurrency converts a price in US dollars to a currency, with twelve places; false for one that is not known.
func inCurrency(usd number, currency string, at time.Time, faults Faults) (number, bool) {
	if currency == "usd" {
		return usd, true
	}
	code := strings.ToUpper(currency)
	rate, ok := PriceAt(code, at)
	value, isNumber := new(big.Rat).SetString(string(usd))
	if !ok || !isNumber || slices.Contains(faults.Absent, code) {
		return "", false
	}
	divisor, ok := new(big.Rat).SetString(rate)
	if !ok {
		return "", false
	}
	return number(value.Quo(value, divisor).FloatString(12)), true
}

// reply writes a value as JSON.
func reply(w http.ResponseWriter, value any) {
	body, err := json.Marshal(value)
	if err != nil {
		http.Error(w, `{"error":"internal error"}`, http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(body)
}
