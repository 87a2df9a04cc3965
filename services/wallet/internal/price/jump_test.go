package price_test

import (
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/price"
)

func TestAPriceThatJumpsIsNotUsedUntilItHasStayed(t *testing.T) {
	f := newFixture(t, noRedis)
	f.source.say(f.ids[0], "2000", f.now)
	if got := f.quotes(t, f.ids[0])[f.ids[0]].Value; got != "2000" {
		t.Fatal(got)
	}
	for _, tc := range []struct {
		after       time.Duration
		value, want string
	}{
		{time.Hour, "2000000000", "2000"},              // 10^6 times
		{2 * time.Hour, "1.9", "2000"},                 // down, too
		{3 * time.Hour, "2000000", "2000000"},          // exactly a thousand times is a price
		{4 * time.Hour, "2001", "2001"},                // and the way back
		{4*time.Hour + 24*time.Hour, "0.001", "2001"},  // within a day
		{5*time.Hour + 24*time.Hour, "0.001", "0.001"}, // after one
	} {
		f.now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(tc.after)
		f.source.say(f.ids[0], tc.value, f.now)
		if got := f.quotes(t, f.ids[0])[f.ids[0]].Value; got != tc.want {
			t.Errorf("after %s the feed says %s, and the price is %s, want %s", tc.after, tc.value, got, tc.want)
		}
	}
}

func TestPastPricesThatJumpAreLeftOut(t *testing.T) {
	for in, want := range map[string]string{
		"5 6 5 6":                          "5 6 5 6",
		"5 5000000 5 6":                    "5 5 6",
		"5000000 5 6 5":                    "5 6 5",
		"5 6 5 0.000001":                   "5 6 5",
		"5 5 5 5 9000 9000 9000 9000 9000": "5 5 5 5 9000 9000 9000 9000 9000", // it stays: a new price
		"5 5000000":                        "5 5000000",                        // nobody can tell
		"5":                                "5",
		"":                                 "",
	} {
		var prices []price.Price
		for i, value := range strings.Fields(in) {
			prices = append(prices, price.Price{Value: value, At: time.Unix(int64(i)*3600, 0)})
		}
		var got []string
		for _, p := range price.WithoutJumps(prices) {
			got = append(got, p.Value)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("of %s are left %v", in, got)
		}
	}
}
