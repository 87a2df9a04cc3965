package gains

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

// hourly prices a token of n by the hour, exactly.
type hourly struct{}

func (hourly) Of(token string, at time.Time, amount *big.Int) (*big.Int, string) {
	price := int64(token[0])*1000 + at.Unix()/3600%977 + 1
	return new(big.Int).Mul(amount, big.NewInt(price*1_000_000)), ""
}

// drawnMovements are transactions of an owner with wallets a, b and c, such that no balance is below zero.
func drawnMovements(r *rapid.T, n int) (out []Movement) {
	wallets, tokens := []string{"a", "b", "c"}, []string{"X", "Y", "Z"}
	held := map[place]int64{}
	at := on(2024, 12, 31) // before the turn of the United States
	for i := range n {
		at = at.Add(time.Duration(rapid.IntRange(0, 90).Draw(r, "minutes")) * time.Minute)
		h := fmt.Sprint("h", i)
		w := rapid.SampledFrom(wallets).Draw(r, "wallet")
		x, y := rapid.SampledFrom(tokens).Draw(r, "token"), rapid.SampledFrom(tokens).Draw(r, "other")
		q := rapid.Int64Range(1, 1000).Draw(r, "quantity")
		var texts []string
		add := func(wallet, what string, q int64, token, more string) {
			if q == 0 {
				return
			}
			if what == "in" || what == "adjin" {
				held[place{token, wallet}] += q
			} else {
				held[place{token, wallet}] -= q
			}
			texts = append(texts, fmt.Sprintf("%s %s %d %s %s", wallet, what, q, token, more))
		}
		less := min(q, held[place{x, w}])
		switch rapid.IntRange(0, 6).Draw(r, "what") {
		case 0, 1:
			add(w, "in", q, x, h)
		case 2:
			add(w, "out", less, x, h)
		case 3:
			if less > 0 && x != y {
				add(w, "out", less, x, h)
				add(rapid.SampledFrom(wallets).Draw(r, "to"), "in", q, y, h)
			}
		case 4:
			if to := rapid.SampledFrom(wallets).Draw(r, "to"); less > 0 && to != w {
				add(w, "out", less, x, h+" >"+to)
				add(to, "in", less, x, h+" >"+w)
			}
		case 5:
			add(w, "adjin", q, x, "")
		case 6:
			add(w, "fee", less, x, h)
		}
		for j, m := range moves(at, texts...) {
			m.Block, m.Index = uint64(i), int32(j)
			out = append(out, m)
		}
	}
	// All that is left is sold.
	for k, tok := range tokens {
		for j, w := range wallets {
			if q := held[place{tok, w}]; q > 0 {
				m := move(at.Add(time.Hour), fmt.Sprintf("%s out %d %s last%d%d", w, q, tok, k, j))
				m.Block = uint64(n + 10*k + j)
				out = append(out, m)
			}
		}
	}
	return out
}

// Of any transactions, once everything is sold: all methods gained the same, which is what was brought less what was
// paid; no lot is open; and at any time before the lots of each wallet are its balance.
func TestAllMethodsGainTheSameOnceAllIsSold(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		moved := drawnMovements(r, rapid.IntRange(1, 60).Draw(r, "transactions"))
		events := Events(moved, nil, hourly{})
		for asset, of := range events {
			want := new(big.Int)
			for _, e := range of {
				switch e.Kind {
				case lots.Acquire:
					want.Sub(want, e.Value)
				case lots.Dispose:
					want.Add(want, e.Value)
				case lots.Move:
				}
			}
			for _, rules := range everyRule() {
				b := bookOf(r, asset, rules, of)
				got := new(big.Int)
				for _, p := range b.Parts() {
					if p.Missing {
						r.Fatalf("%v: %+v is missing", rules, p)
					}
					got.Add(got, p.Gain)
				}
				if got.Cmp(want) != 0 || len(b.Open()) > 0 {
					r.Fatalf("%+v: gained %s, want %s, open %v", rules, got, want, b.Open())
				}
			}
		}
		cut := rapid.IntRange(0, len(moved)).Draw(r, "cut")
		for cut > 0 && cut < len(moved) && moved[cut].Hash != "" && moved[cut].Hash == moved[cut-1].Hash {
			cut++
		}
		balances := map[place]*big.Int{}
		for _, m := range moved[:cut] {
			at := place{m.Token, m.Wallet}
			balances[at] = zero(balances[at])
			if m.In {
				balances[at].Add(balances[at], m.Amount)
			} else {
				balances[at].Sub(balances[at], m.Amount)
			}
		}
		for asset, of := range Events(moved[:cut], nil, hourly{}) {
			for _, rules := range []Rules{{Method: lots.FIFO, PerWallet: true}, {Method: lots.HIFO, PerWallet: true},
				{Method: lots.Average, PerWallet: true}, {View: US}} {
				sums := map[string]*big.Int{}
				for _, o := range bookOf(r, asset, rules, of).Open() {
					if o.Quantity.Sign() <= 0 {
						r.Fatalf("lot %+v", o)
					}
					sums[o.Wallet] = new(big.Int).Add(zero(sums[o.Wallet]), o.Quantity)
				}
				for _, w := range []string{"a", "b", "c"} {
					if zero(sums[w]).Cmp(zero(balances[place{asset, w}])) != 0 && rules.View == 0 {
						r.Fatalf("%+v: lots of %s in %s are %s, its balance is %s", rules, asset, w, sums[w],
							balances[place{asset, w}])
					}
				}
			}
		}
	})
}

func everyRule() (out []Rules) {
	for m := lots.FIFO; m <= Specific; m++ {
		out = append(out, Rules{Method: m}, Rules{Method: m, PerWallet: true})
	}
	return append(out, Rules{View: UK}, Rules{View: US}, Rules{View: Canada})
}

func bookOf(r *rapid.T, asset string, rules Rules, events []Event) *Book {
	rules.Zone = time.UTC
	b, err := NewBook(asset, rules)
	if err == nil {
		err = b.Set(events, never)
	}
	if err != nil {
		r.Fatal(err)
	}
	return b
}

// A movement that comes late, is mended or is taken out gives the same as all anew; so does a price that comes late.
func TestALateMovementGivesTheSameAsAllAnew(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		moved := drawnMovements(r, rapid.IntRange(5, 80).Draw(r, "transactions"))
		if len(moved) == 0 {
			r.Skip("nothing moved")
		}
		rules := rapid.SampledFrom(everyRule()).Draw(r, "rules")
		rules.Zone = time.UTC
		var assets Assets
		if rapid.IntRange(0, 3).Draw(r, "same") == 0 {
			assets = Assets{"X": "X", "Y": "X"}
		}
		v := &values{tokens: map[string]Token{}, prices: map[TokenHour]*Price{}, rates: map[int64]currency.Rate{}}
		for i, m := range moved {
			h := hourOf(m.Token, m.Time)
			v.prices[h] = &Price{USD: fmt.Sprint(1 + i%7)}
			v.rates[h.Hour] = currency.USD()
		}
		l := NewLedger(rules, assets)
		for range 8 {
			some := slices.Clone(moved)
			for range rapid.IntRange(0, 3).Draw(r, "out") {
				if len(some) > 1 {
					i := rapid.IntRange(0, len(some)-1).Draw(r, "which")
					some = slices.Delete(some, i, i+1)
				}
			}
			i := rapid.IntRange(0, len(some)-1).Draw(r, "mended")
			switch rapid.IntRange(0, 3).Draw(r, "mends") {
			case 0:
				some[i].Amount = new(big.Int).Add(some[i].Amount, big.NewInt(1))
			case 1:
				some[i].Hash = ""
			case 2:
				v = &values{tokens: v.tokens, prices: maps.Clone(v.prices), rates: v.rates}
				v.prices[hourOf(some[i].Token, some[i].Time)] = &Price{USD: "1.5"}
			}
			for i := range some {
				some[i].Price = v.prices[hourOf(some[i].Token, some[i].Time)]
			}
			anew := NewLedger(rules, assets)
			for _, of := range []*Ledger{l, anew} {
				of.Prepare(slices.Clone(some), v)
				if err := of.Compute(of.events, never); err != nil {
					r.Fatal(err)
				}
			}
			if got, want := ledgerText(l), ledgerText(anew); got != want {
				r.Fatalf("%+v: %s\nwant\n%s", rules, got, want)
			}
		}
	})
}

func ledgerText(l *Ledger) (out string) {
	for _, asset := range slices.Sorted(maps.Keys(l.books)) {
		out += fmt.Sprintln(asset, told(l.events[asset]), bookText(l.books[asset]))
	}
	return out
}

// bookText is all that a book says.
func bookText(b *Book) (out []string) {
	for _, p := range b.Parts() {
		out = append(out, fmt.Sprint(p.Disposal, p.Number, p.Wallet, p.Time, p.seq, p.Quantity, p.Proceeds, p.Cost,
			p.Gain,
			p.Lot, p.Acquired, p.Missing, p.Rule, p.LongTerm, p.Wash, p.Unmet, p.Cause, p.Hash, p.Reason, "\n"))
	}
	for _, o := range b.Open() {
		out = append(out, fmt.Sprint(o.Wallet, o.Lot, o.Cause, o.Hash, "\n"))
	}
	return out
}

// never ends nothing.
func never() error { return nil }

// Nobody waits for a call that has ended: it computes no more, and the next one goes on. Otherwise an owner of many
// lots who moves them all again and again would hold for hours one of the few turns that all owners share.
func TestACallThatHasEndedComputesNoMore(t *testing.T) {
	at := on(2026, 1, 1)
	var moved []Movement
	for i := range 50 {
		moved = append(moved, moves(at.Add(time.Duration(i)*time.Minute), fmt.Sprintf("a in 1 X h%d", i))...)
	}
	for i := range 50 {
		from, to := "a", "b"
		if i%2 == 1 {
			from, to = to, from
		}
		moved = append(moved, moves(at.Add(time.Duration(100+i)*time.Minute),
			fmt.Sprintf("%s out 50 X m%d >%s", from, i, to), fmt.Sprintf("%s in 50 X m%d >%s", to, i, from))...)
	}
	v := &values{tokens: map[string]Token{"X": {}}}
	for _, rules := range []Rules{{Method: lots.FIFO, PerWallet: true}, {View: US}} {
		rules.Zone = time.UTC
		l, asked, ended := NewLedger(rules, nil), 0, errors.New("ended")
		l.Prepare(slices.Clone(moved), v)
		err := l.Compute(l.events, func() error {
			if asked++; asked > 20 {
				return ended
			}
			return nil
		})
		if !errors.Is(err, ended) || asked != 21 || len(l.books) != 0 {
			t.Errorf("%+v: %v after %d events, with %d books", rules, err, asked, len(l.books))
		}
		if err := l.Compute(l.events, never); err != nil || len(l.books["X"].Open()) != 50 {
			t.Errorf("%+v: %v, then %d lots", rules, err, len(l.books["X"].Open()))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		s := NewService(nil, nil, nil, nil, time.Now)
		r := &Result{Options: Options{Rules: rules}}
		if err := s.compute(ctx, uuid.New(), r, slices.Clone(moved), v, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("%+v: a call that was cancelled: %v", rules, err)
		}
	}
}
