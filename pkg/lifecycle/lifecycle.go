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
	"maps"
	"net"
	"slices"
	"strings"
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

// Validate reports every mistake in c.
func (c Config) Validate() error {
	if c.Notice < 0 || c.Notice > 10*time.Minute || c.Drain <= 0 || c.Drain > 10*time.Minute {
		return errors.New("PURSER_SHUTDOWN_NOTICE must be 0 to 10m, and PURSER_SHUTDOWN_DRAIN above 0 and at most 10m")
	}
	return nil
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
// failed with. What doesn't end within the limit of draining and a second more
// is named in the error and left behind.
func (g *Group) Run(ctx context.Context) error {
	ended := make(chan end, len(g.serves))
	running := make(map[int]string, len(g.serves))
	for i, s := range g.serves {
		running[i] = s.name
		go func() { ended <- end{i, s.run()} }()
	}
	var failure error
	select {
	case <-ctx.Done():
		g.notReady()
		g.wait()
	case e := <-ended:
		failure = e.of(running)
		g.log.Error("a part ended, stopping the rest", "error", failure)
		g.notReady() // no notice: calls already fail
	}
	failure = errors.Join(failure, g.drain(ended, running)) //nolint:contextcheck // ctx has ended; draining has its own limit
	return errors.Join(failure, g.CloseAll())
}

// end is how a loop ended, by its place in the order of adding.
type end struct {
	loop int
	err  error
}

// of takes the loop off those that run and returns its error with its name.
func (e end) of(running map[int]string) error {
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

func (g *Group) wait() {
	if g.cfg.Notice > 0 {
		timer := time.NewTimer(g.cfg.Notice)
		defer timer.Stop()
		<-timer.C
	}
}

// drain ends the loops that run and waits for them, a second longer than the
// limit.
func (g *Group) drain(ended <-chan end, running map[int]string) error {
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
	late := time.NewTimer(g.cfg.Drain + time.Second)
	defer late.Stop()
	var failure error
	for drained != nil || len(running) > 0 {
		select {
		case <-drained:
			drained = nil
		case e := <-ended:
			failure = errors.Join(failure, e.of(running))
		case <-late.C:
			names := slices.Sorted(maps.Values(running))
			return errors.Join(failure, fmt.Errorf("lifecycle: draining did not end within %s; still running: %s",
				g.cfg.Drain, strings.Join(names, ", ")))
		}
	}
	return failure
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
