package history_test

import (
	"testing"
	"time"

	"github.com/purserhq/purser/services/wallet/internal/price"
)

func TestAPriceIsTheLastOneAtOrBeforeTheHourAndNotTooOld(t *testing.T) {
	for _, tc := range []struct {
		name string
		at   time.Duration // of the only price, after the first of the three hours
		want string
	}{
		{"at an hour", 0, "7 7 7 "},
		{"after it", time.Second, "- 7 7 "},
		{"two hours before", -2 * time.Hour, "7 - - "},
		{"more than that", -2*time.Hour - time.Second, "- - - "},
		{"after them all", 3 * time.Hour, "- - - "},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, noRedis)
			f.wallets = f.wallets[:1]
			f.feedPrice = func(string, time.Time) (string, time.Time) { return "7", day().Add(tc.at) }
			got := ""
			for _, r := range mustRead(t, f, 3) {
				switch {
				case r.Wallet.ID != f.wallets[0].ID:
				case r.Quote.Reason == price.NoPrice:
					got += "- "
				default:
					got += r.Quote.Value + " "
				}
			}
			if got != tc.want {
				t.Errorf("%s, want %s", got, tc.want)
			}
		})
	}
}

// A gap of the feed is bridged and marked, up to the age that the policy states.
func TestAGapOfAPriceIsBridgedAndMarked(t *testing.T) {
	for at, want := range map[time.Duration]string{ // of the only price, before the first of three hours
		-time.Hour: "7 7 7! ", -3 * time.Hour: "7! 7! 7! ", -24 * time.Hour: "7! - - ", -25 * time.Hour: "- - - ",
	} {
		t.Run(at.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, noRedis)
			f.policy.Bridge = 24 * time.Hour
			f.Service = f.replica()
			f.feedPrice = func(_ string, hour time.Time) (string, time.Time) {
				if !hour.Equal(day().Add(at)) {
					return "", hour
				}
				return "7", hour
			}
			for range 2 { // read, and as stored
				got := ""
				for _, r := range mustRead(t, f, 3) {
					switch {
					case r.Wallet.ID != f.wallets[0].ID:
					case r.Quote.Reason == price.NoPrice:
						got += "- "
					case r.Quote.Stale:
						got += r.Quote.Value + "! "
					default:
						got += r.Quote.Value + " "
					}
				}
				if got != want {
					t.Errorf("%s, want %s", got, want)
				}
			}
		})
	}
}

func TestPricesThatWereUnavailableAreFetchedAgainAfterAWhile(t *testing.T) {
	f := newFixture(t, noRedis)
	feedPrice := f.feedPrice
	reason := func(want price.Reason) {
		t.Helper()
		for _, r := range mustRead(t, f, 3) {
			if r.Quote.Reason != want {
				t.Fatalf("%+v, want %q", r.Quote, want)
			}
		}
	}
	f.feedErr = errUnavailable
	reason(price.SourceUnavailable)
	f.feedErr, f.feedPrice = nil, func(string, time.Time) (string, time.Time) { return "", time.Time{} }
	reason(price.NoPrice)
	requested := f.pricesRequested
	f.feedPrice = feedPrice
	reason(price.NoPrice)
	if f.pricesRequested != requested {
		t.Error("prices were requested again at once")
	}
	f.now = f.now.Add(10*time.Minute + time.Second)
	reason("")
	f.wantAll(t, mustRead(t, f, 3), 3)
}
