package lots

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// on is a day.
func on(year int, month time.Month, day int) time.Time {
	return time.Date(year, month, day, 12, 0, 0, 0, time.UTC)
}

// money is in the units of values; "" isn't known.
func money(text string) *big.Int {
	if text == "" {
		return nil
	}
	r, ok := new(big.Rat).SetString(text)
	if !ok {
		panic(text)
	}
	r.Mul(r, big.NewRat(100_000_000, 1))
	return new(big.Int).Quo(r.Num(), r.Denom())
}

// shown is money as text.
func shown(v *big.Int) string {
	if v == nil {
		return "?"
	}
	text := new(big.Rat).SetFrac(v, big.NewInt(100_000_000)).FloatString(8)
	return strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
}

func event(kind Kind, at time.Time, n int64, quantity int64, value string) Event {
	return Event{ID: fmt.Sprint(n), Kind: kind, Time: at, Seq: n, Quantity: big.NewInt(quantity), Value: money(value)}
}

func run(t *testing.T, m Method, events ...Event) (*Ledger, []Disposal) {
	t.Helper()
	l, disposals, err := Run(m, true, events)
	if err != nil {
		t.Fatal(err)
	}
	return l, disposals
}

// gains are those of disposals, one after the other.
func gains(disposals []Disposal) string {
	var out []string
	for _, d := range disposals {
		sum := new(big.Int)
		for _, p := range d.Parts {
			if p.Gain == nil {
				sum = nil
				break
			}
			sum.Add(sum, p.Gain)
		}
		out = append(out, shown(sum))
	}
	return strings.Join(out, " ")
}

// open are the lots of a wallet.
func open(l *Ledger, wallet string) string {
	var out []string
	for _, lot := range l.Lots(wallet) {
		out = append(out, fmt.Sprintf("%s:%s@%s", lot.ID, lot.Quantity, shown(lot.Cost)))
	}
	return strings.Join(out, " ")
}

// CoinTracker, an example of FIFO: 1 for 100, 3 for 500 each; one sold at 1,000 and two at 2,000 each.
func TestFIFOAsPublished(t *testing.T) {
	l, disposals := run(t, FIFO, event(Acquire, on(2012, 1, 1), 1, 1, "100"), event(Acquire, on(2016, 5, 1), 2, 3,
		"1500"),
		event(Dispose, on(2017, 4, 1), 3, 1, "1000"), event(Dispose, on(2017, 6, 1), 4, 2, "4000"))
	if got := gains(disposals); got != "900 3000" || open(l, "") != "2:1@500" {
		t.Errorf("gains of %s, left %s", got, open(l, ""))
	}
}

// The vignette of the R package cryptoTax: fees are part of the cost, and taken off what was brought.
func TestAverageCostAsPublished(t *testing.T) {
	l, disposals := run(t, Average, event(Acquire, on(2021, 1, 1), 1, 100, "5010"),
		event(Dispose, on(2021, 2, 1), 2, 50, "5990"), event(Acquire, on(2021, 3, 1), 3, 50, "6510"),
		event(Dispose, on(2021, 4, 1), 4, 40, "3590"))
	if got := gains(disposals); got != "3485 -16" || open(l, "") != ":60@5409" {
		t.Errorf("gains of %s, left %s", got, open(l, ""))
	}
}

func TestEachMethodTakesItsLots(t *testing.T) {
	events := []Event{event(Acquire, on(2024, 1, 1), 1, 10, "100"), event(Acquire, on(2024, 1, 2), 2, 10, "300"),
		event(Acquire, on(2024, 1, 2), 3, 10, "200"), event(Acquire, on(2024, 1, 3), 4, 10, "")}
	sale := event(Dispose, on(2024, 2, 1), 5, 15, "600")
	for _, tc := range []struct {
		method      Method
		picks       []Pick
		gains, left string
	}{
		{FIFO, nil, "350", "2:5@150 3:10@200 4:10@?"},
		{LIFO, nil, "?", "3:5@100 2:10@300 1:10@100"},
		{HIFO, nil, "200", "3:5@100 1:10@100 4:10@?"},
		{Average, nil, "?", ":25@?"},
		{FIFO, []Pick{{"3", big.NewInt(5)}}, "400", "2:10@300 3:5@100 4:10@?"},
	} {
		sale.Picks = tc.picks
		l, disposals := run(t, tc.method, append(events[:4:4], sale)...)
		if got := gains(disposals); got != tc.gains || open(l, "") != tc.left {
			t.Errorf("method %d, picks %v: gains of %s, left %s", tc.method, tc.picks, got, open(l, ""))
		}
	}
}

// A move keeps times and costs, there and back, and a part that comes back joins what was left.
func TestAMoveKeepsTimeAndCost(t *testing.T) {
	in := func(wallet string, e Event) Event {
		e.Wallet = wallet
		return e
	}
	move := func(from, to string, at time.Time, n, quantity int64) Event {
		return Event{ID: fmt.Sprint(n), Kind: Move, Time: at, Seq: n, Wallet: from, To: to,
			Quantity: big.NewInt(quantity)}
	}
	l, disposals := run(t, FIFO, in("a", event(Acquire, on(2024, 1, 1), 1, 10, "100")),
		in("b", event(Acquire, on(2024, 1, 2), 2, 10, "900")), move("a", "b", on(2024, 1, 3), 3, 6),
		in("b", event(Dispose, on(2024, 1, 4), 4, 2, "50")), move("b", "a", on(2024, 1, 5), 5, 5),
		move("a", "c", on(2024, 1, 6), 6, 12))
	if gains(disposals) != "30" || open(l, "a") != "" || open(l, "b") != "2:9@810" ||
		open(l, "c") != "1:8@80 2:1@90 6:3@?" {
		t.Errorf("gains of %s, left in a %q, in b %q, in c %q", gains(disposals), open(l, "a"), open(l, "b"),
			open(l, "c"))
	}
}

func TestWhatIsMissingIsNotGuessed(t *testing.T) {
	l, disposals := run(t, FIFO, event(Acquire, on(2024, 1, 1), 1, 1, "10"),
		event(Dispose, on(2024, 1, 2), 2, 3, "90"), event(Acquire, on(2024, 1, 3), 3, 5, "50"))
	parts := disposals[0].Parts
	if len(parts) != 2 || parts[0].Missing || shown(parts[0].Gain) != "20" || !parts[1].Missing ||
		parts[1].Gain != nil || shown(parts[1].Proceeds) != "60" || open(l, "") != "3:5@50" {
		t.Errorf("parts %+v, left %s", parts, open(l, ""))
	}
}

func TestAWrongEventChangesNothing(t *testing.T) {
	l, _ := run(t, FIFO, event(Acquire, on(2024, 1, 1), 1, 10, "100"))
	for name, e := range map[string]Event{
		"no quantity":     {Kind: Dispose, Quantity: new(big.Int)},
		"a cost below 0":  event(Acquire, on(2024, 1, 2), 2, 1, "-1"),
		"an unknown kind": {Kind: 9, Quantity: big.NewInt(1)},
		"an unknown lot": {Kind: Dispose, Quantity: big.NewInt(5), Picks: []Pick{{"1", big.NewInt(2)},
			{"x", big.NewInt(1)}}},
		"more than it has": {Kind: Dispose, Quantity: big.NewInt(50), Picks: []Pick{{"1", big.NewInt(11)}}},
		"more than is sold": {Kind: Dispose, Quantity: big.NewInt(5), Picks: []Pick{{"1", big.NewInt(3)},
			{"1", big.NewInt(3)}}},
		"nothing of a lot": {Kind: Dispose, Quantity: big.NewInt(5), Picks: []Pick{{"1", new(big.Int)}}},
	} {
		if d, err := l.Apply(e); err == nil || d != nil || open(l, "") != "1:10@100" {
			t.Errorf("%s: %v, %v, left %s", name, d, err, open(l, ""))
		}
	}
}

// Of any events: quantities and costs are conserved, no lot is below zero, a copy doesn't change what it was made of,
// and once all is disposed of each method gained the same.
func TestNothingIsLostWhateverTheMethod(t *testing.T) {
	wallets := []string{"a", "b", "c"}
	rapid.Check(t, func(r *rapid.T) {
		held := map[string]int64{}
		var events []Event
		total := new(big.Int)
		n := rapid.IntRange(1, 60).Draw(r, "events")
		for i := range n + 3 {
			e := Event{ID: fmt.Sprint(i), Time: on(2024, 1, 1).Add(time.Duration(i/3) * time.Hour), Seq: int64(i),
				Wallet: rapid.SampledFrom(wallets).Draw(r, "wallet")}
			quantity := rapid.Int64Range(1, 1000).Draw(r, "quantity")
			e.Kind = rapid.SampledFrom([]Kind{Acquire, Acquire, Dispose, Move}).Draw(r, "kind")
			if i >= n { // all that is left
				e.Kind, e.Wallet = Dispose, wallets[i-n]
				quantity = held[e.Wallet]
			}
			if e.Kind != Acquire {
				quantity = min(quantity, held[e.Wallet])
			}
			if quantity == 0 {
				continue
			}
			e.Quantity = big.NewInt(quantity)
			switch value := big.NewInt(rapid.Int64Range(0, 1e12).Draw(r, "value")); e.Kind {
			case Acquire:
				held[e.Wallet] += quantity
				e.Value = value
				total.Sub(total, value)
			case Dispose:
				held[e.Wallet] -= quantity
				e.Value = value
				total.Add(total, value)
			case Move:
				e.To = rapid.SampledFrom(wallets).Draw(r, "to")
				held[e.Wallet] -= quantity
				held[e.To] += quantity
			}
			events = append(events, e)
		}
		for _, m := range []Method{FIFO, LIFO, HIFO, Average} {
			for _, perWallet := range []bool{true, false} {
				checkRun(r, m, perWallet, events, total)
			}
		}
	})
}

func checkRun(r *rapid.T, m Method, perWallet bool, events []Event, total *big.Int) {
	l, err := NewLedger(m, perWallet)
	if err != nil {
		r.Fatal(err)
	}
	gained := new(big.Int)
	balances := map[string]*big.Int{}
	change := func(wallet string, by *big.Int) {
		if !perWallet {
			wallet = ""
		}
		if balances[wallet] == nil {
			balances[wallet] = new(big.Int)
		}
		balances[wallet].Add(balances[wallet], by)
	}
	for _, e := range events {
		before := l.Copy()
		was := open(before, e.Wallet)
		d, err := l.Apply(e)
		if err != nil {
			r.Fatal(err)
		}
		if open(before, e.Wallet) != was {
			r.Fatalf("method %d: an event changed a copy", m)
		}
		out := new(big.Int).Neg(e.Quantity)
		switch e.Kind {
		case Acquire:
			change(e.Wallet, e.Quantity)
		case Dispose:
			change(e.Wallet, out)
		case Move:
			change(e.Wallet, out)
			change(e.To, e.Quantity)
		}
		if d != nil {
			for _, p := range d.Parts {
				if p.Missing {
					r.Fatalf("method %d: %+v is missing", m, p)
				}
				gained.Add(gained, p.Gain)
			}
		}
		for wallet, balance := range balances {
			sum := new(big.Int)
			for _, lot := range l.Lots(wallet) {
				if lot.Quantity.Sign() <= 0 || lot.Cost.Sign() < 0 {
					r.Fatalf("method %d: lot %+v", m, lot)
				}
				sum.Add(sum, lot.Quantity)
			}
			if sum.Cmp(balance) != 0 {
				r.Fatalf("method %d: the lots of %q are %s, its balance is %s", m, wallet, sum, balance)
			}
		}
	}
	if gained.Cmp(total) != 0 {
		r.Fatalf("method %d, by wallet %t: gained %s, want %s", m, perWallet, gained, total)
	}
}
