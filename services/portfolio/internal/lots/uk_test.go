package lots

import (
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func ukGains(days []UKDay) (total string, rules string) {
	sum, names := new(big.Int), []string{}
	for _, d := range days {
		for _, p := range d.Parts {
			if p.Gain != nil {
				sum.Add(sum, p.Gain)
			}
			names = append(names, fmt.Sprintf("%s %s:%s", map[Rule]string{SameDay: "same day", ThirtyDays: "30 days",
				Pool: "pool", NotFound: "not found"}[p.Rule], p.Quantity, shown(p.Gain)))
		}
	}
	return shown(sum), strings.Join(names, ", ")
}

// HMRC, Cryptoassets Manual. The cases are named by their pages.
func TestTheRulesOfTheUnitedKingdomAsPublished(t *testing.T) {
	for name, tc := range map[string]struct {
		events            []Event
		gain, rules, pool string
	}{
		"CRYPTO22251": {[]Event{event(Acquire, on(2018, 1, 1), 1, 100, "1000"),
			event(Acquire, on(2019, 1, 1), 2, 50, "125000"), event(Dispose, on(2020, 1, 1), 3, 50, "300000")},
			"258000", "pool 50:258000", "100@84000"},
		"CRYPTO22252": {[]Event{event(Acquire, on(2018, 1, 1), 1, 5000, "500"),
			event(Dispose, on(2019, 7, 1), 2, 1000, "800"), event(Acquire, on(2019, 7, 1), 3, 1600, "1000"),
			event(Dispose, on(2019, 7, 1), 4, 500, "600")},
			"462.5", "same day 1500:462.5", "5100@562.5"},
		"CRYPTO22255": {[]Event{event(Acquire, on(2018, 1, 1), 1, 14000, "200000"),
			event(Dispose, on(2019, 8, 30), 2, 4000, "160000"), event(Acquire, on(2019, 9, 11), 3, 500, "17500")},
			"92500", "30 days 500:2500, pool 3500:90000", "10500@150000"},
		"on the thirtieth day": {[]Event{event(Acquire, on(2018, 1, 1), 1, 10, "10"),
			event(Dispose, on(2019, 6, 1), 2, 5, "50"), event(Acquire, on(2019, 7, 1), 3, 5, "40")},
			"10", "30 days 5:10", "10@10"},
		"on the day after it": {[]Event{event(Acquire, on(2018, 1, 1), 1, 10, "10"),
			event(Dispose, on(2019, 6, 1), 2, 5, "50"), event(Acquire, on(2019, 7, 2), 3, 5, "40")},
			"45", "pool 5:45", "10@45"},
		"an earlier disposal first": {[]Event{event(Acquire, on(2018, 1, 1), 1, 10, "10"),
			event(Dispose, on(2019, 6, 1), 2, 3, "30"), event(Dispose, on(2019, 6, 5), 3, 3, "33"),
			event(Acquire, on(2019, 6, 20), 4, 4, "8")},
			"53", "30 days 3:24, 30 days 1:9, pool 2:20", "8@8"},
		"more than there is": {[]Event{event(Acquire, on(2018, 1, 1), 1, 1, "10"),
			event(Dispose, on(2019, 6, 1), 2, 3, "30")}, "0", "pool 1:0, not found 2:?", "0@0"},
		"what isn't known": {[]Event{event(Acquire, on(2018, 1, 1), 1, 1, ""), event(Acquire, on(2018, 1, 2), 2, 1,
			"1"),
			event(Dispose, on(2019, 6, 1), 3, 2, "30"), event(Acquire, on(2020, 1, 2), 4, 1, "5"),
			event(Dispose, on(2020, 6, 1), 5, 1, "6")}, "1", "pool 2:?, pool 1:1", "0@0"},
	} {
		days, pool, err := UK(tc.events, time.UTC)
		gain, rules := ukGains(days)
		if got := pool.Quantity.String() + "@" + shown(pool.Cost); err != nil || gain != tc.gain ||
			rules != tc.rules ||
			got != tc.pool {
			t.Errorf("%s: a gain of %s by %q, and a pool of %s, %v", name, gain, rules, got, err)
		}
	}
}

// A day is one of London, where clocks are an hour ahead in summer.
func TestDaysAreThoseOfTheZone(t *testing.T) {
	london, err := time.LoadLocation("Europe/London")
	if err != nil {
		t.Fatal(err)
	}
	late := time.Date(2019, 6, 1, 23, 30, 0, 0, time.UTC) // half past midnight in London
	events := []Event{event(Acquire, on(2018, 1, 1), 1, 5, "5"), event(Dispose, late, 2, 5, "50"),
		event(Acquire, on(2019, 6, 2), 3, 5, "40")}
	for zone, want := range map[*time.Location]string{london: "same day 5:10", time.UTC: "30 days 5:10"} {
		days, _, err := UK(events, zone)
		if _, rules := ukGains(days); err != nil || rules != want {
			t.Errorf("in %s: %s, %v", zone, rules, err)
		}
	}
}

// Quantities and costs are conserved: what was paid is in the parts and in the pool.
func TestTheRulesOfTheUnitedKingdomLoseNothing(t *testing.T) {
	rapid.Check(t, func(r *rapid.T) {
		var events []Event
		held, quantity, paid, brought := int64(0), new(big.Int), new(big.Int), new(big.Int)
		at := on(2020, 1, 1)
		for i := range rapid.IntRange(1, 60).Draw(r, "events") {
			at = at.Add(time.Duration(rapid.IntRange(0, 20*24).Draw(r, "hours")) * time.Hour)
			e := Event{ID: fmt.Sprint(i), Kind: Acquire, Time: at, Seq: int64(i),
				Quantity: big.NewInt(rapid.Int64Range(1, 1000).Draw(r, "quantity")),
				Value:    big.NewInt(rapid.Int64Range(0, 1e12).Draw(r, "value"))}
			if held > 0 && rapid.Bool().Draw(r, "disposes") {
				e.Kind, e.Quantity = Dispose, big.NewInt(min(held, e.Quantity.Int64()))
				held -= e.Quantity.Int64()
				quantity.Sub(quantity, e.Quantity)
				brought.Add(brought, e.Value)
			} else {
				held += e.Quantity.Int64()
				quantity.Add(quantity, e.Quantity)
				paid.Add(paid, e.Value)
			}
			events = append(events, e)
		}
		days, pool, err := UK(events, time.UTC)
		if err != nil || pool.Quantity.Cmp(quantity) != 0 {
			r.Fatalf("the pool has %s, want %s, %v", pool.Quantity, quantity, err)
		}
		cost, proceeds := new(big.Int).Set(pool.Cost), new(big.Int)
		for _, d := range days {
			for _, p := range d.Parts {
				cost.Add(cost, p.Cost)
				proceeds.Add(proceeds, p.Proceeds)
				if p.Rule == ThirtyDays && (!p.Acquired.After(d.Date) || p.Acquired.Sub(d.Date) > 30*24*time.Hour) {
					r.Fatalf("%s is matched with %s", d.Date, p.Acquired)
				}
			}
		}
		if cost.Cmp(paid) != 0 || proceeds.Cmp(brought) != 0 {
			r.Fatalf("costs of %s, want %s; proceeds of %s, want %s", cost, paid, proceeds, brought)
		}
	})
}
