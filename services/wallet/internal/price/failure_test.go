package price_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/pkg/testkit"
	"github.com/purserhq/purser/services/wallet/internal/price"
)

// cold is a fixture with a cache that holds nothing and, when an old price is
// wanted, a stored one of the first token that is due.
func cold(t *testing.T, old bool) *fixture {
	t.Helper()
	f := newFixture(t, testkit.Redis(t).URL())
	if old {
		at := f.now.Add(-time.Hour)
		p := price.Price{Value: "4", Source: "test", At: at}
		if err := f.store.SavePrices(t.Context(), map[string]price.Price{f.ids[0]: p}, at); err != nil {
			t.Fatal(err)
		}
	}
	f.source.say(f.ids[0], "5", f.now)
	return f
}

func TestOneFailureOfTheFeedIsNotCached(t *testing.T) {
	for _, tc := range []struct {
		name      string
		old       bool
		meanwhile price.Quote
	}{
		{"a token without a price", false, price.Quote{Reason: price.SourceUnavailable}},
		{"a token with an old price", true, price.Quote{Price: price.Price{Value: "4"}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := cold(t, tc.old)
			f.source.unavailable = true
			if q := f.quotes(t, f.ids...)[f.ids[0]]; q.Value != tc.meanwhile.Value || q.Reason != tc.meanwhile.Reason {
				t.Errorf("while the feed is away: %+v", q)
			}
			f.source.unavailable = false
			if q := f.quotes(t, f.ids...)[f.ids[0]]; q.Value != "5" {
				t.Errorf("the next caller gets %+v", q)
			}
			f.quotes(t, f.ids...)
			if len(f.source.asked) != 2 {
				t.Errorf("the feed was asked %d times; what it says is to be cached", len(f.source.asked))
			}
		})
	}
}

func TestACallerWhoLeavesHidesNoPriceFromTheNext(t *testing.T) {
	for _, tc := range []struct {
		name  string
		old   bool
		fails bool
		asked int // calls of the feed by both callers
	}{
		{"the fetch goes on", false, false, 1},
		{"the fetch of a newer price goes on", true, false, 1},
		{"the fetch fails", false, true, 2},
		{"the fetch of a newer price fails", true, true, 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := cold(t, tc.old)
			ctx, leave := context.WithCancel(t.Context())
			defer leave()
			f.source.during = func(asking context.Context) {
				leave()
				if end, ok := asking.Deadline(); !ok || time.Until(end) > 4*time.Second {
					t.Error("nothing bounds a fetch whose caller has left")
				}
				f.source.unavailable = tc.fails
			}
			_, _ = f.Quotes(ctx, f.ids) // nobody is there to read it
			f.source.during, f.source.unavailable = nil, false
			if q := f.quotes(t, f.ids[0])[f.ids[0]]; q.Value != "5" {
				t.Errorf("the next caller gets %+v", q)
			}
			if len(f.source.asked) != tc.asked {
				t.Errorf("the feed was asked %d times, want %d", len(f.source.asked), tc.asked)
			}
		})
	}
}

func TestIDsThatACallerMadeUpLeaveNothingInTheCache(t *testing.T) {
	redis := testkit.Redis(t).URL()
	f := newFixture(t, redis)
	f.source.say(f.ids[0], "5", f.now)
	const madeUp = "eip155:1/slip44:1"
	got, err := f.LookUp(t.Context(), []string{f.ids[0], f.ids[1], madeUp, madeUp})
	if err != nil || len(got) != 3 {
		t.Fatal(got, err)
	}
	if q := got[madeUp]; q.TokenID != madeUp || q.Value != "" || q.Reason != price.UnknownToken {
		t.Errorf("made up: %+v", q)
	}
	if got[f.ids[0]].Value != "5" || got[f.ids[1]].Reason != price.NoPrice {
		t.Errorf("known: %+v", got)
	}
	client, err := redisx.New(redisx.Options{URL: redis, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = client.Close() }()
	keys, err := client.Keys(t.Context(), "*").Result()
	if err != nil || len(keys) != 2 || slices.ContainsFunc(keys,
		func(k string) bool { return strings.Contains(k, "slip44") }) {
		t.Errorf("the cache has %q, %v; want the two known tokens", keys, err)
	}
	if got, err := f.LookUp(t.Context(), []string{madeUp}); err != nil || got[madeUp].Reason != price.UnknownToken {
		t.Errorf("nothing but made-up ids: %v, %v", got, err)
	}
}
