// Package lots says from which acquisitions of a token each disposal takes, and what was gained by it.
//
// It promises: quantities are conserved, and so are costs, to the last unit: the parts of a lot add up to the lot. No
// lot is below zero. Moves between own wallets carry the time and the cost of what is moved. Of two methods the gains
// differ, but their sum doesn't once everything is disposed of.
//
// A lot whose cost isn't known makes unknown what it is part of, and nothing else. A disposal of more than there is
// has a part without a lot, whose cost isn't known either: an acquisition is missing then. Nothing is guessed.
//
// It knows one token at a time, and no prices: values come with the events.
package lots

import (
	"cmp"
	"math/big"
	"time"
)

// Method is the order in which lots are taken.
type Method int

// Methods. Lots of one time are in the order of their events: the first of them is the oldest.
const (
	// FIFO takes the oldest first.
	FIFO Method = iota + 1
	// LIFO takes the newest first.
	LIFO
	// HIFO takes the dearest by unit first; of lots that cost the same the oldest, and last those of unknown cost.
	HIFO
	// Average takes from all of them together, at their average cost.
	Average
)

// Kind is what an event does.
type Kind int

// Kinds of events.
const (
	Acquire Kind = iota + 1
	Dispose
	// Move is between two wallets of one owner.
	Move
)

// Event is a change of the quantity of a token in a wallet.
type Event struct {
	// ID names it, and the lot of an acquisition.
	ID   string
	Kind Kind
	Time time.Time
	// Seq orders events of one time; it is unique among them.
	Seq int64
	// Wallet it is in, and To which a Move is.
	Wallet, To string
	// Quantity in base units, above 0.
	Quantity *big.Int
	// Value of an acquisition is what it cost in all, that of a disposal what it brought, fees taken off, in units of
	// 10^-8 of the currency; nil when it isn't known. A move has none.
	Value *big.Int
	// Picks are from which lots a disposal or a move takes first, whatever the method.
	Picks []Pick
}

// Pick is a quantity of a lot.
type Pick struct {
	Lot      string
	Quantity *big.Int
}

// Compare orders events by time, then by Seq.
func (e Event) Compare(other Event) int {
	return cmp.Or(e.Time.Compare(other.Time), cmp.Compare(e.Seq, other.Seq))
}

// Lot is what is left of an acquisition in a wallet.
type Lot struct {
	// ID is that of the acquisition; empty for the pool of Average.
	ID       string
	Acquired time.Time
	Seq      int64
	Quantity *big.Int
	// Cost of Quantity; nil when it isn't known.
	Cost *big.Int
}

// take takes a quantity, at most all, with its part of the cost, rounded half to even; what is left has the rest.
func (l *Lot) take(quantity *big.Int) Lot {
	part := *l
	part.Quantity = new(big.Int).Set(quantity)
	if l.Cost != nil {
		part.Cost = Share(l.Cost, quantity, l.Quantity)
		l.Cost = new(big.Int).Sub(l.Cost, part.Cost)
	}
	l.Quantity = new(big.Int).Sub(l.Quantity, quantity)
	return part
}

// Share is total × part / whole, rounded half to even; whole is above 0.
func Share(total, part, whole *big.Int) *big.Int {
	product := new(big.Int).Mul(total, part)
	quotient, rest := product.DivMod(product, whole, new(big.Int))
	if c := rest.Lsh(rest, 1).Cmp(whole); c > 0 || c == 0 && quotient.Bit(0) == 1 {
		quotient.Add(quotient, big.NewInt(1))
	}
	return quotient
}

// Disposal is an event with the lots that it took from.
type Disposal struct {
	Event
	Parts []Part
	// Unmet says why the lots that the event picks could not be taken; the method chose then. Empty otherwise.
	Unmet string
}

// Part is a quantity of a disposal from one lot.
type Part struct {
	// Lot is what was taken; its ID is empty where there was no lot, and for the pool of Average.
	Lot Lot
	// Missing: there was no lot, so the cost isn't known.
	Missing bool
	// Proceeds are the part of the event's value, and Gain is without Lot.Cost; nil when they aren't known.
	Proceeds, Gain *big.Int
}

// divide gives the parts of a disposal their proceeds and gains. The last has what rounding leaves.
func (d *Disposal) divide() {
	if d.Value == nil {
		return
	}
	rest, quantity := new(big.Int).Set(d.Value), new(big.Int).Set(d.Quantity)
	for i := range d.Parts {
		p := &d.Parts[i]
		p.Proceeds = Share(rest, p.Lot.Quantity, quantity)
		rest.Sub(rest, p.Proceeds)
		quantity.Sub(quantity, p.Lot.Quantity)
		if p.Lot.Cost != nil {
			p.Gain = new(big.Int).Sub(p.Proceeds, p.Lot.Cost)
		}
	}
}
