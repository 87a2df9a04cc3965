// Package load measures what a server can serve: calls that are sent at planned times, whether or not those before
// have been answered.
//
// It promises: a call's latency counts from the time at which it was planned, so that calls which had to wait for a
// server that stalls, or for this process, are as late as their users would have found them; every planned call is in
// the result, as answered, failed or not sent.
//
// Limits: for measurements on one machine; the generator takes a share of its processors, which Shares shows.
package load

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Scenario is something that users do.
type Scenario struct {
	Name string
	// Weight is its share of all calls, among the weights of all scenarios. Above 0.
	Weight int
	// Call does it once. n is the number of the call within the plan, from 0. It is called concurrently.
	Call func(ctx context.Context, n int) error
}

// Plan is what to send.
type Plan struct {
	Scenarios []Scenario
	// Rate is in calls per second. They are sent at random times, as those of users who don't know of each other.
	Rate float64
	// Warmup is sent before Duration at the same rate, and not measured.
	Warmup, Duration time.Duration
	// Backlog ends the plan early: no call is sent any more once one is sent this late, or once as many wait for an
	// answer as are planned in this time. 0 sends all.
	Backlog time.Duration
	// Seed of the times and of the order of scenarios: plans with the same seed are equal.
	Seed uint64
}

// Latencies are those of one scenario, or of all. Failed calls are in it too.
type Latencies struct {
	Name string
	// Sent is the number of measured calls; Failed of them ended with an error.
	Sent, Failed int
	hist         *hdrhistogram.Histogram
}

// Result is what was measured.
type Result struct {
	Rate float64
	// Took is from the first to the last planned time of what was measured.
	Took time.Duration
	// All is of all scenarios; Scenarios are in the order of the plan.
	All       *Latencies
	Scenarios []*Latencies
	// NotSent were planned, and not sent since the plan ended early.
	NotSent int
	// First is the first error of a measured call.
	First error
}

// The range of the histograms, in microseconds, and their digits.
const (
	lowest, highest = 1, int64(10 * time.Minute / time.Microsecond)
	digits          = 3
)

func newLatencies(name string) *Latencies {
	return &Latencies{Name: name, hist: hdrhistogram.New(lowest, highest, digits)}
}

func (l *Latencies) add(took time.Duration, err error) {
	l.Sent++
	if err != nil {
		l.Failed++
	}
	// The only error is that of a value above the highest.
	_ = l.hist.RecordValue(min(max(took.Microseconds(), lowest), highest))
}

// Merge adds those of other.
func (l *Latencies) Merge(other *Latencies) {
	l.Sent, l.Failed = l.Sent+other.Sent, l.Failed+other.Failed
	l.hist.Merge(other.hist)
}

// Quantile is the latency that a share of the calls did not exceed, to three digits: 0.99 for p99. It is 0 without
// calls.
func (l *Latencies) Quantile(share float64) time.Duration {
	return time.Duration(l.hist.ValueAtQuantile(100*share)) * time.Microsecond
}

// Max is the highest latency, to three digits.
func (l *Latencies) Max() time.Duration { return time.Duration(l.hist.Max()) * time.Microsecond }

// Merge adds a result of the same scenarios.
func (r *Result) Merge(other *Result) {
	r.Took, r.NotSent, r.First = r.Took+other.Took, r.NotSent+other.NotSent, cmp.Or(r.First, other.First)
	r.All.Merge(other.All)
	for i, s := range r.Scenarios {
		s.Merge(other.Scenarios[i])
	}
}

// planned is a call to be sent.
type planned struct {
	at       time.Duration // since the start
	scenario int
}

// calls are all calls of the plan, in their order.
func (p Plan) calls() []planned {
	random := rand.New(rand.NewPCG(p.Seed, 1))
	weights := 0
	for _, s := range p.Scenarios {
		weights += s.Weight
	}
	var all []planned
	for at := 0.0; ; {
		at += random.ExpFloat64() / p.Rate
		c := planned{at: time.Duration(at * float64(time.Second))}
		if c.at >= p.Warmup+p.Duration {
			return all
		}
		for w := random.IntN(weights); w >= p.Scenarios[c.scenario].Weight; c.scenario++ {
			w -= p.Scenarios[c.scenario].Weight
		}
		all = append(all, c)
	}
}

func (p Plan) check() error {
	if p.Rate <= 0 || p.Duration <= 0 || p.Warmup < 0 || p.Backlog < 0 || len(p.Scenarios) == 0 {
		return errors.New("load: a plan needs scenarios, a rate and a duration")
	}
	if slices.ContainsFunc(p.Scenarios, func(s Scenario) bool { return s.Weight <= 0 || s.Call == nil }) {
		return errors.New("load: each scenario needs a weight above 0 and a call")
	}
	return nil
}

// Run sends what is planned and returns when all that was sent has ended. The error is that of a plan that can't be
// carried out, or that of ctx when it ended before.
func Run(ctx context.Context, p Plan) (*Result, error) {
	if err := p.check(); err != nil {
		return nil, err
	}
	r := &Result{Rate: p.Rate, Took: p.Duration, All: newLatencies("all")}
	for _, s := range p.Scenarios {
		r.Scenarios = append(r.Scenarios, newLatencies(s.Name))
	}
	var (
		mu      sync.Mutex
		waiting atomic.Int64
		under   sync.WaitGroup
	)
	calls := p.calls()
	timer := time.NewTimer(0)
	defer timer.Stop()
	begun := time.Now()
	for n, c := range calls {
		if err := until(ctx, timer, begun.Add(c.at)); err != nil {
			under.Wait()
			return nil, err
		}
		if p.Backlog > 0 && (time.Since(begun) > c.at+p.Backlog ||
			float64(waiting.Load()) > p.Rate*p.Backlog.Seconds()+1) {
			r.NotSent = len(calls) - n
			break
		}
		waiting.Add(1)
		under.Go(func() {
			err := p.Scenarios[c.scenario].Call(ctx, n)
			took := time.Since(begun) - c.at
			waiting.Add(-1)
			if c.at < p.Warmup {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			r.All.add(took, err)
			r.Scenarios[c.scenario].add(took, err)
			r.First = cmp.Or(r.First, err)
		})
	}
	under.Wait()
	return r, ctx.Err()
}

// until waits for a time.
func until(ctx context.Context, timer *time.Timer, at time.Time) error {
	wait := time.Until(at)
	if wait <= 0 {
		return ctx.Err()
	}
	timer.Reset(wait)
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
