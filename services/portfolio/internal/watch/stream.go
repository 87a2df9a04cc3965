package watch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime/debug"
	"time"

	"github.com/google/uuid"

	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
)

const (
	// Heartbeat is the longest time between two messages of a stream whose reader takes them.
	Heartbeat = 5 * time.Second
	// changeDelay is the wait after a first change, so that several share one valuation; minValuationInterval is the
	// minimum time between two valuations.
	changeDelay, minValuationInterval = 50 * time.Millisecond, 500 * time.Millisecond
	// Without a change a valuation is repeated after revaluationInterval; a stale one after staleRevaluationInterval.
	revaluationInterval, staleRevaluationInterval = 90 * time.Second, 8 * time.Second
	// valueTimeout bounds the work on one state.
	valueTimeout = 30 * time.Second
	// revocationDelay is the maximum time until the token of an erased owner is refused. A stream of their default
	// portfolio ends with that refusal.
	revocationDelay = 4 * time.Second
	// maxValuing is how many states a replica works out at once, so that a price that everybody holds is no flood of
	// calls at the wallet service, and a thousand streams that begin no flood of transactions.
	maxValuing = 32
)

// Portfolios values portfolios; *portfolio.Service does.
type Portfolios interface {
	// Find returns errs.NotFound for a portfolio that doesn't exist or is another owner's.
	Find(ctx context.Context, owner, id uuid.UUID) (portfolio.Portfolio, error)
	// ValueAnew returns what a portfolio is worth now, without a cache, or the last snapshot, marked as stale.
	ValueAnew(ctx context.Context, p portfolio.Portfolio) (valuation.Valuation, error)
}

// Rates finds rates; *currency.Service does.
type Rates interface {
	Now(ctx context.Context, currency string) (currency.Rate, error)
	At(ctx context.Context, currency string, times ...time.Time) ([]currency.Rate, error)
}

// Service streams states. It is safe for concurrent use.
type Service struct {
	hub        *Hub
	portfolios Portfolios
	rates      Rates
	valuing    chan struct{}
}

// NewService returns the service.
func NewService(h *Hub, p Portfolios, r Rates) *Service {
	return &Service{hub: h, portfolios: p, rates: r, valuing: make(chan struct{}, maxValuing)}
}

// outcome of working out a state.
type outcome struct {
	portfolio portfolio.Portfolio
	dollars   valuation.Valuation
	rate      currency.Rate
	state     State
	err       error
}

// Watch sends the present state of a portfolio, nil if it is that of cursor, and then each other one, until ctx ends,
// which is its error, or send fails. After each [Heartbeat] without another it sends nil. send gets the cursor of the
// state that was sent by then; it may take its time: meanwhile nothing is kept for it. A cursor that no state has,
// "" among them, is that of none.
//
// Errors are those of Find, ValueAnew, and of Rates.
func (s *Service) Watch(ctx context.Context, p portfolio.Portfolio, code, cursor string,
	send func(state *State, cursor string) error) error {
	w := s.hub.add(ctx, p)
	defer w.remove(ctx)
	stream := &stream{Service: s, watcher: w, currency: code, sentCursor: cursor, send: send,
		done: make(chan outcome, 1), due: time.NewTimer(0), beat: time.NewTicker(Heartbeat)}
	defer stream.due.Stop()
	defer stream.beat.Stop()
	return stream.run(ctx)
}

type stream struct {
	*Service
	*watcher
	currency   string
	sentCursor string // the cursor of what the reader has
	began      bool   // a message was sent
	gone       bool   // the portfolio was not found
	send       func(*State, string) error

	busy  bool
	more  bool // woken while busy
	woken bool // due soon
	begun time.Time
	done  chan outcome
	due   *time.Timer
	beat  *time.Ticker
}

func (s *stream) run(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.wake:
			switch {
			case s.busy:
				s.more = true
			case !s.woken: // or it is due soon: further changes don't put it off
				s.woken = true
				s.due.Reset(s.soon())
			}
		case <-s.due.C:
			s.begin(ctx)
		case o := <-s.done:
			if err := s.tell(o); err != nil {
				return err
			}
		case <-s.beat.C:
			if s.began {
				if err := s.send(nil, s.sentCursor); err != nil {
					return err
				}
			}
		}
	}
}

// soon is the wait before the valuation after a change.
func (s *stream) soon() time.Duration {
	return max(changeDelay, minValuationInterval-time.Since(s.begun))
}

// begin works out the state, unless that is under way. What woke the stream until now is in it.
func (s *stream) begin(ctx context.Context) {
	if s.busy {
		return
	}
	s.busy, s.more, s.woken, s.begun = true, false, false, time.Now()
	select {
	case <-s.wake:
	default:
	}
	go func() {
		defer func() { // which the server does only for what runs in the stream's own goroutine
			if p := recover(); p != nil {
				s.done <- outcome{err: errs.Internal(fmt.Errorf("panic: %v\n%s", p, debug.Stack()))}
			}
		}()
		s.done <- s.value(ctx, s.of, s.currency)
	}()
}

// tell sends what was worked out, if the reader doesn't have it.
func (s *stream) tell(o outcome) error {
	s.busy = false
	if s.of.Default && !s.gone && errs.Is(o.err, errs.KindNotFound) {
		s.gone, s.woken = true, true
		s.due.Reset(revocationDelay)
		return nil
	}
	if o.err != nil {
		return o.err
	}
	s.saw(o.portfolio, o.dollars, o.rate)
	next := revaluationInterval
	if o.dollars.Stale {
		next = staleRevaluationInterval
	}
	next += rand.N(next / 4) // not all streams at once
	if s.more {
		s.woken, next = true, s.soon()
	}
	s.due.Reset(next)
	cursor := o.state.Cursor(o.portfolio)
	state := &o.state
	if cursor == s.sentCursor {
		if s.began {
			return nil
		}
		state = nil
	}
	s.began, s.sentCursor = true, cursor
	err := s.send(state, cursor)
	s.beat.Reset(Heartbeat)
	return err
}

// AcquireSlot waits for one of maxValuing slots and returns the function that releases it. Hold one also for the
// queries before [Service.Watch]: a thousand streams that begin at once would wait for connections until they fail,
// and all other calls with them. The error is that of ctx.
func (s *Service) AcquireSlot(ctx context.Context) (end func(), err error) {
	select {
	case s.valuing <- struct{}{}:
		return func() { <-s.valuing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// value computes a state, once a slot is free.
func (s *Service) value(ctx context.Context, p portfolio.Portfolio, code string) (o outcome) {
	end, err := s.AcquireSlot(ctx)
	if err != nil {
		return outcome{err: err}
	}
	defer end()
	limited, cancel := context.WithTimeout(ctx, valueTimeout)
	defer cancel()
	defer func() {
		if o.err != nil && limited.Err() != nil && ctx.Err() == nil {
			o.err = errs.Unavailable("WALLET_UNAVAILABLE", "the value took too long to work out").Because(o.err)
		}
	}()
	// By its id, also a default one: a portfolio that is gone must not come back by being watched.
	if o.portfolio, o.err = s.portfolios.Find(limited, p.Owner, p.ID); o.err != nil {
		return o
	}
	if o.dollars, o.err = s.portfolios.ValueAnew(limited, o.portfolio); o.err != nil {
		return o
	}
	if o.rate, o.err = s.rate(limited, code, o.dollars); o.err != nil {
		return o
	}
	o.state.Rate = o.rate
	if o.state.Valuation, o.err = o.rate.Valuation(o.dollars); o.err != nil {
		o.err = errs.Internal(o.err)
	}
	return o
}

// rate returns that of now, or for a snapshot that of its hour.
func (s *Service) rate(ctx context.Context, code string, v valuation.Valuation) (currency.Rate, error) {
	if !v.Stale {
		return s.rates.Now(ctx, code)
	}
	rates, err := s.rates.At(ctx, code, v.ValuationTime)
	if err != nil {
		return currency.Rate{}, err
	}
	return rates[0], nil
}
