package llama_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/price"
)

// Whatever a feed replies, a price that is taken is a good one.
func FuzzReplies(f *testing.F) {
	for _, seed := range []string{reply(coin, "5", 1700000000), reply(coin, "1e400", 1700000000),
		reply(coin, "NaN", 5),
		`{"coins":{"` + coin + `":{"prices":[{"price":5,"timestamp":1700000000},null,{"price":"x"}]}}}`,
		`{"coins":{"a":1,"A":2}}`, `{"coins":[]}`, `{`, `null`} {
		f.Add([]byte(seed))
	}
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(body)
	}))
	f.Cleanup(server.Close)
	now := noon()
	s := newSource(f, server.URL, func() time.Time { now = now.Add(time.Minute); return now })
	f.Fuzz(func(t *testing.T, reply []byte) {
		body = reply
		check := func(id string, p price.Price) {
			if value, err := price.Parse(p.Value); err != nil || value != p.Value || p.At.Unix() <= 0 {
				t.Errorf("%s: %+v, %v", id, p, err)
			}
		}
		if current, err := s.Current(t.Context(), tokens()); err == nil {
			for id, p := range current {
				check(id, p)
			}
		}
		if past, err := s.History(t.Context(), tokens(), noon().Add(-time.Hour), 2); err == nil {
			for id, prices := range past {
				for _, p := range prices {
					check(id, p)
				}
			}
		}
	})
}

// A name that stands there twice, with different prices: nobody can tell which is right.
func TestACoinThatStandsThereTwiceHasNoPrice(t *testing.T) {
	at := noon().Unix()
	one := reply(coin, "5", at)
	again := one[:len(one)-2] + `,"` + coin + `":{"price":500,"timestamp":1}}}`
	f := newFeed(t, 200, again)
	if got, err := newSource(t, f.URL, noon).Current(t.Context(), tokens()); err != nil || len(got) != 0 {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestCurrenciesHaveTheCoinsOfTheirSetting(t *testing.T) {
	f := newFeed(t, 200, reply("coingecko:euro-coin", "1.08", noon().Unix()))
	s := newSource(t, f.URL, noon)
	s.NameCurrencies(map[string]string{"EUR": "coingecko:euro-coin"})
	got, err := s.Current(t.Context(), append(tokens(), price.CurrencyToken("EUR"), price.CurrencyToken("GBP")))
	if err != nil || len(got) != 1 || got["EUR"].Value != "1.08" {
		t.Errorf("%+v, %v", got, err)
	}
}
