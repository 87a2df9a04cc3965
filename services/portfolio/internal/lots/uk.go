package lots

import (
	"math/big"
	"slices"
	"time"
)

// Rule is by which rule of the United Kingdom a disposal is matched with acquisitions.
type Rule int

// Rules, in the order in which they are used (HMRC, Cryptoassets Manual CRYPTO22250 to 22256).
const (
	// SameDay: what was acquired on the day of the disposal.
	SameDay Rule = iota + 1
	// ThirtyDays: what was acquired in the 30 days after the day of the disposal, the earliest first.
	ThirtyDays
	// Pool: the section 104 pool of all else, at its average cost.
	Pool
	// NotFound: there is less in the pool. The cost isn't known.
	NotFound
)

// UKDay is what was disposed of on a day, which counts as one disposal.
type UKDay struct {
	// Date is the start of the day.
	Date time.Time
	// Events are the disposals of the day, by their IDs.
	Events   []string
	Quantity *big.Int
	// Proceeds, nil when that of an event isn't known.
	Proceeds *big.Int
	Parts    []UKPart
}

// UKPart is a part of a day's disposals.
type UKPart struct {
	Rule Rule
	// Acquired is the start of the day of the acquisitions; zero for Pool and NotFound.
	Acquired time.Time
	Quantity *big.Int
	// Cost, Proceeds and Gain are nil when they aren't known.
	Cost, Proceeds, Gain *big.Int
}

// bundle is a quantity with its value, which is nil when it isn't known.
type bundle struct{ quantity, value *big.Int }

func newBundle() bundle { return bundle{new(big.Int), new(big.Int)} }

// add adds a quantity with its value.
func (b *bundle) add(quantity, value *big.Int) {
	if value == nil || b.value == nil {
		b.value = nil
	} else {
		b.value = new(big.Int).Add(b.value, value)
	}
	b.quantity = new(big.Int).Add(b.quantity, quantity)
}

// take takes a quantity, at most all, with its part of the value. Once nothing is
// left, the value is known to be 0.
func (b *bundle) take(quantity *big.Int) *big.Int {
	var part *big.Int
	if b.value != nil {
		part = Share(b.value, quantity, b.quantity)
		b.value = new(big.Int).Sub(b.value, part)
	}
	if b.quantity = new(big.Int).Sub(b.quantity, quantity); b.quantity.Sign() == 0 {
		b.value = new(big.Int)
	}
	return part
}

type ukDay struct {
	date      time.Time
	in, out   bundle
	disposals []string
	parts     []UKPart
}

// match takes a quantity of the day's disposals by a rule.
func (d *ukDay) match(rule Rule, acquired time.Time, quantity, cost *big.Int) {
	p := UKPart{Rule: rule, Acquired: acquired, Quantity: quantity, Cost: cost, Proceeds: d.out.take(quantity)}
	if p.Cost != nil && p.Proceeds != nil {
		p.Gain = new(big.Int).Sub(p.Proceeds, p.Cost)
	}
	d.parts = append(d.parts, p)
}

// UK matches the disposals of all wallets together by the rules of the United Kingdom. zone says when days begin:
// Europe/London. It returns the days with disposals, in their order, and what is in the pool in the end. Moves are
// nothing to it, and neither are picks.
func UK(events []Event, zone *time.Location) (days []UKDay, pool Lot, err error) {
	all, err := ukDays(events, zone)
	if err != nil {
		return nil, Lot{}, err
	}
	for _, d := range all {
		if q := lesser(d.in.quantity, d.out.quantity); q.Sign() > 0 {
			d.match(SameDay, d.date, q, d.in.take(q))
		}
	}
	for i, d := range all {
		for _, later := range all[i+1:] {
			if d.out.quantity.Sign() == 0 || later.date.After(d.date.AddDate(0, 0, 30)) {
				break
			}
			if q := lesser(later.in.quantity, d.out.quantity); q.Sign() > 0 {
				d.match(ThirtyDays, later.date, q, later.in.take(q))
			}
		}
	}
	held := newBundle()
	for _, d := range all {
		if d.in.quantity.Sign() > 0 {
			held.add(d.in.quantity, d.in.value)
		}
		if q := lesser(held.quantity, d.out.quantity); q.Sign() > 0 {
			d.match(Pool, time.Time{}, q, held.take(q))
		}
		if q := d.out.quantity; q.Sign() > 0 {
			d.match(NotFound, time.Time{}, q, nil)
		}
	}
	for _, d := range all {
		if len(d.parts) > 0 {
			days = append(days, d.disposalDay())
		}
	}
	return days, Lot{Quantity: held.quantity, Cost: held.value}, nil
}

func lesser(a, b *big.Int) *big.Int {
	if a.Cmp(b) < 0 {
		return a
	}
	return b
}

// ukDays adds up the acquisitions and disposals of each day.
func ukDays(events []Event, zone *time.Location) (all []*ukDay, err error) {
	for _, e := range slices.SortedStableFunc(slices.Values(events), Event.Compare) {
		if err := e.check(); err != nil {
			return nil, err
		}
		local := e.Time.In(zone)
		date := time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, zone)
		if len(all) == 0 || !all[len(all)-1].date.Equal(date) {
			all = append(all, &ukDay{date: date, in: newBundle(), out: newBundle()})
		}
		d := all[len(all)-1]
		switch e.Kind {
		case Acquire:
			d.in.add(e.Quantity, e.Value)
		case Dispose:
			d.out.add(e.Quantity, e.Value)
			d.disposals = append(d.disposals, e.ID)
		case Move:
		}
	}
	return all, nil
}

func (d *ukDay) disposalDay() UKDay {
	out := UKDay{Date: d.date, Events: d.disposals, Parts: d.parts}
	sum := newBundle()
	for _, p := range d.parts {
		sum.add(p.Quantity, p.Proceeds)
	}
	out.Quantity, out.Proceeds = sum.quantity, sum.value
	return out
}
