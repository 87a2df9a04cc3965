package lots

import (
	"fmt"
	"slices"
)

// Ledger has the lots of one token of an owner, after events in their order. It is not safe for concurrent use.
type Ledger struct {
	method    Method
	perWallet bool
	books     map[string]*book // by wallet; under "" those of all
}

// NewLedger returns one without lots. With perWallet a wallet disposes of its own lots, and otherwise of all wallets'.
func NewLedger(m Method, perWallet bool) (*Ledger, error) {
	if m < FIFO || m > Average {
		return nil, fmt.Errorf("method %d: it must be one of FIFO, LIFO, HIFO and Average", m)
	}
	return &Ledger{method: m, perWallet: perWallet, books: map[string]*book{}}, nil
}

// Copy returns a ledger that goes on by itself.
func (l *Ledger) Copy() *Ledger {
	c := &Ledger{method: l.method, perWallet: l.perWallet, books: make(map[string]*book, len(l.books))}
	for wallet, b := range l.books {
		c.books[wallet] = b.copy()
	}
	return c
}

// Lots returns the open lots of a wallet, or of all together, in the order in which they would be taken.
func (l *Ledger) Lots(wallet string) []Lot {
	return l.book(wallet).lots.Items()
}

// AllLots returns the open lots of each wallet that has some; under "" those of all where they are together.
func (l *Ledger) AllLots() map[string][]Lot {
	out := map[string][]Lot{}
	for wallet, b := range l.books {
		if b.lots.Len() > 0 {
			out[wallet] = b.lots.Items()
		}
	}
	return out
}

func (l *Ledger) book(wallet string) *book {
	if !l.perWallet {
		wallet = ""
	}
	b := l.books[wallet]
	if b == nil {
		b = newBook(l.method)
		l.books[wallet] = b
	}
	return b
}

// Apply makes an event, which must not be before those that were made. It returns what was disposed of, or nil. After
// an error nothing has changed.
func (l *Ledger) Apply(e Event) (*Disposal, error) {
	if err := e.check(); err != nil {
		return nil, err
	}
	switch e.Kind {
	case Acquire:
		l.book(e.Wallet).add(Lot{ID: e.ID, Acquired: e.Time, Seq: e.Seq, Quantity: e.Quantity, Cost: e.Value})
		return nil, nil //nolint:nilnil // nothing was disposed of
	case Dispose:
		parts, err := l.take(e)
		if err != nil {
			return nil, err
		}
		d := &Disposal{Event: e, Parts: parts}
		d.divide()
		return d, nil
	case Move:
		if !l.perWallet {
			return nil, nil //nolint:nilnil // all wallets are one
		}
		parts, err := l.take(e)
		if err != nil {
			return nil, err
		}
		to := l.book(e.To)
		for _, p := range parts {
			if p.Missing { // it is there now, whatever it cost
				p.Lot.ID, p.Lot.Acquired, p.Lot.Seq = e.ID, e.Time, e.Seq
			}
			to.add(p.Lot)
		}
		return nil, nil //nolint:nilnil // nothing was disposed of
	}
	return nil, nil //nolint:nilnil // check knows no other kind
}

// take takes what an event does, by picks or the method.
func (l *Ledger) take(e Event) ([]Part, error) {
	b := l.book(e.Wallet)
	if len(e.Picks) == 0 {
		return b.take(e.Quantity, nil)
	}
	if l.method == Average {
		return nil, fmt.Errorf("event %q: with average cost no lot can be chosen", e.ID)
	}
	trial := b.copy()
	parts, err := trial.take(e.Quantity, e.Picks)
	if err != nil {
		return nil, fmt.Errorf("event %q: %w", e.ID, err)
	}
	*b = *trial
	return parts, nil
}

// Run makes events in their order, from none.
func Run(m Method, perWallet bool, events []Event) (*Ledger, []Disposal, error) {
	l, err := NewLedger(m, perWallet)
	if err != nil {
		return nil, nil, err
	}
	var all []Disposal
	for _, e := range slices.SortedStableFunc(slices.Values(events), Event.Compare) {
		d, err := l.Apply(e)
		if err != nil {
			return nil, nil, err
		}
		if d != nil {
			all = append(all, *d)
		}
	}
	return l, all, nil
}
