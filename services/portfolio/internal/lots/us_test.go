package lots

import (
	"math/big"
	"testing"
	"time"
)

func TestMoreThanAYearIsLongTerm(t *testing.T) {
	for _, tc := range []struct {
		acquired, disposed time.Time
		long               bool
	}{
		{on(2020, 1, 15), on(2021, 1, 15), false},
		{on(2020, 1, 15), on(2021, 1, 16), true},
		{on(2020, 2, 29), on(2021, 2, 28), false},
		{on(2020, 2, 29), on(2021, 3, 1), true},
		{on(2019, 2, 28), on(2020, 2, 29), false},
		{on(2019, 2, 28), on(2020, 3, 1), true},
		{on(2020, 1, 31), on(2021, 1, 31), false},
		{on(2020, 1, 31), on(2021, 2, 1), true},
	} {
		if got := LongTerm(tc.acquired, tc.disposed, time.UTC); got != tc.long {
			t.Errorf("acquired %s, disposed of %s: %t", tc.acquired, tc.disposed, got)
		}
	}
}

func runUS(t *testing.T, o USOptions, events ...Event) ([]USDisposal, *Ledger) {
	t.Helper()
	o.Zone = time.UTC
	disposals, l, err := US(events, o)
	if err != nil {
		t.Fatal(err)
	}
	return disposals, l
}

// IRS, VITA: 100 bought for 1,000, sold for 750, and bought again within 30 days for 800.
func TestAWashSaleAsPublished(t *testing.T) {
	bought, sold := event(Acquire, on(2024, 1, 2), 1, 100, "1000"), event(Dispose, on(2024, 6, 3), 2, 100, "750")
	for _, tc := range []struct {
		name   string
		again  Event
		denied bool
	}{
		{"after it", event(Acquire, on(2024, 6, 20), 3, 100, "800"), true},
		{"on the thirtieth day", event(Acquire, on(2024, 7, 3), 3, 100, "800"), true},
		{"on the day after that", event(Acquire, on(2024, 7, 4), 3, 100, "800"), false},
		{"before it", event(Acquire, on(2024, 5, 20), 3, 100, "800"), true},
		{"long before it", event(Acquire, on(2024, 5, 3), 3, 100, "800"), false},
	} {
		for _, asked := range []bool{false, true} {
			d, l := runUS(t, USOptions{Method: FIFO, WashSales: asked}, bought, sold, tc.again)
			want, left := "?", "3:100@800"
			if tc.denied {
				if want = "250"; asked {
					left = "3:100@1050"
				}
			}
			if got := shown(d[0].Washed[0].Loss); got != want || open(l, "") != left {
				t.Errorf("%s, asked for: %t: a loss of %s is denied, left %s", tc.name, asked, got, open(l, ""))
			}
		}
	}
	// Half of it again: half of the loss.
	d, l := runUS(t, USOptions{Method: FIFO, WashSales: true}, bought, sold, event(Acquire, on(2024, 6, 4), 3, 50,
		"400"))
	if shown(d[0].Washed[0].Loss) != "125" || open(l, "") != "3:50@525" {
		t.Errorf("of half %s is denied, left %s", shown(d[0].Washed[0].Loss), open(l, ""))
	}
	// One replacement is of one loss.
	d, _ = runUS(t, USOptions{Method: FIFO, WashSales: true}, event(Acquire, on(2024, 1, 1), 1, 100, "1000"),
		event(Acquire, on(2024, 1, 2), 2, 100, "1000"), event(Dispose, on(2024, 6, 3), 3, 100, "750"),
		event(Dispose, on(2024, 6, 4), 4, 100, "700"), event(Acquire, on(2024, 6, 5), 5, 100, "800"))
	if shown(d[0].Washed[0].Loss) != "250" || d[1].Washed[0].Loss != nil {
		t.Errorf("%+v", d)
	}
}

func TestLotsAreOfTheirWalletFromTheTurnOn(t *testing.T) {
	in := func(wallet string, e Event) Event {
		e.Wallet = wallet
		return e
	}
	events := []Event{in("b", event(Acquire, on(2023, 1, 1), 1, 10, "100")),
		in("a", event(Acquire, on(2024, 1, 1), 2, 10, "900")), in("b", event(Dispose, on(2024, 6, 1), 3, 4, "400")),
		in("b", event(Dispose, on(2025, 6, 1), 4, 5, "500"))}
	turn := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	d, l := runUS(t, USOptions{Method: FIFO, PerWalletFrom: turn}, events...)
	if shown(d[0].Parts[0].Gain) != "360" || shown(d[1].Parts[0].Gain) != "50" || !d[1].LongTerm[0] ||
		open(l, "a") != "1:6@60 2:4@360" || open(l, "b") != "2:1@90" {
		t.Errorf("%+v, left in a %q, in b %q", d, open(l, "a"), open(l, "b"))
	}
	d, l = runUS(t, USOptions{Method: FIFO}, events...) // the control: by wallet ever since
	if shown(d[1].Parts[0].Gain) != "450" || open(l, "a") != "2:10@900" || open(l, "b") != "1:1@10" {
		t.Errorf("%+v, left in a %q, in b %q", d, open(l, "a"), open(l, "b"))
	}
}

// What wallets have at the turn beyond the lots that there are is of one time: none of it is lost where it comes
// together, nor where something is acquired in that very second.
func TestWhatHasNoLotAtTheTurnIsNeverLost(t *testing.T) {
	turn := time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC)
	in := func(e Event, wallet, to string) Event {
		e.Wallet, e.To = wallet, to
		return e
	}
	// All wallets together have a balance of 10 less than these two.
	_, l := runUS(t, USOptions{Method: FIFO, PerWalletFrom: turn},
		in(event(Acquire, on(2024, 1, 2), 1, 30, "30"), "a", ""),
		in(event(Acquire, on(2024, 1, 2), 2, 10, "10"), "b", ""),
		in(event(Move, on(2024, 2, 2), 3, 20, ""), "c", "a"), in(event(Move, on(2024, 2, 2), 4, 20, ""), "c", "b"),
		in(event(Acquire, turn, 0, 5, "50"), "a", ""),
		in(event(Move, on(2025, 3, 1), 5, 30, ""), "b", "a"))
	sum := new(big.Int)
	for _, lot := range l.Lots("a") {
		sum.Add(sum, lot.Quantity)
	}
	if got := sum.String(); got != "85" {
		t.Errorf("wallet a has lots of %s: %s", got, open(l, "a"))
	}
}
