package gains

import (
	"maps"
	"slices"
)

// Ledger has the movements of an owner, their events and the books of their assets. A change of some movements makes
// the events of their transactions again, and what follows these in the books. It is not safe for concurrent use; what
// it returns is not changed later.
type Ledger struct {
	rules  Rules
	assets Assets
	moved  []Movement
	worths []worthOf
	events map[string][]Event
	books  map[string]*Book
}

// worthOf is what the value of a movement rests on.
type worthOf struct {
	price Price
	rate  string
}

// worths are those of movements, which are in their order: many follow one of the same hour.
func (v *values) worths(moved []Movement) []worthOf {
	out := make([]worthOf, len(moved))
	var (
		rate string
		of   int64
	)
	for i := range moved {
		if h := hourOf("", moved[i].Time).Hour; i == 0 || h != of {
			rate, of = v.rates[h].Price, h
		}
		out[i].rate = rate
		if p := moved[i].Price; p != nil {
			out[i].price = *p
		}
	}
	return out
}

// NewLedger returns one without movements.
func NewLedger(r Rules, a Assets) *Ledger {
	return &Ledger{rules: r, assets: a, events: map[string][]Event{}, books: map[string]*Book{}}
}

// Prepare has these movements, which it sorts, in place of those before. It makes the events of those transactions
// again of which something changed.
func (l *Ledger) Prepare(moved []Movement, v *values) {
	if !slices.IsSortedFunc(moved, byPlace) {
		slices.SortStableFunc(moved, byPlace)
	}
	worths := v.worths(moved)
	var changed []Movement
	if len(l.moved) == 0 {
		changed = moved
	}
	for i, j := 0, 0; len(l.moved) > 0 && (i < len(moved) || j < len(l.moved)); {
		var c int
		switch {
		case i == len(moved):
			c = 1
		case j == len(l.moved):
			c = -1
		default:
			c = moved[i].compare(&l.moved[j])
		}
		differs := c != 0 || !moved[i].same(&l.moved[j]) || worths[i] != l.worths[j]
		if differs && c <= 0 {
			changed = append(changed, moved[i])
		}
		if differs && c >= 0 {
			changed = append(changed, l.moved[j])
		}
		if c <= 0 {
			i++
		}
		if c >= 0 {
			j++
		}
	}
	before := l.moved
	l.moved, l.worths = moved, worths
	keys, alone := transactionsOf(changed)
	if len(changed) == 0 {
		return
	}
	if !alone || len(changed) > len(moved)/4 || len(l.assets) > 0 {
		l.events = Events(moved, l.assets, v)
		return
	}
	l.replace(keys, before, v)
}

func byPlace(a, b Movement) int { return a.compare(&b) }

// same reports whether two movements are equal.
func (m *Movement) same(o *Movement) bool {
	return m.Wallet == o.Wallet && m.Token == o.Token && m.Kind == o.Kind && m.In == o.In &&
		m.Amount.Cmp(o.Amount) == 0 &&
		m.Counterparty == o.Counterparty && m.CounterpartyWallet == o.CounterpartyWallet && m.Hash == o.Hash &&
		m.Time.Equal(o.Time) && m.Block == o.Block && m.Index == o.Index && m.Log == o.Log && m.Row == o.Row
}

// transactionsOf are the keys of the transactions of movements, and whether each has one: a movement without may be
// one side of a transfer whose other side is anywhere.
func transactionsOf(moved []Movement) (keys map[string]bool, all bool) {
	keys = map[string]bool{}
	for i := range moved {
		key := moved[i].transaction()
		if key == "" {
			return nil, false
		}
		keys[key] = true
	}
	return keys, true
}

// replace makes the events of some transactions again, which were among the movements before or are now.
func (l *Ledger) replace(keys map[string]bool, before []Movement, v *values) {
	assets := map[string]bool{}
	var some []Movement
	for i := range before {
		if keys[before[i].transaction()] {
			assets[before[i].Token] = true
		}
	}
	for i := range l.moved {
		if keys[l.moved[i].transaction()] {
			assets[l.moved[i].Token] = true
			some = append(some, l.moved[i])
		}
	}
	made := Events(some, l.assets, v)
	events := maps.Clone(l.events)
	for asset := range assets {
		all := make([]Event, 0, len(events[asset])+len(made[asset]))
		for i := range events[asset] {
			if !keys[events[asset][i].order.transaction()] {
				all = append(all, events[asset][i])
			}
		}
		if all = append(all, made[asset]...); len(all) == 0 {
			delete(events, asset)
			continue
		}
		inOrder(all)
		events[asset] = all
	}
	l.events = events
}

// Compute has the events, with the picks that were given to them, in the books. It ends when stop returns an error,
// which it returns; the next call computes what is missing.
func (l *Ledger) Compute(events map[string][]Event, stop func() error) error {
	for asset := range l.books {
		if events[asset] == nil {
			delete(l.books, asset)
		}
	}
	for asset, of := range events {
		b := l.books[asset]
		if b == nil {
			var err error
			if b, err = NewBook(asset, l.rules); err != nil {
				return err
			}
			l.books[asset] = b
		}
		if err := b.Set(of, stop); err != nil {
			delete(l.books, asset)
			return err
		}
	}
	return nil
}
