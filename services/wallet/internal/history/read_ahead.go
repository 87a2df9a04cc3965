package history

import (
	"context"
	"time"
)

// maxAhead is how many spans are read ahead at a time: while one of them is stored or priced, the chain is asked for
// the other.
const maxAhead = 2

// aheadRead is the reading of a span.
type aheadRead struct {
	span span
	stop context.CancelFunc
	done <-chan pricedSpan
}

// aheadReads reads the balances and prices of the next spans while the ones before are priced and listed.
type aheadReads struct {
	until   time.Time // the end of the last span
	hours   int       // of a span at most
	read    func(context.Context, span) pricedSpan
	running []aheadRead // in the order of their spans, without a gap
}

func newAheadReads(until time.Time, hours int, read func(context.Context, span) pricedSpan) *aheadReads {
	return &aheadReads{until: until, hours: hours, read: read}
}

// next returns the first span that is read ahead, when it was read; false without one.
func (a *aheadReads) next() (sp span, read pricedSpan, ok bool) {
	if len(a.running) == 0 {
		return sp, read, false
	}
	first := a.running[0]
	a.running = a.running[1:]
	defer first.stop()
	return first.span, <-first.done, true
}

// start starts to read the spans after current that the page has room for, when it has room for this many rows from
// current on and perHour is how many each hour has. It is one span while perHour is 0, which means unknown.
func (a *aheadReads) start(ctx context.Context, current span, room, perHour int) {
	count := maxAhead
	if perHour == 0 {
		count, perHour = 1, 1 // an hour has one row at least
	}
	last := current
	if n := len(a.running); n > 0 {
		last = a.running[n-1].span
	}
	for len(a.running) < count && last.until.Before(a.until) {
		fitting := room/perHour - int(last.until.Sub(current.from)/time.Hour)
		if fitting < minHours(a.hours) {
			return
		}
		last = spanFrom(last.until, a.until, min(fitting, a.hours))
		ctx, stop := context.WithCancel(ctx)
		done := make(chan pricedSpan, 1)
		go func(sp span) { done <- a.read(ctx, sp) }(last)
		a.running = append(a.running, aheadRead{span: last, stop: stop, done: done})
	}
}

// end ends the reading. What was read until then is stored.
func (a *aheadReads) end() {
	for _, r := range a.running {
		r.stop()
	}
	for _, r := range a.running {
		<-r.done
	}
	a.running = nil
}
