package lots

import (
	"fmt"
	"slices"
)

// markEvery is how many events are between two copies of the ledger, so at most that many events are recomputed ahead
// of a change.
const markEvery = 512

// History has the events of a token of an owner and what they dispose of. After a change, only later events are
// recomputed. The result is the same as if all had come in their order. It is not safe for concurrent use.
type History struct {
	start  *Ledger
	events []Event
	done   []*Disposal // of each event; nil where nothing is disposed of
	marks  []*Ledger   // before event 0, markEvery, 2×markEvery …
}

// NewHistory returns one without events. The error is as of NewLedger.
func NewHistory(m Method, perWallet bool) (*History, error) {
	start, err := NewLedger(m, perWallet)
	return &History{start: start}, err
}

// Put adds events, in any order; one of a known ID, time and Seq replaces it. It returns the index of the first whose
// outcome may have changed. An invalid event is an error; nothing changes then.
func (h *History) Put(events ...Event) (first int, err error) {
	first = len(h.events)
	for _, e := range events {
		if err := e.check(); err != nil {
			return first, err
		}
	}
	for _, e := range slices.SortedStableFunc(slices.Values(events), Event.Compare) {
		i, found := slices.BinarySearchFunc(h.events, e, Event.Compare)
		if found {
			h.events[i] = e
		} else {
			h.events = slices.Insert(h.events, i, e)
		}
		first = min(first, i)
	}
	_ = h.again(first, never) // nothing ends it
	return first, nil
}

// Remove takes an event out, which is found by its time and Seq. It returns as Put does.
func (h *History) Remove(e Event) (first int, found bool) {
	i, found := slices.BinarySearchFunc(h.events, e, Event.Compare)
	if found {
		h.events = slices.Delete(h.events, i, i+1)
		_ = h.again(i, never) // nothing ends it
	}
	return i, found
}

// Disposals returns those of the events from an index on, in their order.
func (h *History) Disposals(first int) []Disposal {
	var out []Disposal
	for _, d := range h.done[first:] {
		if d != nil {
			out = append(out, *d)
		}
	}
	return out
}

// Lots returns the open lots as of Ledger.Lots.
func (h *History) Lots(wallet string) []Lot { return h.ledger().Lots(wallet) }

// ledger is after all events.
func (h *History) ledger() *Ledger {
	n := len(h.marks)
	if n == 0 {
		return h.start.Copy()
	}
	l := h.marks[n-1].Copy()
	for _, e := range h.events[(n-1)*markEvery:] {
		_ = l.force(e)
	}
	return l
}

// never ends nothing.
func never() error { return nil }

// again makes the events from an index on again, until stop returns an error, which it returns.
func (h *History) again(first int, stop func() error) error {
	mark := min(first/markEvery, max(0, len(h.marks)-1))
	l := h.start.Copy()
	if len(h.marks) > 0 {
		l = h.marks[mark].Copy()
	}
	h.marks = h.marks[:min(mark, len(h.marks))]
	begin := mark * markEvery
	h.done = append(h.done[:min(begin, len(h.done))], make([]*Disposal, len(h.events)-begin)...)
	for i, e := range h.events[begin:] {
		if err := stop(); err != nil {
			return err
		}
		if i%markEvery == 0 {
			h.marks = append(h.marks, l.Copy())
		}
		h.done[begin+i] = l.force(e)
	}
	return nil
}

// force makes an event that was checked. If its picks can't be taken, it takes by the method, and the disposal says
// so.
func (l *Ledger) force(e Event) *Disposal {
	d, err := l.Apply(e)
	if err == nil {
		return d
	}
	picked := e
	picked.Picks = nil
	d, _ = l.Apply(picked) // nothing else is wrong with it
	if d != nil {
		d.Event, d.Unmet = e, err.Error()
	}
	return d
}

// check returns why an event can't be.
func (e Event) check() error {
	switch {
	case e.Quantity == nil || e.Quantity.Sign() <= 0:
		return fmt.Errorf("event %q: the quantity must be above 0", e.ID)
	case e.Kind < Acquire || e.Kind > Move:
		return fmt.Errorf("event %q: its kind is not known", e.ID)
	case e.Kind == Acquire && e.Value != nil && e.Value.Sign() < 0:
		return fmt.Errorf("event %q: the cost must not be below 0", e.ID)
	}
	return nil
}

// Replace has these events, which are in their order, in place of those that it has. It makes those anew that follow
// the first that differs, as differs says of an event by its index, and returns its index. The error is that of Put,
// or that of stop, which is asked before each event: h is of no use then.
func (h *History) Replace(events []Event, differs func(i int) bool, stop func() error) (first int, err error) {
	for first < min(len(events), len(h.events)) && !differs(first) {
		first++
	}
	for _, e := range events[first:] {
		if err := e.check(); err != nil {
			return first, err
		}
	}
	if first == len(events) && first == len(h.events) {
		return first, nil
	}
	h.events = append(slices.Clip(h.events[:first]), events[first:]...)
	return first, h.again(first, stop)
}

// AllLots returns the open lots of each wallet that has some; under "" those of all where they are together.
func (h *History) AllLots() map[string][]Lot { return h.ledger().AllLots() }
