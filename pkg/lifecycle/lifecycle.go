// Package lifecycle starts the parts of a process and stops them in an order
// that loses no call: not ready → wait until callers notice → drain servers
// and jobs side by side, within a limit → close what was opened, last opened
// first.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"
)

// Config of the stopping.
type Config struct {
	// Notice is how long a process that is no longer ready goes on answering,
	// for its callers to notice.
	Notice time.Duration `env:"NOTICE" envDefault:"0s"`
	// Drain is how long calls and jobs under way may take to end.
	Drain time.Duration `env:"DRAIN" envDefault:"20s"`
}

// Group is the parts of a process. Build it from one goroutine, then call Run
// once; or CloseAll when the building failed half-way.
type Group struct {
	cfg     Config
	log     *slog.Logger
	unready []func()
	serves  []part[func() error]
	drains  []part[func(context.Context)]
	closes  []part[func() error]
}

type part[F any] struct {
	name string
	run  F
}

// New returns an empty group.
func New(cfg Config, log *slog.Logger) *Group { return &Group{cfg: cfg, log: log} }

// OnNotReady adds what tells callers that this process is going away.
func (g *Group) OnNotReady(f func()) { g.unready = append(g.unready, f) }

// Serve adds a loop that Run starts; serve returns when its Drain has run. A
// return before that, or an error, ends Run.
func (g *Group) Serve(name string, serve func() error) {
	g.serves = append(g.serves, part[func() error]{name, serve})
}

// Loop adds a loop that runs until its context ends, which is when draining
// begins.
func (g *Group) Loop(name string, loop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	g.Serve(name, func() error { return loop(ctx) })
	g.Drain(name, func(context.Context) { cancel() })
	g.Close(name, func() error { cancel(); return nil })
}

// Drain adds what ends a loop: it waits for work under way, no longer than
// the context, and then gives up on it.
func (g *Group) Drain(name string, drain func(context.Context)) {
	g.drains = append(g.drains, part[func(context.Context)]{name, drain})
}

// Close adds what to close at the end, in reverse order of the adding.
func (g *Group) Close(name string, closing func() error) {
	g.closes = append(g.closes, part[func() error]{name, closing})
}

// Run starts every loop and blocks until ctx ends or a loop does, then stops
// everything in order. It returns the first loop's error, or what closing
// failed with.
func (g *Group) Run(ctx context.Context) error {
	ended := make(chan error, len(g.serves))
	for _, s := range g.serves {
		go func() {
			err := s.run()
			if err != nil {
				err = fmt.Errorf("%s: %w", s.name, err)
			}
			ended <- err
		}()
	}
	var failure error
	waiting := len(g.serves)
	select {
	case <-ctx.Done():
		g.notice()
	case failure = <-ended:
		waiting--
		g.log.Error("a part ended, stopping the rest", "error", failure)
	}
	g.drain() //nolint:contextcheck // ctx has ended; draining has its own limit
	for range waiting {
		failure = errors.Join(failure, <-ended)
	}
	return errors.Join(failure, g.CloseAll())
}

func (g *Group) notice() {
	for _, f := range g.unready {
		f()
	}
	if g.cfg.Notice > 0 {
		timer := time.NewTimer(g.cfg.Notice)
		defer timer.Stop()
		<-timer.C
	}
}

func (g *Group) drain() {
	ctx, cancel := context.WithTimeout(context.Background(), g.cfg.Drain)
	defer cancel()
	var all sync.WaitGroup
	for _, d := range g.drains {
		all.Go(func() { d.run(ctx) })
	}
	all.Wait()
}

// CloseAll closes what was added so far, last first. Each is closed once; a
// listener that its server has closed already is no failure.
func (g *Group) CloseAll() error {
	var failures []error
	for _, c := range slices.Backward(g.closes) {
		if err := c.run(); err != nil && !errors.Is(err, net.ErrClosed) {
			failures = append(failures, fmt.Errorf("close %s: %w", c.name, err))
		}
	}
	g.closes = nil
	return errors.Join(failures...)
}
