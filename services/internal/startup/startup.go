// Package startup holds a service back until what it can't work without has worked
// once: the login of the database, the version of its schema, keys that open, settings
// that agree with those of others. A rollout with a wrong setting then stops at the first
// replica, while those that can work go on.
//
// Promise: a gate opens once, when each of its checks has passed once, and stays open: an
// outage later doesn't take the replicas of a service away all at once. Each thing that is
// missing is logged once, by name. A check that fails is repeated until it passes, also
// one that only a person can mend.
//
// Limits: checks are asked one after the other, except the first time those of Begin.
package startup

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/purserhq/purser/pkg/deadline"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/services/internal/dependency"
)

const (
	// checkTimeout bounds one question.
	checkTimeout = 5 * time.Second
	// The time between two attempts doubles from the first to the last.
	firstPause, lastPause = 100 * time.Millisecond, time.Second
)

// Check is one thing that a service can't work without.
type Check struct {
	// Name of what is needed, such as "database", for the log and the metric.
	Name string
	// Settings are the variables to look at when it is missing.
	Settings string
	// After names checks that have to pass before; this one is not asked until then.
	After []string
	// Probe returns nil when the thing works. It may be called again after an error.
	Probe func(ctx context.Context) error
	// Secrets are texts and URLs that must not be logged, see package redact.
	Secrets []string

	first <-chan error // the answer to the question of Begin; nil for a check of Add, and once Try used it
}

// Gate is closed until all checks have passed. Add the checks from one goroutine, then
// call Try and Run from one; the other methods are safe for concurrent use.
type Gate struct {
	log    *slog.Logger
	begun  time.Time
	checks []Check
	opened chan struct{}

	mu sync.RWMutex
	// passed has the names of checks that have passed, and failing those that failed when
	// they were asked last.
	passed, failing map[string]bool
	// logged has each check and reason that was logged.
	logged map[[2]string]bool
}

// New returns a closed gate.
func New(log *slog.Logger) *Gate {
	return &Gate{log: log, begun: time.Now(), opened: make(chan struct{}), passed: map[string]bool{},
		failing: map[string]bool{}, logged: map[[2]string]bool{}}
}

// Add adds a check.
func (g *Gate) Add(c Check) { g.checks = append(g.checks, c) }

// Begin adds a check and asks it at once, in the background: the first Try uses that answer. It is for what takes time
// while the service is being built.
func (g *Gate) Begin(ctx context.Context, c Check) {
	answer := make(chan error, 1)
	go func() { answer <- c.ask(ctx) }()
	c.first = answer
	g.Add(c)
}

func (c *Check) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	return c.Probe(ctx)
}

// Err returns errs.Unavailable (STARTING) until the gate opens, and nil from then on.
func (g *Gate) Err() error {
	select {
	case <-g.opened:
		return nil
	default:
		return errs.Unavailable("STARTING", "the service is starting and takes no calls yet")
	}
}

// Fails reports whether a check of this name failed when it was asked last.
func (g *Gate) Fails(name string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.failing[name]
}

// Wait returns true when the gate is open, and false when ctx ends before.
func (g *Gate) Wait(ctx context.Context) bool {
	select {
	case <-g.opened:
		return true
	case <-ctx.Done():
		return false
	}
}

// Handler answers with 503 until the gate opens, and passes requests to h from then on.
func (g *Gate) Handler(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := g.Err(); err != nil {
			w.Header().Set("Retry-After", "1")
			http.Error(w, errs.As(err).Message, http.StatusServiceUnavailable)
			return
		}
		h.ServeHTTP(w, r)
	})
}

// Try asks what has not passed yet, and opens the gate when everything has. It reports
// whether the gate is open.
func (g *Gate) Try(ctx context.Context) bool {
	if g.Err() == nil {
		return true
	}
	all := true
	for i := range g.checks {
		all = g.try(ctx, &g.checks[i]) && all
	}
	if all {
		close(g.opened)
		g.log.InfoContext(ctx, "ready", "after", time.Since(g.begun).Round(time.Millisecond))
	}
	return all
}

// try asks one check, unless it has passed or has to wait for another.
func (g *Gate) try(ctx context.Context, c *Check) bool {
	if g.hasPassed(c.Name) {
		return true
	}
	for _, before := range c.After {
		if !g.hasPassed(before) {
			return false
		}
	}
	var err error
	if c.first == nil {
		err = c.ask(ctx)
	} else {
		select {
		case err = <-c.first:
			c.first = nil
		case <-ctx.Done():
			return false
		}
	}
	if ctx.Err() != nil && err != nil {
		return false // the process ends, or has no more time, which says nothing of the check
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.passed[c.Name], g.failing[c.Name] = err == nil, err != nil
	if err == nil {
		return true
	}
	reason, text := dependency.Describe(err, c.Secrets)
	if known := [2]string{c.Name, reason}; !g.logged[known] {
		g.logged[known] = true
		g.log.WarnContext(ctx, "not ready: something that the service needs is missing", "missing", c.Name,
			"reason", reason, "error", text, "settings", c.Settings)
	}
	return false
}

func (g *Gate) hasPassed(name string) bool {
	g.mu.RLock()
	defer g.mu.RUnlock()
	return g.passed[name]
}

// Run tries until the gate is open, then calls ready, and returns when ctx ends.
func (g *Gate) Run(ctx context.Context, ready func()) error {
	end, err := g.observe()
	if err != nil {
		return err
	}
	defer end()
	for pause := firstPause; !g.Try(ctx); pause = min(2*pause, lastPause) {
		if deadline.Pause(ctx, pause) != nil {
			return nil
		}
	}
	ready()
	<-ctx.Done()
	return nil
}

// observe exports what is waited for until end is called.
func (g *Gate) observe() (end func(), err error) {
	meter := otel.Meter("purser/startup")
	waits, err := meter.Int64ObservableGauge("startup_waiting",
		metric.WithDescription("1 while the process isn't ready because of this check, 0 when it has passed."))
	if err != nil {
		return nil, fmt.Errorf("startup: %w", err)
	}
	callback, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for _, c := range g.checks {
			value := int64(1)
			if g.hasPassed(c.Name) {
				value = 0
			}
			o.ObserveInt64(waits, value, metric.WithAttributes(attribute.String("check", c.Name)))
		}
		return nil
	}, waits)
	if err != nil {
		return nil, fmt.Errorf("startup: %w", err)
	}
	return func() { _ = callback.Unregister() }, nil
}
