// Package dependency watches what a service calls outside of its process: it asks
// each in the background whether it answers, and keeps what it found for whoever
// wants to know.
//
// Promise: a dependency is asked once per interval and process, never for a
// reader, and never twice at a time; a check that doesn't end in time counts as
// TIMEOUT and does not delay those of others; what is kept of an error has no
// secret of the dependency's URL.
//
// Limits: an outage between two checks is not seen. A dependency that fails some
// calls and answers the check counts as reachable.
package dependency

import (
	"cmp"
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/deadline"
)

const (
	// Interval between two checks of what is near and costs nothing.
	Interval = 3 * time.Second
	// FarInterval is the interval for what may cost money or belongs to others.
	FarInterval = 30 * time.Second
	// defaultTimeout bounds a check.
	defaultTimeout = 2 * time.Second
	// window is how long latencies are kept.
	window = time.Minute
)

// Check is a dependency and how to ask it.
type Check struct {
	// Name for programs, such as "postgres" or "chain:1".
	Name string
	// Address to show, without secrets: host:port, or scheme and host.
	Address string
	// Effect says in one sentence what the service can't do without it.
	Effect string
	// Interval between two checks; the package's Interval when 0.
	Interval time.Duration
	// Timeout of a check; 2 s when 0. Probe is called with a context that ends then.
	Timeout time.Duration
	// Probe returns nil when the dependency answers as it should. It may be called
	// while an earlier call is still running only if that has ignored its context.
	Probe func(ctx context.Context) error
	// Secrets are texts and URLs that must not be shown, see package redact.
	Secrets []string
}

// State of a dependency.
type State int

// The states.
const (
	Unknown State = iota // the first check has not ended
	Reachable
	Unreachable
)

// Report is what is known of a dependency.
type Report struct {
	Check
	State State
	// Since is when the state was found first; when watching started, for Unknown.
	Since time.Time
	// CheckedAt is when the last check ended; zero before.
	CheckedAt time.Time
	// Last, Median and Max are the latencies of the last check and of those of
	// the last minute; 0 before the first.
	Last, Median, Max time.Duration
	// Reason and Error are of the last check, if it failed.
	Reason, Error string
}

// Watcher watches dependencies. It is safe for concurrent use, except that Add must
// not be called after Watch.
type Watcher struct {
	log *slog.Logger
	now func() time.Time
	// alreadyLogged is NewWatcher's.
	alreadyLogged func(name string) bool

	mu      sync.RWMutex
	watched []*watched
}

type watched struct {
	report  Report
	samples []sample
}

type sample struct {
	at   time.Time
	took time.Duration
}

// NewWatcher returns a watcher of nothing. alreadyLogged reports whether somebody else has logged
// that the dependency of a name can't be used; nil means nobody has.
func NewWatcher(log *slog.Logger, alreadyLogged func(name string) bool) *Watcher {
	if alreadyLogged == nil {
		alreadyLogged = func(string) bool { return false }
	}
	return &Watcher{log: log, now: time.Now, alreadyLogged: alreadyLogged}
}

// Add adds a dependency.
func (w *Watcher) Add(c Check) {
	c.Interval, c.Timeout = cmp.Or(c.Interval, Interval), cmp.Or(c.Timeout, defaultTimeout)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.watched = append(w.watched, &watched{report: Report{Check: c, Since: w.now()}})
}

// Watch checks all dependencies until ctx ends.
func (w *Watcher) Watch(ctx context.Context) error {
	end, err := w.observe()
	if err != nil {
		return err
	}
	defer end()
	var all sync.WaitGroup
	for _, d := range w.watched {
		all.Go(func() { w.follow(ctx, d) })
	}
	all.Wait()
	return nil
}

// follow checks one dependency at its interval, varied by a tenth so that the
// replicas of a service don't ask at the same moment.
func (w *Watcher) follow(ctx context.Context, d *watched) {
	for {
		w.check(ctx, d)
		interval := d.report.Interval
		if deadline.Pause(ctx, interval-interval/10+rand.N(interval/5)) != nil {
			return
		}
	}
}

// check asks a dependency and records the result. It returns at the latest a moment
// after the timeout; a Probe that ignores its context is waited for before the next.
func (w *Watcher) check(ctx context.Context, d *watched) {
	c := d.report.Check
	begun := w.now()
	limited, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	answered := make(chan error, 1)
	go func() { answered <- c.Probe(limited) }()
	select {
	case err := <-answered:
		w.record(ctx, d, begun, err)
	case <-limited.Done():
		select { // it usually returns at once
		case err := <-answered:
			w.record(ctx, d, begun, err)
		case <-time.After(c.Timeout / 4):
			w.record(ctx, d, begun, limited.Err())
			<-answered //nolint:errcheck // only its end matters: what it says is recorded as the timeout
		}
	}
}

// record keeps the result of a check, and logs a change.
func (w *Watcher) record(ctx context.Context, d *watched, begun time.Time, err error) {
	if ctx.Err() != nil {
		return // the process ends, which says nothing of the dependency
	}
	now := w.now()
	took := now.Sub(begun)
	w.observeCheck(ctx, d.report.Check, took)
	w.mu.Lock()
	defer w.mu.Unlock()
	r := &d.report
	d.samples = append(slices.DeleteFunc(d.samples, func(s sample) bool { return now.Sub(s.at) > window }),
		sample{now, took})
	r.CheckedAt, r.Last = now, took
	latencies := make([]time.Duration, 0, len(d.samples))
	for _, s := range d.samples {
		latencies = append(latencies, s.took)
	}
	slices.Sort(latencies)
	r.Median, r.Max = latencies[(len(latencies)-1)/2], latencies[len(latencies)-1]
	was := r.State
	r.State, r.Reason, r.Error = Reachable, "", ""
	if err != nil {
		r.State = Unreachable
		r.Reason, r.Error = Describe(err, r.Secrets)
	}
	if r.State == was {
		return
	}
	since := now.Sub(r.Since).Round(time.Millisecond)
	r.Since = now
	switch {
	case r.State == Unreachable && w.alreadyLogged(r.Name):
	case r.State == Unreachable:
		w.log.WarnContext(ctx, "dependency is unreachable", "dependency", r.Name, "address", r.Address,
			"reason", r.Reason, "error", r.Error)
	case was == Unreachable:
		w.log.InfoContext(ctx, "dependency is reachable again", "dependency", r.Name, "address", r.Address,
			"after", since)
	}
}

// Reports returns what is known of each dependency, sorted by name and within that
// in the order of Add. It calls no dependency.
func (w *Watcher) Reports() []Report {
	w.mu.RLock()
	defer w.mu.RUnlock()
	reports := make([]Report, 0, len(w.watched))
	for _, d := range w.watched {
		reports = append(reports, d.report)
	}
	slices.SortStableFunc(reports, func(a, b Report) int { return cmp.Compare(a.Name, b.Name) })
	return reports
}
