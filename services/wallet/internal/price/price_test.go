package price_test

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/ethereum/go-ethereum/common"
	"gorm.io/gorm"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/wallet/internal/caip"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/migrations"
)

func TestMain(m *testing.M) { testkit.Main(m) }

func policy() price.Policy {
	return price.Policy{Refresh: 30 * time.Second, Stale: 2 * time.Hour, Bridge: 24 * time.Hour}
}

// source is a price feed that a test sets, and whose calls it counts.
type source struct {
	prices      map[string]price.Price
	unavailable bool
	asked       [][]string // the ids of each call, sorted
	// during, when set, runs while the source is asked.
	during func(ctx context.Context)
}

func (s *source) Current(ctx context.Context, tokens []token.Token) (map[string]price.Price, error) {
	var ids []string
	for _, t := range tokens {
		ids = append(ids, t.ID)
	}
	slices.Sort(ids)
	s.asked = append(s.asked, ids)
	if s.during != nil {
		s.during(ctx)
	}
	if s.unavailable {
		return nil, errors.New("away")
	}
	return maps.Clone(s.prices), ctx.Err()
}

func (s *source) say(id, text string, at time.Time) {
	s.prices[id] = price.Price{Value: text, Source: "test", At: at}
}

type fixture struct {
	*price.Service
	store  *store.Prices
	source *source
	now    time.Time
	ids    []string
	db     *testkit.DB
}

// newFixture has two tokens. Its cache is on a Redis of its own; without one
// every reading goes to the database.
func newFixture(t *testing.T, redisURL string) *fixture {
	t.Helper()
	db := testkit.Postgres(t, migrations.FS)
	client, err := redisx.New(redisx.Options{URL: redisURL, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	caches := store.NewCaches(client, store.CacheOptions{Budget: 5 * time.Second})
	t.Cleanup(caches.Close)
	known := store.NewTokens(db.DB, caches)
	f := &fixture{store: store.NewPrices(db.DB, known), source: &source{prices: map[string]price.Price{}},
		now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), db: db}
	var tokens []token.Token
	for i := range 2 {
		a := caip.Asset{Chain: 1, Contract: common.Address{byte(i + 1)}}
		tokens = append(tokens, token.Token{ID: a.String(), Chain: 1, Contract: a.Contract, Symbol: "T", Decimals: 18,
			Verified: true})
		f.ids = append(f.ids, a.String())
	}
	if err := known.Put(t.Context(), tokens); err != nil {
		t.Fatal(err)
	}
	quotes := cache.New[price.Quote](client, cache.Namespace{Service: "wallet", Entity: "price", Schema: 1},
		cache.Options{TTL: policy().Refresh, Budget: 5 * time.Second})
	t.Cleanup(quotes.Close)
	now := func() time.Time { return f.now }
	sources := price.NewSources([]price.NamedFeed{{Name: "test", Feed: f.source}}, policy(),
		slog.New(slog.DiscardHandler), now)
	f.Service = price.NewService(f.store, sources, quotes, policy(), slog.New(slog.DiscardHandler), now)
	return f
}

// noRedis is an address where nothing listens.
const noRedis = "redis://127.0.0.1:1/0"

func (f *fixture) quotes(t *testing.T, ids ...string) map[string]price.Quote {
	t.Helper()
	got, err := f.Quotes(t.Context(), ids)
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(ids) {
		t.Fatalf("%d quotes for %v", len(got), ids)
	}
	return got
}

func TestEveryIDGetsAPriceOrAReason(t *testing.T) {
	f := newFixture(t, noRedis)
	const unknown = "eip155:1/slip44:1"
	f.source.say(f.ids[0], "1824.530000000000000001", f.now)
	got := f.quotes(t, f.ids[0], f.ids[1], unknown)
	if q := got[f.ids[0]]; q.Value != "1824.530000000000000001" || q.Reason != "" || q.Source != "test" ||
		!q.At.Equal(f.now) {
		t.Errorf("a price: %+v", q)
	}
	if q := got[f.ids[1]]; q.Value != "" || q.Reason != price.NoPrice {
		t.Errorf("without a price: %+v", q)
	}
	if q := got[unknown]; q.Value != "" || q.Reason != price.UnknownToken {
		t.Errorf("unknown: %+v", q)
	}
	if slices.Contains(f.source.asked[0], unknown) {
		t.Error("the source was asked for a token that nobody knows")
	}
	if got := f.quotes(t); len(got) != 0 {
		t.Errorf("nothing asked, %v answered", got)
	}
}

func TestWhileTheSourceFailsTheLastPriceIsReturnedWithItsAge(t *testing.T) {
	f := newFixture(t, noRedis)
	began := f.now
	f.source.say(f.ids[0], "5", began)
	f.quotes(t, f.ids[0])
	f.source.unavailable = true
	for _, tc := range []struct {
		name  string
		age   time.Duration
		stale bool
	}{
		{"a minute on", time.Minute, false},
		{"at the limit", 2 * time.Hour, false},
		{"past it", 2*time.Hour + time.Nanosecond, true},
		{"a month on", 720 * time.Hour, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f.now = began.Add(tc.age)
			got := f.quotes(t, f.ids...)
			if q := got[f.ids[0]]; q.Value != "5" || !q.At.Equal(began) || q.Stale != tc.stale {
				t.Errorf("%+v, stale %v", q, q.Stale)
			}
			if q := got[f.ids[1]]; q.Value != "" || q.Reason != price.SourceUnavailable || q.Stale {
				t.Errorf("never priced: %+v", q)
			}
		})
	}
}

func TestAPriceIsFetchedOnlyWhenItIsDue(t *testing.T) {
	f := newFixture(t, noRedis)
	f.source.say(f.ids[0], "5", f.now)
	f.source.say(f.ids[1], "6", f.now)
	steps := []struct {
		pass time.Duration
		want int // calls of the source so far
	}{{0, 1}, {0, 1}, {29 * time.Second, 1}, {time.Second, 2}, {time.Second, 2}}
	for i, s := range steps {
		f.now = f.now.Add(s.pass)
		f.quotes(t, f.ids...)
		if len(f.source.asked) != s.want {
			t.Fatalf("step %d: the source was asked %d times, want %d", i, len(f.source.asked), s.want)
		}
	}
}

// A source that stands still, or goes back, was asked all the same.
func TestAPriceThatIsNoNewerIsNotFetchedAgainBeforeItIsDue(t *testing.T) {
	f := newFixture(t, noRedis)
	f.source.say(f.ids[0], "5", f.now)
	f.quotes(t, f.ids[0])
	for _, at := range []time.Time{f.now, f.now.Add(-time.Hour)} {
		f.now = f.now.Add(30 * time.Second)
		f.source.say(f.ids[0], "4", at)
		before := len(f.source.asked)
		f.quotes(t, f.ids[0])
		f.quotes(t, f.ids[0])
		if n := len(f.source.asked) - before; n != 1 {
			t.Errorf("a price of %s: asked %d times", at, n)
		}
	}
}

func TestTheNewestPriceBySourceTimeWins(t *testing.T) {
	f := newFixture(t, noRedis)
	steps := []struct {
		name, say string
		at        time.Duration
		want      string
	}{
		{"a first price", "1", 0, "1"},
		{"a newer one", "2", time.Minute, "2"},
		{"an older one is passed over", "3", 30 * time.Second, "2"},
		{"one of the same time replaces", "4", time.Minute, "4"},
	}
	began := f.now
	for _, s := range steps {
		f.now = f.now.Add(time.Hour)
		f.source.say(f.ids[0], s.say, began.Add(s.at))
		if q := f.quotes(t, f.ids[0])[f.ids[0]]; q.Value != s.want {
			t.Errorf("%s: answered %s, want %s", s.name, q.Value, s.want)
		}
		stored, err := f.store.Prices(t.Context(), f.ids)
		if err != nil || stored[f.ids[0]].Value != s.want {
			t.Errorf("%s: stored %v, %v", s.name, stored, err)
		}
	}
}

func TestTheCacheSparesTheDatabaseAndTheSource(t *testing.T) {
	f := newFixture(t, testkit.Redis(t).URL())
	f.source.say(f.ids[0], "5", f.now)
	f.quotes(t, f.ids...)
	if _, err := f.db.SQL().ExecContext(t.Context(), "DROP TABLE prices"); err != nil {
		t.Fatal(err)
	}
	got := f.quotes(t, f.ids...)
	if q := got[f.ids[0]]; q.Value != "5" || !q.At.Equal(f.now) || q.Source != "test" {
		t.Errorf("from the cache: %+v", q)
	}
	if q := got[f.ids[1]]; q.Reason != price.NoPrice {
		t.Errorf("from the cache: %+v", q)
	}
	if len(f.source.asked) != 1 {
		t.Errorf("the source was asked %d times", len(f.source.asked))
	}
}

func TestPricesThatCanNotBeStoredAreAnsweredAllTheSame(t *testing.T) {
	f := newFixture(t, noRedis)
	if _, err := f.db.SQL().ExecContext(t.Context(), "ALTER TABLE prices ADD CHECK (price < 1)"); err != nil {
		t.Fatal(err)
	}
	f.source.say(f.ids[0], "5", f.now)
	if q := f.quotes(t, f.ids[0])[f.ids[0]]; q.Value != "5" {
		t.Errorf("answered %+v", q)
	}
}

func TestAskingForPricesReadsTheTokensOnce(t *testing.T) {
	for name, url := range map[string]string{"with a cache": testkit.Redis(t).URL(), "without": noRedis} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, url)
			f.source.say(f.ids[0], "5", f.now)
			reads := 0
			count := func(tx *gorm.DB) {
				if tx.Statement.Table == "tokens" {
					reads++
				}
			}
			if err := f.db.Gorm(t.Context()).Callback().Query().Register("count", count); err != nil {
				t.Fatal(err)
			}
			got, err := f.LookUp(t.Context(), f.ids)
			if err != nil || len(got) != 2 || got[f.ids[0]].Value != "5" || got[f.ids[1]].Reason != price.NoPrice ||
				reads != 1 {
				t.Errorf("%v, %v, after %d readings of the tokens", got, err, reads)
			}
			f.source.unavailable, f.now = true, f.now.Add(time.Hour)
			const unknown = "eip155:1/slip44:1"
			got, err = f.LookUp(t.Context(), append(f.ids, unknown))
			if err != nil || len(got) != 3 || got[unknown].Reason != price.UnknownToken || got[f.ids[0]].Value != "5" {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}
