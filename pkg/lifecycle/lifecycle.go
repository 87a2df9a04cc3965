// Package lifecycle starts the parts of a process and shuts them down in an order
// that loses no call.
//
// Promise: on shutdown the process becomes not ready, goes on serving for Notice so
// that its callers notice, drains all servers and jobs concurrently within Drain, and
// then closes resources in the reverse order of their adding.
//
// Limits: a part that doesn't end a second after Drain is named in the error and left
// running; resources are closed nevertheless.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config of the shutdown.
type Config struct {
	// Notice is how long a process goes on serving after it became not ready.
	Notice time.Duration `env:"NOTICE" envDefault:"0s"`
	// Drain is how long running calls and jobs may take to end.
	Drain time.Duration `env:"DRAIN" envDefault:"20s"`
}

// Validate returns an error for each field that is out of range.
func (c Config) Validate() error {
	if c.Notice < 0 || c.Notice > 10*time.Minute || c.Drain <= 0 || c.Drain > 10*time.Minute {
		return errors.New("PURSER_SHUTDOWN_NOTICE must be 0 to 10m, and PURSER_SHUTDOWN_DRAIN above 0 and at most 10m")
	}
	return nil
}

// Group is the parts of a process. Add them from one goroutine, then call Run once,
// or CloseAll when not all parts could be made.
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

// OnNotReady adds a function that makes the process not ready, as in health checks.
func (g *Group) OnNotReady(f func()) { g.unready = append(g.unready, f) }

// Serve adds a loop that Run starts. serve returns after the part's Drain was called;
// when it returns earlier, or with an error, the group shuts down.
func (g *Group) Serve(name string, serve func() error) {
	g.serves = append(g.serves, part[func() error]{name, serve})
}

// Loop adds a loop that runs until its context ends, which is when draining starts.
func (g *Group) Loop(name string, loop func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	g.Serve(name, func() error { return loop(ctx) })
	g.Drain(name, func(context.Context) { cancel() })
	g.Close(name, func() error { cancel(); return nil })
}

// Drain adds a function that ends a loop. It waits for running work until its context
// ends, and abandons it then.
func (g *Group) Drain(name string, drain func(context.Context)) {
	g.drains = append(g.drains, part[func(context.Context)]{name, drain})
}

// Close adds a function that closes a resource at the end. They are called in the
// reverse order of their adding.
func (g *Group) Close(name string, closing func() error) {
	g.closes = append(g.closes, part[func() error]{name, closing})
}

// Run starts every loop, waits until ctx or a loop ends, and shuts the group down. It
// returns the errors of loops and of closing, joined. Loops that don't end within
// Drain and a second more are named in the error.
func (g *Group) Run(ctx context.Context) error {
	ended := make(chan loopEnd, len(g.serves))
	running := make(map[int]string, len(g.serves))
	for i, s := range g.serves {
		running[i] = s.name
		go func() { ended <- loopEnd{i, s.run()} }()
	}
	var failure error
	select {
	case <-ctx.Done():
		g.log.Info("stopping", "notice", g.cfg.Notice, "drain", g.cfg.Drain)
		g.notReady()
		g.waitNotice()
	case e := <-ended:
		failure = e.remove(running)
		g.log.Error("a part ended, shutting down", "error", failure)
		g.notReady() // no notice: calls already fail
	}
	failure = errors.Join(failure, g.drain(ended, running))
	failure = errors.Join(failure, g.CloseAll())
	if failure == nil {
		g.log.Info("stopped")
	}
	return failure
}

// loopEnd is the end of a loop, by its index.
type loopEnd struct {
	loop int
	err  error
}

// remove removes the loop from the running ones and returns its error with its name.
func (e loopEnd) remove(running map[int]string) error {
	name := running[e.loop]
	delete(running, e.loop)
	if e.err != nil {
		return fmt.Errorf("%s: %w", name, e.err)
	}
	return nil
}

func (g *Group) notReady() {
	for _, f := range g.unready {
		f()
	}
}

func (g *Group) waitNotice() {
	if g.cfg.Notice > 0 {
		timer := time.NewTimer(g.cfg.Notice)
		defer timer.Stop()
		<-timer.C
	}
}

// drain drains the running loops and waits for them, a second longer than Drain.
func (g *Group) drain(ended <-chan loopEnd, running map[int]string) error {
	ctx, cancel := context.WithTimeout(context.Background(), g.cfg.Drain)
	defer cancel()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		var all sync.WaitGroup
		for _, d := range g.drains {
			all.Go(func() { d.run(ctx) })
		}
		all.Wait()
	}()
	timeout := time.NewTimer(g.cfg.Drain + time.Second)
	defer timeout.Stop()
	var failure error
	for drained != nil || len(running) > 0 {
		select {
		case <-drained:
			drained = nil
		case e := <-ended:
			failure = errors.Join(failure, e.remove(running))
		case <-timeout.C:
			names := slices.Sorted(maps.Values(running))
			return errors.Join(failure, fmt.Errorf("lifecycle: draining did not end within %s; still running: %s",
				g.cfg.Drain, strings.Join(names, ", ")))
		}
	}
	return failure
}

// CloseAll closes the resources that were added so far, last first, each once. It
// ignores net.ErrClosed, the error of a listener that its server has closed.
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
