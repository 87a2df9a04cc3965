package gains

import (
	"math/big"
	"slices"
	"sort"
	"time"

	"github.com/purserhq/purser/services/portfolio/internal/lots"
)

// View is the rules of a country.
type View int

// Views, as in the contract.
const (
	UK View = iota + 1
	US
	Canada
)

// Specific is FIFO with the picks of events.
const Specific = lots.Average + 1

// Rules are by which lots are taken.
type Rules struct {
	Method    lots.Method // or Specific
	View      View        // 0 for none
	PerWallet bool
	Zone      *time.Location
	// WashSales denies the losses of all tokens, and otherwise those of Securities.
	WashSales  bool
	Securities map[string]bool
}

// method is that of package lots.
func (r Rules) method() lots.Method {
	switch {
	case r.View == Canada:
		return lots.Average
	case r.Method == Specific || r.Method == 0:
		return lots.FIFO
	default:
		return r.Method
	}
}

// perWalletFrom is from when on the United States have lots by wallet (Rev. Proc. 2024-28).
func (r Rules) perWalletFrom() time.Time { return time.Date(2025, 1, 1, 0, 0, 0, 0, r.Zone) }

// Part is the part of a disposal that was taken from one lot.
type Part struct {
	Asset string
	// Disposal names the event, or a day of the United Kingdom.
	Disposal string
	// Number of the part in its disposal.
	Number int
	Wallet string
	Time   time.Time
	// seq orders what has one time.
	seq int64
	Fact
	Quantity *big.Int
	// Proceeds, Cost and Gain are nil when they aren't known. Gain doesn't have a loss that is denied.
	Proceeds, Cost, Gain *big.Int
	Lot                  string // empty for a pool, and when Missing
	Acquired             time.Time
	Missing              bool
	Rule                 lots.Rule // of the United Kingdom
	LongTerm             bool
	Wash                 lots.Wash
	Denied               bool // the loss of Wash
	Unmet                string
}

// Open is an open lot.
type Open struct {
	Asset, Wallet string
	lots.Lot
	Fact
}

// Book is the events of an asset and what comes of them. It is not safe for concurrent use; what it returns is not
// changed later.
type Book struct {
	rules   Rules
	asset   string
	history *lots.History // nil with the rules of the United Kingdom and the United States
	events  []Event
	index   map[string]int // of the events by id
	parts   []Part
	open    []Open
}

// NewBook returns one without events.
func NewBook(asset string, r Rules) (*Book, error) {
	b := &Book{rules: r, asset: asset}
	if r.View == UK || r.View == US {
		return b, nil
	}
	var err error
	b.history, err = lots.NewHistory(r.method(), r.PerWallet)
	return b, err
}

// Set has these events, in their order, in place of those before, and makes again what that changes. It ends when stop
// returns an error, which it returns. After an error b is of no use.
func (b *Book) Set(events []Event, stop func() error) error {
	before := b.events
	if len(events) > 0 && len(events) == len(before) && &events[0] == &before[0] ||
		slices.EqualFunc(events, before, func(x, y Event) bool { return x.same(&y) }) {
		return nil
	}
	bare := make([]lots.Event, len(events))
	for i := range events {
		bare[i] = events[i].Event
	}
	b.events, b.index = events, make(map[string]int, len(events))
	for i := range events {
		b.index[events[i].ID] = i
	}
	switch b.rules.View {
	case UK:
		return b.setUK(bare)
	case US:
		return b.setUS(bare, stop)
	case Canada:
	}
	first, err := b.history.Replace(bare, func(i int) bool { return !events[i].same(&before[i]) }, stop)
	if err != nil {
		b.events = nil
		return err
	}
	for _, of := range [][]Event{before, events} { // nothing of the first that differs stays, as it was and as it is
		if first == len(of) {
			continue
		}
		at := of[first]
		b.parts = b.parts[:sort.Search(len(b.parts), func(i int) bool {
			return b.parts[i].Time.After(at.Time) || b.parts[i].Time.Equal(at.Time) && b.parts[i].seq >= at.Seq
		})]
	}
	disposals := b.history.Disposals(first)
	b.parts = slices.Grow(slices.Clip(b.parts), len(disposals)+len(disposals)/2)
	for _, d := range disposals {
		b.parts = append(b.parts, b.partsOf(d)...)
	}
	b.setOpen(b.history.AllLots())
	return nil
}

// partsOf are the parts of a disposal.
func (b *Book) partsOf(d lots.Disposal) []Part {
	out := make([]Part, len(d.Parts))
	for i, p := range d.Parts {
		out[i] = Part{Asset: b.asset, Disposal: d.ID, Number: i, Wallet: d.Wallet, Time: d.Time, seq: d.Seq,
			Fact: b.fact(d.ID), Quantity: p.Lot.Quantity, Proceeds: p.Proceeds, Cost: p.Lot.Cost, Gain: p.Gain,
			Lot: p.Lot.ID, Acquired: p.Lot.Acquired, Missing: p.Missing, Unmet: d.Unmet}
		if b.rules.method() == lots.Average || p.Missing {
			out[i].Acquired, out[i].Lot = time.Time{}, ""
		}
		if p.Missing {
			out[i].Cost = nil
		}
	}
	return out
}

func (b *Book) fact(id string) Fact {
	if i, ok := b.index[id]; ok {
		return b.events[i].Fact
	}
	return Fact{}
}

func (b *Book) setOpen(all map[string][]lots.Lot) {
	b.open = nil
	var wallets []string
	for w := range all {
		wallets = append(wallets, w)
	}
	slices.Sort(wallets)
	for _, w := range wallets {
		for _, l := range all[w] {
			if b.rules.method() == lots.Average {
				l.Acquired = time.Time{}
			}
			b.open = append(b.open, Open{Asset: b.asset, Wallet: w, Lot: l, Fact: b.fact(l.ID)})
		}
	}
}

func (b *Book) setUK(events []lots.Event) error {
	days, pool, err := lots.UK(events, b.rules.Zone)
	if err != nil {
		return err
	}
	b.parts, b.open = nil, nil
	for _, d := range days {
		var reason string
		for _, id := range d.Events {
			if f := b.fact(id); f.Reason != "" {
				reason = f.Reason
			}
		}
		for i, p := range d.Parts {
			out := Part{Asset: b.asset, Disposal: b.asset + " " + d.Date.Format(time.DateOnly), Number: i,
				Time:     d.Date,
				Quantity: p.Quantity, Proceeds: p.Proceeds, Cost: p.Cost, Gain: p.Gain, Acquired: p.Acquired,
				Rule: p.Rule, Missing: p.Rule == lots.NotFound, Fact: Fact{Token: b.asset, Reason: reason}}
			b.parts = append(b.parts, out)
		}
	}
	if pool.Quantity.Sign() > 0 {
		b.open = []Open{{Asset: b.asset, Lot: pool, Fact: Fact{Token: b.asset}}}
	}
	return nil
}

func (b *Book) setUS(events []lots.Event, stop func() error) error {
	denies := b.rules.WashSales || b.rules.Securities[b.asset]
	disposals, ledger, err := lots.US(events, lots.USOptions{Method: b.rules.method(),
		PerWalletFrom: b.rules.perWalletFrom(), Zone: b.rules.Zone, WashSales: denies, Stop: stop})
	if err != nil {
		return err
	}
	b.parts = nil
	for _, d := range disposals {
		parts := b.partsOf(d.Disposal)
		for i := range parts {
			p := &parts[i]
			p.LongTerm, p.Wash = d.LongTerm[i], d.Washed[i]
			if denies && p.Wash.Loss != nil {
				p.Denied, p.Gain = true, new(big.Int).Add(p.Gain, p.Wash.Loss)
			}
		}
		b.parts = append(b.parts, parts...)
	}
	b.setOpen(ledger.AllLots())
	return nil
}

// Parts returns the parts of the disposals, oldest first.
func (b *Book) Parts() []Part { return b.parts }

// Open returns the open lots by wallet, in the order in which they would be taken.
func (b *Book) Open() []Open { return b.open }

// Events returns the events in their order.
func (b *Book) Events() []Event { return b.events }
