package coingecko_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/price"
)

// Whatever a feed replies, a price that is taken is a good one.
func FuzzReplies(f *testing.F) {
	for _, seed := range []string{`{"` + contract + `":{"usd":1.5,"last_updated_at":1700000000}}`,
		`{"bitcoin":{"usd":64800,"eur":60000,"jpy":1e-30,"last_updated_at":1700000000},` +
			`"ethereum":{"usd":NaN}}`,
		`{"prices":[[1700000000000,5],[null,1e400],[1700003600000,"5"]]}`,
		`{"a":{},"A":{"usd":[]}}`, `{`, `[]`, `null`,
	} {
		f.Add([]byte(seed))
	}
	body := []byte{}
	feed := newFeed(f, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) })
	now := noon()
	s := newSource(f, feed.URL, func() time.Time { now = now.Add(time.Minute); return now }, nil)
	f.Fuzz(func(t *testing.T, reply []byte) {
		body = reply
		current, err := s.Current(t.Context(), tokens())
		if err == nil {
			for id, p := range current {
				check(t, id, p)
			}
		}
		past, err := s.History(t.Context(), tokens(), noon().Add(-time.Hour), 2)
		if err == nil {
			for id, prices := range past {
				for _, p := range prices {
					check(t, id, p)
				}
			}
		}
	})
}

func check(t *testing.T, id string, p price.Price) {
	t.Helper()
	if value, err := price.Parse(p.Value); err != nil || value != p.Value || p.At.Unix() <= 0 {
		t.Errorf("%s: %+v, %v", id, p, err)
	}
}
