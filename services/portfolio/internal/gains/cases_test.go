package gains

import (
	"fmt"
	"math/big"
	"testing"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

// trade buys or sells X for USD in one transaction, with a fee in USD that is a coin here.
func trade(at time.Time, n int, quantity int64, usd string, fee string) []Movement {
	hash := fmt.Sprint("h", n)
	x, money := fmt.Sprintf("a in %d X %s", quantity, hash), "a out "+usd+" USD "+hash
	if quantity < 0 {
		x, money = fmt.Sprintf("a out %d X %s", -quantity, hash), "a in "+usd+" USD "+hash
	}
	texts := []string{x, money}
	if fee != "" {
		texts = append(texts, "a fee "+fee+" COIN "+hash)
	}
	return moves(at, texts...)
}

var dollars = priced(map[string]string{"USD": "1", "COIN": "1"})

// The published examples, from transactions on.
func TestPublishedExamplesFromTransactionsOn(t *testing.T) {
	for name, tc := range map[string]struct {
		rules       Rules
		moved       []Movement
		gains, lots string
		long        bool
	}{
		"HMRC, CRYPTO22251": {Rules{View: UK}, all(trade(on(2018, 1, 1), 1, 100, "1000", ""),
			trade(on(2019, 1, 1), 2, 50, "125000", ""), trade(on(2020, 1, 1), 3, -50, "300000", "")),
			"258000", "100@84000", false},
		"HMRC, CRYPTO22252": {Rules{View: UK}, all(trade(on(2018, 1, 1), 1, 5000, "500", ""),
			trade(on(2019, 7, 1), 2, -1000, "800", ""), trade(on(2019, 7, 1).Add(time.Hour), 3, 1600, "1000", ""),
			trade(on(2019, 7, 1).Add(2*time.Hour), 4, -500, "600", "")), "462.5", "5100@562.5", false},
		"HMRC, CRYPTO22255": {Rules{View: UK}, all(trade(on(2018, 1, 1), 1, 14000, "200000", ""),
			trade(on(2019, 8, 30), 2, -4000, "160000", ""), trade(on(2019, 9, 11), 3, 500, "17500", "")),
			"92500", "10500@150000", false},
		"IRS, VITA: a wash sale": {Rules{View: US, WashSales: true}, all(trade(on(2024, 1, 2), 1, 100, "1000", ""),
			trade(on(2024, 6, 3), 2, -100, "750", ""), trade(on(2024, 6, 20), 3, 100, "800", "")),
			"0", "a 100@1050 2024-06-20", false},
		"CoinTracker: FIFO": {Rules{View: US}, all(trade(on(2012, 1, 1), 1, 1, "100", ""),
			trade(on(2016, 5, 1), 2, 3, "1500", ""), trade(on(2017, 4, 1), 3, -1, "1000", ""),
			trade(on(2017, 5, 15), 4, -2, "4000", "")), "900 3000", "a 1@500 2016-05-01", true},
		// The fee of a purchase is here taken off what it was paid with, and so it is that much less that is gained by
		// USD; of what comes without a payment it is part of the cost, as in the example.
		"cryptoTax: Canada": {Rules{View: Canada}, all(
			moves(on(2021, 1, 1), "a in 100 X h1", "a fee 10 COIN h1"), trade(on(2021, 2, 1), 2, -50, "6000", "10"),
			moves(on(2021, 3, 1), "a in 50 X h3", "a fee 10 COIN h3"), trade(on(2021, 4, 1), 4, -40, "3600", "10")),
			"3485 -16", "60@5409", false},
	} {
		prices := flat{}
		for token, p := range dollars {
			prices[token] = p
		}
		if tc.rules.View == Canada {
			prices.from("X", time.Time{}, "50").from("X", on(2021, 3, 1), "130")
		}
		b := book(t, "X", tc.rules, Events(tc.moved, nil, prices)["X"])
		got := gainsTold(b)
		for _, p := range b.Parts() {
			if p.LongTerm != tc.long {
				t.Errorf("%s: long term: %t", name, p.LongTerm)
			}
		}
		if got != tc.gains || lotsTold(b) != tc.lots {
			t.Errorf("%s: gains of %s, left %s", name, got, lotsTold(b))
		}
	}
}

func TestAWashSaleIsDeniedOnRequestOrForSecuritiesOnly(t *testing.T) {
	moved := all(trade(on(2024, 1, 2), 1, 100, "1000", ""), trade(on(2024, 6, 3), 2, -100, "750", ""),
		trade(on(2024, 6, 20), 3, 100, "800", ""))
	for name, tc := range map[string]struct {
		rules  Rules
		denied bool
		gain   string
	}{
		"marked":      {Rules{View: US}, false, "-250"},
		"asked for":   {Rules{View: US, WashSales: true}, true, "0"},
		"a security":  {Rules{View: US, Securities: map[string]bool{"X": true}}, true, "0"},
		"another one": {Rules{View: US, Securities: map[string]bool{"Y": true}}, false, "-250"},
	} {
		b := book(t, "X", tc.rules, Events(moved, nil, dollars)["X"])
		p := b.Parts()[0]
		if p.Denied != tc.denied || shown(p.Wash.Loss) != "250" || shown(p.Gain) != tc.gain {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// What was recorded before a disposal, or at its time, holds for it; what was recorded after it changes nothing.
func TestIdentificationsHoldFromTheirTimeOn(t *testing.T) {
	sold := on(2024, 3, 1)
	moved := all(trade(on(2024, 1, 1), 1, 10, "100", ""), trade(on(2024, 1, 2), 2, 10, "300", ""),
		moves(on(2024, 2, 1), "a fee 1 X h0"), trade(sold, 3, -5, "200", ""), trade(sold.Add(time.Hour), 4, -5,
			"200", ""))
	prices := dollars
	acquired := Events(moved, nil, prices)["X"]
	dear, cheap := acquired[1].ID, acquired[0].ID
	say := func(at time.Time, hash, lot string) Identification {
		return Identification{Wallet: "a", Token: "X", Hash: hash, Recorded: at,
			Picks: []lots.Pick{{Lot: lot, Quantity: big.NewInt(7)}}}
	}
	for name, tc := range map[string]struct {
		given []Identification
		want  string
	}{
		"none":         {nil, "150 130"}, // the fee took one of the cheap ones
		"at its time":  {[]Identification{say(sold, "", dear)}, "50 150"},
		"after it":     {[]Identification{say(sold.Add(time.Nanosecond), "", dear)}, "150 50"},
		"after both":   {[]Identification{say(sold.Add(2*time.Hour), "", dear)}, "150 130"},
		"before a fee": {[]Identification{say(on(2024, 1, 20), "", dear)}, "50 150"},
		"changed before it": {[]Identification{say(on(2024, 2, 2), "", dear), say(on(2024, 2, 3), "", cheap)},
			"150 130"},
		"for the other": {[]Identification{say(on(2024, 2, 2), "h4", dear)}, "150 50"},
		"for another wallet": {[]Identification{{Wallet: "b", Token: "X", Picks: say(sold, "", dear).Picks}},
			"150 130"},
		"one for it before a newer next": {[]Identification{say(on(2024, 2, 2), "h3", dear),
			say(on(2024, 2, 3), "", cheap)}, "50 150"},
	} {
		events := Events(moved, nil, prices)["X"]
		Identify("X", events, tc.given, nil)
		b := book(t, "X", Rules{Method: Specific, PerWallet: true}, events)
		if got := gainsTold(b); got != tc.want {
			t.Errorf("%s: gains of %s, want %s", name, got, tc.want)
		}
	}
}
