package console

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

// loadTimeout bounds the load of a panel.
const loadTimeout = 2 * time.Second

// panel is a part of the page that shows the data of one service, with the last data loaded.
type panel struct {
	service string
	load    func(ctx context.Context) (any, error)
	// maxAge is how long data is served before it is loaded again, however many pages are open.
	maxAge time.Duration

	mu       sync.Mutex
	loadedAt time.Time
	state    state
}

// state of a panel.
type state struct {
	// Panel is the service that the panel calls.
	Panel string
	// Service is the same, or the service behind it that is unavailable.
	Service string
	// Data was loaded at DataTime; nil if it never was.
	Data     any
	DataTime time.Time
	// UnavailableSince is zero while the service answers.
	UnavailableSince time.Time
	// NotOffered is true for a service, such as an older version, without this method.
	NotOffered bool
	// Error is the message of another error that the service answered with.
	Error string
}

// dependencyError is the answer of a service that works without another one, which is unavailable. data
// is what it serves instead, as of dataTime.
type dependencyError struct {
	service  string
	data     any
	dataTime time.Time
}

func (e *dependencyError) Error() string { return e.service + " is unavailable" }

// refresh loads the panel's data unless they are younger than maxAge.
func (p *panel) refresh(ctx context.Context) state {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.loadedAt) < p.maxAge {
		return p.state
	}
	// The result is shared by all pages, so it does not end with one request.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), loadTimeout)
	defer cancel()
	data, err := p.load(ctx)
	p.loadedAt = time.Now()
	p.state = p.state.next(p.service, data, err, p.loadedAt)
	return p.state
}

// put sets what a load would give.
func (p *panel) put(data any, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.loadedAt = time.Now()
	p.state = p.state.next(p.service, data, err, p.loadedAt)
}

// next returns the state after a load that gave data or err.
func (s state) next(service string, data any, err error, now time.Time) state {
	var dependency *dependencyError
	next := state{Panel: service, Service: service, Data: s.Data, DataTime: s.DataTime}
	switch {
	case err == nil:
		next.Data, next.DataTime = data, now
		return next
	case errors.As(err, &dependency):
		next.Service = dependency.service
		if next.Data == nil {
			next.Data, next.DataTime = dependency.data, dependency.dataTime
		}
	case errs.As(err) != nil && errs.As(err).Reason == "UNIMPLEMENTED":
		next.NotOffered = true
		return next
	case errs.As(err) != nil && errs.As(err).Reason == "RATE_UNAVAILABLE": // the service itself works
		next.Error = errorText(err)
		return next
	case !errs.Is(err, errs.KindUnavailable) && !errs.Is(err, errs.KindDeadline) &&
		!errors.Is(err, context.DeadlineExceeded):
		next.Error = errorText(err)
		return next
	}
	next.UnavailableSince = now
	if !s.UnavailableSince.IsZero() && s.Service == next.Service {
		next.UnavailableSince = s.UnavailableSince
	}
	return next
}

// errorText returns the message of an error that is meant for callers.
func errorText(err error) string {
	if e := errs.As(err); e != nil && e.Message != "" {
		return e.Message
	}
	return "internal error: see the suite's log"
}
