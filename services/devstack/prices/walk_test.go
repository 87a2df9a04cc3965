package prices_test

import (
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/purserhq/purser/services/devstack/prices"
)

func march() time.Time { return time.Date(2026, time.March, 14, 15, 0, 0, 0, time.UTC) }

func rat(t *testing.T, symbol string, at time.Time) *big.Rat {
	t.Helper()
	text, ok := prices.PriceAt(symbol, at)
	if !ok {
		t.Fatalf("no price of %s at %s", symbol, at)
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		t.Fatalf("%q is not a decimal", text)
	}
	return r
}

func TestPricesNeverChangeBetweenVersions(t *testing.T) {
	for symbol, want := range map[string]string{
		"WETH": "3208.52715", "WBTC": "72221.435", "LINK": "17.1170572", "USDC": "1.000169", "DAI": "1.001116",
	} {
		if have, _ := prices.PriceAt(symbol, march()); have != want {
			t.Errorf("%s is %s, want %s", symbol, have, want)
		}
	}
}

func TestAPriceHoldsForItsHour(t *testing.T) {
	at, _ := prices.PriceAt("WETH", march())
	late, _ := prices.PriceAt("WETH", march().Add(time.Hour-time.Nanosecond))
	next, _ := prices.PriceAt("WETH", march().Add(time.Hour))
	if at != late || at == next {
		t.Errorf("%s at the hour, %s just before the next, %s then", at, late, next)
	}
}

func TestSymbolsAndTimesWithoutAPrice(t *testing.T) {
	if p, ok := prices.PriceAt("MAX", march()); ok {
		t.Errorf("MAX is %s", p)
	}
	if p, ok := prices.PriceAt("WETH", prices.First().Add(-1)); ok {
		t.Errorf("WETH was %s before there were prices", p)
	}
	if _, ok := prices.PriceAt("WETH", prices.First()); !ok {
		t.Error("no price at the first hour")
	}
}

func TestEtherIsWorthAsMuchWrapped(t *testing.T) {
	if rat(t, "ETH", march()).Cmp(rat(t, "WETH", march())) != 0 {
		t.Error("ETH and WETH differ")
	}
}

func TestPricesMoveLikePrices(t *testing.T) {
	for symbol, bounds := range map[string]struct{ low, high, hour, spread string }{
		// hour is the largest move in an hour, spread the least between the lowest
		// and the highest of half a year, both as parts of the price.
		"WETH": {"1500", "4200", "0.06", "0.1"},
		"WBTC": {"44000", "99000", "0.06", "0.1"},
		"LINK": {"7", "26", "0.09", "0.1"},
		"USDC": {"0.998", "1.002", "0.001", "0.0002"},
		"DAI":  {"0.997", "1.003", "0.001", "0.0002"},
	} {
		low, high := number(bounds.high), number(bounds.low)
		before := rat(t, symbol, march())
		for h := range 24 * 180 {
			p := rat(t, symbol, march().Add(time.Duration(h)*time.Hour))
			move := new(big.Rat).Sub(p, before)
			if move.Abs(move).Quo(move, before).Cmp(number(bounds.hour)) > 0 {
				t.Fatalf("%s moves from %s to %s in an hour", symbol, before.FloatString(8), p.FloatString(8))
			}
			if p.Cmp(low) < 0 {
				low = p
			}
			if p.Cmp(high) > 0 {
				high = p
			}
			before = p
		}
		if low.Cmp(number(bounds.low)) < 0 || high.Cmp(number(bounds.high)) > 0 {
			t.Errorf("%s lies in %s to %s", symbol, low.FloatString(4), high.FloatString(4))
		}
		spread := new(big.Rat).Sub(high, low)
		if spread.Quo(spread, low).Cmp(number(bounds.spread)) < 0 {
			t.Errorf("%s hardly moves: %s to %s", symbol, low.FloatString(4), high.FloatString(4))
		}
	}
}

func number(text string) *big.Rat {
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(text)
	}
	return r
}

func TestPricesHaveAtMostEightPlacesAndNoTrailingZeros(t *testing.T) {
	for h := range 500 {
		for _, symbol := range []string{"WETH", "LINK", "USDC"} {
			text, _ := prices.PriceAt(symbol, march().Add(time.Duration(h)*time.Hour))
			whole, places, dot := strings.Cut(text, ".")
			if whole == "" || len(places) > 8 || dot && (places == "" || strings.HasSuffix(places, "0")) {
				t.Fatalf("%s is %q", symbol, text)
			}
		}
	}
}
