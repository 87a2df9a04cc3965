package console

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

const (
	// freshFor is how long an answer is shown before the service is asked again,
	// however many pages are open.
	freshFor = time.Second
	// patience with a service.
	patience = 2 * time.Second
)

// panel is one part of the page that one service is asked for, and what was
// last known of it.
type panel struct {
	// service is the one that is asked.
	service string
	load    func(ctx context.Context) (any, error)

	mu    sync.Mutex
	asked time.Time
	state state
}

// state of a panel.
type state struct {
	// Service is the one asked, or the one behind it that is away.
	Service string
	// Data is nil when nothing was ever known.
	Data  any
	Known time.Time
	// Away is since when the service hasn't answered; zero while it does.
	Away time.Time
	// NotOffered by the service, of an older version say.
	NotOffered bool
	// Trouble is why an answer had no data.
	Trouble string
}

// behindError is an answer without its part of another service, which is away.
// data is what there is instead, as of known.
type behindError struct {
	service string
	data    any
	known   time.Time
}

func (e *behindError) Error() string { return e.service + " is away" }

// look asks the service unless it was asked just now.
func (p *panel) look(ctx context.Context) state {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.asked) < freshFor {
		return p.state
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience) // the answer is for others too
	defer cancel()
	data, err := p.load(ctx)
	p.asked = time.Now()
	p.state = p.state.after(p.service, data, err, p.asked)
	return p.state
}

// after is the state once the service has answered.
func (s state) after(service string, data any, err error, now time.Time) state {
	var behind *behindError
	next := state{Service: service, Data: s.Data, Known: s.Known}
	switch {
	case err == nil:
		next.Data, next.Known = data, now
		return next
	case errors.As(err, &behind):
		next.Service = behind.service
		if next.Data == nil {
			next.Data, next.Known = behind.data, behind.known
		}
	case errs.As(err) != nil && errs.As(err).Reason == "UNIMPLEMENTED":
		next.NotOffered = true
		return next
	case !errs.Is(err, errs.KindUnavailable) && !errs.Is(err, errs.KindDeadline) &&
		!errors.Is(err, context.DeadlineExceeded):
		next.Trouble = told(err)
		return next
	}
	next.Away = now
	if !s.Away.IsZero() && s.Service == next.Service {
		next.Away = s.Away
	}
	return next
}

// told is what an error says to a caller.
func told(err error) string {
	if e := errs.As(err); e != nil && e.Message != "" {
		return e.Message
	}
	return "the answer was an error: see the suite's log"
}
