package lots

import (
	"fmt"
	"math/big"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever comes when, and whatever is mended or taken out, the outcome is that of all in their order.
func TestALateEventGivesTheSameAsAllInOrder(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		method := rapid.SampledFrom([]Method{FIFO, LIFO, HIFO, Average}).Draw(r, "method")
		perWallet := rapid.Bool().Draw(r, "by wallet")
		h, err := NewHistory(method, perWallet)
		if err != nil {
			r.Fatal(err)
		}
		known := map[int64]Event{}
		for range rapid.IntRange(1, 12).Draw(r, "changes") {
			var put []Event
			for range rapid.SampledFrom([]int{1, 2, 400}).Draw(r, "events") {
				n := rapid.Int64Range(0, 3000).Draw(r, "at")
				put = append(put, drawn(r, n))
			}
			for _, e := range put {
				known[e.Seq] = e
			}
			if _, err := h.Put(put...); err != nil {
				r.Fatal(err)
			}
			if out := rapid.Int64Range(0, 3000).Draw(r, "out"); known[out].Quantity != nil {
				if _, found := h.Remove(known[out]); !found {
					r.Fatalf("event %d is not found", out)
				}
				delete(known, out)
			}
		}
		all, err := NewHistory(method, perWallet)
		if err != nil {
			r.Fatal(err)
		}
		var events []Event
		for _, e := range known {
			events = append(events, e)
		}
		if _, err := all.Put(events...); err != nil {
			r.Fatal(err)
		}
		if got, want := text(h), text(all); got != want {
			r.Fatalf("%s\nwant\n%s", got, want)
		}
	})
}

// drawn is a random event; that of a number is always at the same time.
func drawn(r *rapid.T, n int64) Event {
	e := Event{ID: fmt.Sprint(n), Kind: rapid.SampledFrom([]Kind{Acquire, Dispose, Move}).Draw(r, "kind"),
		Time: on(2024, 1, 1).Add(time.Duration(n/4) * time.Hour), Seq: n,
		Wallet:   rapid.SampledFrom([]string{"a", "b"}).Draw(r, "wallet"),
		To:       rapid.SampledFrom([]string{"a", "b"}).Draw(r, "to"),
		Quantity: big.NewInt(rapid.Int64Range(1, 100).Draw(r, "quantity"))}
	if e.Kind != Move && rapid.IntRange(0, 9).Draw(r, "known") > 0 {
		e.Value = big.NewInt(rapid.Int64Range(0, 1e6).Draw(r, "value"))
	}
	if e.Kind != Acquire && rapid.IntRange(0, 4).Draw(r, "picks") == 0 {
		e.Picks = []Pick{{fmt.Sprint(rapid.Int64Range(0, 3000).Draw(r, "lot")), big.NewInt(1)}}
	}
	return e
}

// text is all that a history says.
func text(h *History) string {
	out := fmt.Sprintln(open(h.ledger(), "a"), "|", open(h.ledger(), "b"))
	for _, d := range h.Disposals(0) {
		out += fmt.Sprintln(d.ID, d.Unmet)
		for _, p := range d.Parts {
			out += fmt.Sprintln(" ", p.Lot.ID, p.Lot.Quantity, p.Lot.Cost, p.Missing, p.Proceeds, p.Gain)
		}
	}
	return out
}

func TestAnEventThatCannotBeChangesNothing(t *testing.T) {
	h, err := NewHistory(FIFO, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.Put(event(Acquire, on(2024, 1, 1), 1, 10, "100")); err != nil {
		t.Fatal(err)
	}
	before := slices.Clone(h.events)
	_, err = h.Put(event(Acquire, on(2024, 1, 2), 2, 1, "5"), event(Dispose, on(2024, 1, 3), 3, 0, "5"))
	if err == nil || !reflect.DeepEqual(h.events, before) {
		t.Errorf("%v, and the events are %+v", err, h.events)
	}
}

// A pick that a late event makes impossible is told, and what was sold is sold.
func TestPicksThatCannotBeTakenAreTold(t *testing.T) {
	h, err := NewHistory(FIFO, true)
	if err != nil {
		t.Fatal(err)
	}
	sale := event(Dispose, on(2024, 3, 1), 5, 10, "500")
	sale.Picks = []Pick{{"2", big.NewInt(10)}}
	if _, err := h.Put(event(Acquire, on(2024, 1, 1), 1, 10, "100"), event(Acquire, on(2024, 1, 2), 2, 10, "300"),
		sale); err != nil {
		t.Fatal(err)
	}
	if d := h.Disposals(0); gains(d) != "200" || d[0].Unmet != "" {
		t.Errorf("gains of %s, %+v", gains(d), d)
	}
	early := event(Dispose, on(2024, 2, 1), 4, 15, "450")
	if _, err := h.Put(early); err != nil {
		t.Fatal(err)
	}
	if d := h.Disposals(0); gains(d) != "200 ?" || d[1].Unmet == "" || !d[1].Parts[1].Missing {
		t.Errorf("gains of %s, %+v", gains(d), d)
	}
}

// Random events of a token: mostly bought, sold and moved between five wallets.
func many(n int) []Event {
	random := rand.New(rand.NewPCG(1, 2))
	all := make([]Event, n)
	for i := range all {
		all[i] = Event{ID: fmt.Sprint("e", i), Kind: []Kind{Acquire, Acquire, Dispose, Move}[random.IntN(4)],
			Time: on(2020, 1, 1).Add(time.Duration(i) * time.Minute), Seq: int64(i),
			Wallet: fmt.Sprint(random.IntN(5)), To: fmt.Sprint(random.IntN(5)),
			Quantity: big.NewInt(1 + random.Int64N(1e9)), Value: big.NewInt(random.Int64N(1e12))}
	}
	return all
}

func BenchmarkHistory(b *testing.B) {
	const events = 100_000
	all := many(events)
	for name, m := range map[string]Method{"FIFO": FIFO, "LIFO": LIFO, "HIFO": HIFO, "Average": Average} {
		b.Run(name+"/100000 events", func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h, _ := NewHistory(m, true)
				if _, err := h.Put(all...); err != nil {
					b.Fatal(err)
				}
			}
		})
		h, _ := NewHistory(m, true)
		if _, err := h.Put(all...); err != nil {
			b.Fatal(err)
		}
		for _, share := range []int{1, 50, 99} {
			late := all[events/100*share]
			b.Run(fmt.Sprintf("%s/one edit at %d %%", name, share), func(b *testing.B) {
				for b.Loop() {
					late.Quantity = new(big.Int).Add(late.Quantity, big.NewInt(1))
					if _, err := h.Put(late); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
