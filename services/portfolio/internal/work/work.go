// Package work does what is due in a database, a bounded number at a time.
//
// It promises: while something is due and a slot is free, it is claimed; what takes long holds up only the slot
// that it is in, and what panics ends nothing but itself. The caller's claim function must lease each item, so that no
// other replica gets it while it runs and it is due again if it was not done.
package work

import (
	"context"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"
)

// Loop claims work and does it. Make it with New.
type Loop struct {
	name  string
	slots int
	poll  time.Duration
	claim func(ctx context.Context, n int) ([]func(context.Context), error)
	wake  chan struct{}
	log   *slog.Logger
}

// New returns a loop that does up to slots pieces of work at a time. It calls claim, which returns at most n pieces,
// when it is woken, when a slot became free, and after each poll. name is that of the work, in logs.
func New(name string, slots int, poll time.Duration, log *slog.Logger,
	claim func(ctx context.Context, n int) ([]func(context.Context), error)) *Loop {
	return &Loop{name: name, slots: slots, poll: poll, claim: claim, wake: make(chan struct{}, 1), log: log}
}

// Wake says that something may be due. It doesn't block.
func (l *Loop) Wake() {
	select {
	case l.wake <- struct{}{}:
	default: // one is pending
	}
}

// Run works until ctx ends, and waits for what it has begun.
func (l *Loop) Run(ctx context.Context) error {
	var begun sync.WaitGroup
	defer begun.Wait()
	tick := time.NewTicker(l.poll)
	defer tick.Stop()
	done := make(chan struct{}, l.slots)
	failing := false
	for free := l.slots; ; {
		if free > 0 {
			pieces, err := l.claim(ctx, free)
			if ctx.Err() != nil {
				return nil // the end of ctx is that of the work
			}
			if (err != nil) != failing {
				if failing = err != nil; failing {
					l.log.WarnContext(ctx, "work can't be claimed", "work", l.name, "error", err)
				} else {
					l.log.InfoContext(ctx, "work is claimed again", "work", l.name)
				}
			}
			for _, piece := range pieces {
				begun.Go(func() {
					defer func() { done <- struct{}{} }()
					defer l.recover(ctx)
					piece(ctx)
				})
			}
			if free -= len(pieces); len(pieces) > 0 && free > 0 {
				continue // what a claim returns may be less than is due
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-l.wake:
		case <-tick.C:
		case <-done:
			free++
		}
	}
}

// recover ends the panic of a piece of work, as that of a call: it must not end what everybody uses.
func (l *Loop) recover(ctx context.Context) {
	if p := recover(); p != nil {
		l.log.ErrorContext(ctx, "work panicked", "work", l.name, "panic", p, "stack", string(debug.Stack()))
	}
}
