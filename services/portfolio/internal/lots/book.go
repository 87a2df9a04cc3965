package lots

import (
	"cmp"
	"fmt"
	"math/big"

	"github.com/tidwall/btree"
)

// book has the lots of a wallet, or of all together, in the order in which they are taken. A copy shares what neither
// of the two changes.
type book struct {
	method Method
	lots   *btree.BTreeG[Lot]
	byID   *btree.BTreeG[Lot]
}

func newBook(m Method) *book {
	less := map[Method]func(a, b Lot) int{FIFO: older, LIFO: newer, HIFO: dearer, Average: pooled}[m]
	without := btree.Options{NoLocks: true}
	return &book{method: m,
		lots: btree.NewBTreeGOptions(func(a, b Lot) bool { return less(a, b) < 0 }, without),
		byID: btree.NewBTreeGOptions(func(a, b Lot) bool { return a.ID < b.ID }, without)}
}

// older orders lots by time, then Seq, then ID, so two lots never compare as equal.
func older(a, b Lot) int {
	return cmp.Or(a.Acquired.Compare(b.Acquired), cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.ID, b.ID))
}

func newer(a, b Lot) int { return older(b, a) }

// dearer compares costs by unit without dividing.
func dearer(a, b Lot) int {
	switch {
	case a.Cost == nil && b.Cost == nil:
		return older(a, b)
	case a.Cost == nil:
		return 1
	case b.Cost == nil:
		return -1
	}
	left, right := new(big.Int).Mul(a.Cost, b.Quantity), new(big.Int).Mul(b.Cost, a.Quantity)
	return cmp.Or(right.Cmp(left), older(a, b))
}

// pooled compares every two lots as equal, so that they merge into one (average cost).
func pooled(Lot, Lot) int { return 0 }

func (b *book) copy() *book { return &book{b.method, b.lots.Copy(), b.byID.Copy()} }

func (b *book) set(l Lot) {
	b.lots.Set(l)
	b.byID.Set(l)
}

func (b *book) remove(l Lot) {
	b.lots.Delete(l)
	b.byID.Delete(l)
}

// add adds a lot. What is left of the same acquisition is one lot again, and with Average all is.
func (b *book) add(l Lot) {
	if b.method == Average {
		l.ID, l.Seq = "", 0
	}
	same, found := b.byID.Get(l)
	if !found {
		b.set(l)
		return
	}
	b.remove(same)
	if same.Cost == nil || l.Cost == nil {
		same.Cost = nil
	} else {
		same.Cost = new(big.Int).Add(same.Cost, l.Cost)
	}
	same.Quantity = new(big.Int).Add(same.Quantity, l.Quantity)
	b.set(same)
}

// take takes a quantity: the picks first, then by the method. What is not there is a part that is missing.
func (b *book) take(quantity *big.Int, picks []Pick) ([]Part, error) {
	var parts []Part
	rest := new(big.Int).Set(quantity)
	from := func(l Lot, limit *big.Int) {
		b.remove(l)
		n := l.Quantity
		if n.Cmp(limit) > 0 {
			n = limit
		}
		parts = append(parts, Part{Lot: l.take(n)})
		rest.Sub(rest, parts[len(parts)-1].Lot.Quantity)
		if l.Quantity.Sign() > 0 {
			b.set(l)
		}
	}
	for _, p := range picks {
		l, found := b.byID.Get(Lot{ID: p.Lot})
		switch {
		case p.Quantity == nil || p.Quantity.Sign() <= 0:
			return nil, fmt.Errorf("the quantity of lot %q must be above 0", p.Lot)
		case p.Quantity.Cmp(rest) > 0:
			return nil, fmt.Errorf("more is taken from lots than the %s that are disposed of", quantity)
		case !found:
			return nil, fmt.Errorf("lot %q is not in the wallet at that time", p.Lot)
		case l.Quantity.Cmp(p.Quantity) < 0:
			return nil, fmt.Errorf("lot %q has %s at that time, not %s", p.Lot, l.Quantity, p.Quantity)
		}
		from(l, p.Quantity)
	}
	for rest.Sign() > 0 {
		l, found := b.lots.Min()
		if !found {
			parts = append(parts, Part{Lot: Lot{Quantity: rest}, Missing: true})
			break
		}
		from(l, new(big.Int).Set(rest))
	}
	return parts, nil
}
