package lots

import (
	"math/big"
	"slices"
	"time"
)

// washDays is how many days before and after a loss a replacement may be acquired (26 U.S.C. § 1091).
const washDays = 30

// USOptions are the choices that the rules of the United States leave.
type USOptions struct {
	// Method is FIFO, LIFO or HIFO; the last two are specific identifications.
	Method Method
	// PerWalletFrom is the time from which lots are kept per wallet (start of 2025); before it, all wallets are one.
	// Zero: always.
	PerWalletFrom time.Time
	// Zone says when days begin.
	Zone *time.Location
	// WashSales has losses denied that a replacement follows or precedes by up to 30 days, and adds them to its cost.
	// They are marked in either case.
	WashSales bool
	// Stop is asked before each event, and ends the run by an error; nil for never.
	Stop func() error
}

// USDisposal is a disposal with what the rules of the United States say of its parts.
type USDisposal struct {
	Disposal
	// Of each part: whether it was held for more than a year, and how much of its loss a replacement matches.
	LongTerm []bool
	Washed   []Wash
}

// Wash is the part of a loss for which there is a replacement; Loss is nil where there is none.
type Wash struct {
	Loss         *big.Int // above 0
	Replacements []string // events
}

// LongTerm reports whether what was acquired and disposed of on these days was held for more than a year: the day of
// the disposal counts, that of the acquisition doesn't (Rev. Rul. 66-7).
func LongTerm(acquired, disposed time.Time, zone *time.Location) bool {
	a := acquired.In(zone)
	from := time.Date(a.Year(), a.Month(), a.Day()+1, 0, 0, 0, 0, zone)
	return !disposed.In(zone).Before(from.AddDate(1, 0, 0))
}

// US makes events under the rules of the United States and returns the disposals in their order, and the ledger after
// them. At the turn to lots by wallet the open lots, the oldest first, fill the balances of the wallets in the order
// of their names (the global allocation of Rev. Proc. 2024-28); what a balance has beyond them has no known cost.
//
// Not here: the holding period of what was sold is not added to that of its replacement, and options and contracts to
// acquire are no replacements.
func US(events []Event, o USOptions) ([]USDisposal, *Ledger, error) {
	l, err := NewLedger(o.Method, o.PerWalletFrom.IsZero())
	if err != nil {
		return nil, nil, err
	}
	u := us{USOptions: o, ledger: l, held: map[string]*big.Int{},
		events: slices.SortedStableFunc(slices.Values(events), Event.Compare)}
	for i := range u.events {
		if err := u.events[i].check(); err != nil {
			return nil, nil, err
		}
		if u.events[i].Kind == Acquire {
			u.bought = append(u.bought, replacement{event: i, left: u.events[i].Quantity})
		}
	}
	stop := o.Stop
	if stop == nil {
		stop = never
	}
	var out []USDisposal
	for i, e := range u.events {
		if err := stop(); err != nil {
			return nil, nil, err
		}
		if !u.ledger.perWallet && !e.Time.Before(o.PerWalletFrom) {
			u.allocate()
		}
		u.balance(e)
		if d := u.ledger.force(u.events[i]); d != nil {
			out = append(out, u.disposalOf(*d))
		}
	}
	if !u.ledger.perWallet && !o.PerWalletFrom.IsZero() {
		u.allocate()
	}
	return out, u.ledger, nil
}

// us is a run of US.
type us struct {
	USOptions
	events []Event // in their order; costs may be raised before their turn comes
	ledger *Ledger
	held   map[string]*big.Int // by wallet
	bought []replacement
	first  int // of bought that may still replace something
}

// replacement is an acquisition with the quantity that has replaced nothing.
type replacement struct {
	event int
	left  *big.Int
}

// balance follows what wallets have.
func (u *us) balance(e Event) {
	change := func(wallet string, by *big.Int) {
		if u.held[wallet] == nil {
			u.held[wallet] = new(big.Int)
		}
		u.held[wallet].Add(u.held[wallet], by)
	}
	switch e.Kind {
	case Acquire:
		change(e.Wallet, e.Quantity)
	case Move:
		change(e.Wallet, new(big.Int).Neg(e.Quantity))
		change(e.To, e.Quantity)
	case Dispose:
		change(e.Wallet, new(big.Int).Neg(e.Quantity))
	}
}

// allocate gives wallets lots of their own.
func (u *us) allocate() {
	all := newBook(FIFO)
	for _, lot := range u.ledger.Lots("") {
		all.add(lot)
	}
	own := &Ledger{method: u.Method, perWallet: true, books: map[string]*book{}}
	wallets := make([]string, 0, len(u.held))
	for wallet := range u.held {
		wallets = append(wallets, wallet)
	}
	slices.Sort(wallets)
	for _, wallet := range wallets {
		if u.held[wallet].Sign() <= 0 {
			continue
		}
		parts, _ := all.take(u.held[wallet], nil) // without picks there is no error
		for _, p := range parts {
			if p.Missing {
				p.Lot.ID, p.Lot.Acquired = "at the turn/"+wallet, u.PerWalletFrom
			}
			own.book(wallet).add(p.Lot)
		}
	}
	u.ledger = own
}

// disposalOf adds to a disposal how long its parts were held, and which of their losses are matched by replacements.
func (u *us) disposalOf(d Disposal) USDisposal {
	out := USDisposal{Disposal: d, LongTerm: make([]bool, len(d.Parts)), Washed: make([]Wash, len(d.Parts))}
	for i, p := range d.Parts {
		out.LongTerm[i] = !p.Missing && LongTerm(p.Lot.Acquired, d.Time, u.Zone)
		if p.Gain != nil && p.Gain.Sign() < 0 {
			out.Washed[i] = u.wash(d, p)
		}
	}
	return out
}

// day is the start of the day of a time.
func (u *us) day(t time.Time) time.Time {
	t = t.In(u.Zone)
	return time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, u.Zone)
}

// wash finds replacements of a part that was sold at a loss: acquisitions of the 30 days before it that are still
// held, and of the 30 days after it. Each replaces its quantity once.
func (u *us) wash(d Disposal, p Part) (w Wash) {
	begin, end := u.day(d.Time).AddDate(0, 0, -washDays), u.day(d.Time).AddDate(0, 0, washDays+1)
	for u.first < len(u.bought) && u.events[u.bought[u.first].event].Time.Before(begin) {
		u.first++
	}
	open := new(big.Int).Set(p.Lot.Quantity)
	rest := new(big.Int).Neg(p.Gain)
	for i := u.first; i < len(u.bought) && open.Sign() > 0; i++ {
		b := &u.bought[i]
		e := &u.events[b.event]
		if !e.Time.Before(end) {
			break
		}
		if e.ID == p.Lot.ID || b.left.Sign() == 0 {
			continue
		}
		can := b.left
		if e.Compare(d.Event) < 0 {
			can = lesser(can, u.ledger.left(e.ID))
		}
		q := lesser(can, open)
		if q.Sign() == 0 {
			continue
		}
		denied := Share(rest, q, open)
		rest.Sub(rest, denied)
		b.left, open = new(big.Int).Sub(b.left, q), new(big.Int).Sub(open, q)
		if w.Loss == nil {
			w.Loss = new(big.Int)
		}
		w.Loss.Add(w.Loss, denied)
		w.Replacements = append(w.Replacements, e.ID)
		switch {
		case !u.WashSales:
		case e.Compare(d.Event) < 0:
			u.ledger.raise(e.ID, denied)
		case e.Value != nil:
			e.Value = new(big.Int).Add(e.Value, denied)
		}
	}
	return w
}

// left is how much of an acquisition all wallets still have.
func (l *Ledger) left(id string) *big.Int {
	sum := new(big.Int)
	for _, b := range l.books {
		if lot, found := b.byID.Get(Lot{ID: id}); found {
			sum.Add(sum, lot.Quantity)
		}
	}
	return sum
}

// raise adds to the cost of what is left of an acquisition, divided by what wallets have of it.
func (l *Ledger) raise(id string, by *big.Int) {
	rest, quantity := new(big.Int).Set(by), l.left(id)
	wallets := make([]string, 0, len(l.books))
	for wallet := range l.books {
		wallets = append(wallets, wallet)
	}
	slices.Sort(wallets)
	for _, wallet := range wallets {
		b := l.books[wallet]
		lot, found := b.byID.Get(Lot{ID: id})
		if !found {
			continue
		}
		part := Share(rest, lot.Quantity, quantity)
		rest.Sub(rest, part)
		quantity.Sub(quantity, lot.Quantity)
		b.remove(lot)
		if lot.Cost != nil {
			lot.Cost = new(big.Int).Add(lot.Cost, part)
		}
		b.set(lot)
	}
}
