package store_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

// A snapshot is valued at a price that is replaced before it is stored: the price isn't brought back, and the snapshot
// is valued anew if the other one is a mended one.
func TestAPriceThatWasReplacedIsNotBroughtBackByASnapshotThatIsStoredLate(t *testing.T) {
	f := newFixture(t, noRedis)
	newPortfolio := func() portfolio.Portfolio {
		p, err := f.portfolios(t).FindOrCreateDefault(t.Context(), newDefault(uuid.New()))
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	adopted := func(price string, stale bool) []valuation.Assets {
		h := holding("a", 2, price, "")
		h.Price.Source, h.Price.Stale = "test", stale
		assets, err := valuation.Add([]valuation.Wallet{{Synced: true}}, []valuation.Holding{h}, hour(0))
		if err != nil {
			t.Fatal(err)
		}
		if err := f.AdoptPrices(t.Context(), []valuation.Assets{assets}); err != nil {
			t.Fatal(err)
		}
		return []valuation.Assets{assets}
	}
	save := func(p portfolio.Portfolio, a []valuation.Assets) string {
		v, err := a[0].Value()
		stored, err2 := f.ReplaceHours(t.Context(), p, []valuation.Valuation{v})
		if err := errors.Join(err, err2); err != nil || len(stored) != 1 {
			t.Fatal(err, stored)
		}
		return stored[0].Total.Text('f')
	}
	total := func(p portfolio.Portfolio) (s string) {
		if err := f.db.SQL().QueryRowContext(t.Context(), "SELECT total::text FROM snapshots WHERE portfolio_id = $1",
			p.ID).Scan(&s); err != nil {
			t.Fatal(err)
		}
		return s
	}
	want := func(what, got, want string) {
		t.Helper()
		if got != want {
			t.Errorf("%s is %s, want %s", what, got, want)
		}
	}
	first, late, last := newPortfolio(), newPortfolio(), newPortfolio()
	none := adopted("", false)
	stale := adopted("4", true)
	fresh := adopted("5", false)
	want("without a price", save(newPortfolio(), none), "0")
	want("at a stale price that a fresh one has replaced", save(newPortfolio(), stale), "8.00000000")
	want("the first", save(first, fresh), "10.00000000")
	behind := adopted("5", false)
	// Meanwhile the price is mended to 8, and the snapshots that have it are valued anew.
	w := &walletPrices{price: func(string, time.Time) (string, string) { return "8", "" }}
	f.adopt(t, w, hour(1))
	w.mend("a", 0, 1)
	f.adopt(t, w, hour(1))
	f.adopt(t, w, hour(2))
	want("the first after the mend", total(first), "16.00000000")
	want("the late one", save(late, behind), "10.00000000")
	f.adopt(t, w, hour(3))
	want("the late one after the next run of the job", total(late), "16.00000000")
	want("the next one", save(last, adopted("5", false)), "16.00000000")
}
