package prices_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/purserhq/purser/services/devstack/prices"
)

func TestAChartHasTheHistoryHourByHour(t *testing.T) {
	f := start(t, nil)
	from := march().Add(-3 * time.Hour)
	path := fmt.Sprintf("/chart/%s,%s,local:0xdead?start=%d&span=6&period=1h", wethKey, maxKey, from.Unix())
	status, _, body, err := get(t.Context(), f, path)
	if err != nil || status != http.StatusOK {
		t.Fatal(status, err, body)
	}
	var answer struct {
		Coins map[string]struct {
			Symbol string
			Prices []struct {
				Timestamp int64
				Price     json.RawMessage
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil {
		t.Fatal(err)
	}
	got := answer.Coins[wethKey]
	// Six hours are asked for; the last two have not been yet.
	if len(answer.Coins) != 1 || got.Symbol != "WETH" || len(got.Prices) != 4 {
		t.Fatal(body)
	}
	for i, p := range got.Prices {
		at := from.Add(time.Duration(i) * time.Hour)
		if want, _ := prices.PriceAt("WETH", at); string(p.Price) != want || p.Timestamp != at.Unix() {
			t.Errorf("at %s: %s of %d, want %s", at, p.Price, p.Timestamp, want)
		}
	}
}

func TestAChartThatIsAskedForWronglyIsTheCallersFault(t *testing.T) {
	f := start(t, nil)
	for _, query := range []string{
		"", "start=1&span=5", "start=x&span=5&period=1h", "start=1&span=0&period=1h", "start=1&span=-1&period=1h",
		"start=1&span=5&period=4h", "start=1&span=501&period=1h", "start=1&span=9223372036854775807&period=1h",
	} {
		if status, _, body, err := get(t.Context(), f, "/chart/"+wethKey+"?"+query); err != nil ||
			status != http.StatusBadRequest {
			t.Errorf("%q: status %d, %s, %v", query, status, body, err)
		}
	}
}

func TestAChartHasTheFaultsOfTheFeed(t *testing.T) {
	f := start(t, nil)
	f.SetFaults(prices.Faults{Status: http.StatusTooManyRequests})
	status, _, _, err := get(t.Context(), f, fmt.Sprintf("/chart/%s?start=%d&span=2&period=1h", wethKey,
		march().Unix()))
	if err != nil || status != http.StatusTooManyRequests || f.Requests() != 1 {
		t.Errorf("status %d, %d requests, %v", status, f.Requests(), err)
	}
}
