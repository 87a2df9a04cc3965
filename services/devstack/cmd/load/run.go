package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/purserhq/purser/services/devstack/load"
	"github.com/purserhq/purser/services/devstack/programs"
)

// options of the command.
type options struct {
	root, before   string
	rate, from     float64
	duration, step time.Duration
	p99            time.Duration
	users, rounds  int
	within         float64
}

func parse(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("load", flag.ContinueOnError)
	f.StringVar(&o.root, "root", ".", "the checkout whose programs are built and measured")
	f.StringVar(&o.before, "before", "", "a revision of git whose programs are measured too, in turn")
	f.Float64Var(&o.rate, "rate", 0, "calls a second; 0 searches the highest rate, and measures at 70 % of it")
	f.Float64Var(&o.from, "from", 100, "calls a second at which the search begins")
	f.DurationVar(&o.duration, "duration", 20*time.Second, "how long the rate, or the 70 %, is measured")
	f.DurationVar(&o.step, "step", 5*time.Second, "how long each rate of the search is measured, after half as long "+
		"at that rate")
	f.DurationVar(&o.p99, "p99", 50*time.Millisecond, "what 99 % of all calls have to be answered within")
	f.IntVar(&o.users, "users", 40, "users, each with a wallet, 48 hours of history and an open stream")
	f.IntVar(&o.rounds, "rounds", 4, "with -before, the turns of each at the same rate")
	f.Float64Var(&o.within, "within", 0.05, "how close the search comes to the highest rate, as a share of it")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	switch {
	case f.NArg() > 0:
		return o, fmt.Errorf("arguments %q: want none beside flags", f.Args())
	case o.rate < 0, o.from <= 0, o.within <= 0:
		return o, fmt.Errorf("rate %g must be 0 or more, from %g and within %g above 0", o.rate, o.from, o.within)
	case o.duration <= 0, o.step <= 0, o.p99 <= 0:
		return o, fmt.Errorf("duration %s, step %s and p99 %s must be above 0", o.duration, o.step, o.p99)
	case o.users < 1, o.rounds < 1:
		return o, fmt.Errorf("users %d and rounds %d must be 1 or more", o.users, o.rounds)
	}
	return o, nil
}

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	o, err := parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	root, err := filepath.Abs(o.root)
	if err != nil {
		return err
	}
	built := filepath.Join(root, ".build", "load")
	if err := programs.Build(ctx, root, built, programs.Names()...); err != nil {
		return err
	}
	m := &measurement{options: o, out: out}
	defer func() {
		for _, s := range m.testBeds {
			err = errors.Join(err, s.Close())
		}
	}()
	if o.before != "" {
		was, err := programs.BuildRevision(ctx, root, o.before, filepath.Join(root, ".build", "before"))
		if err != nil {
			return err
		}
		if err := m.start(ctx, "before", was); err != nil {
			return err
		}
	}
	if err := m.start(ctx, "after", built); err != nil {
		return err
	}
	return m.measure(ctx)
}

// measurement is one run of the command.
type measurement struct {
	options
	out      io.Writer
	testBeds []*load.TestBed
	seed     uint64
}

func (m *measurement) start(ctx context.Context, name, built string) error {
	begun := time.Now()
	s, err := load.NewTestBed(ctx, name, built, m.users)
	if err != nil {
		return err
	}
	m.testBeds = append(m.testBeds, s)
	return m.printf("%s: three programs of %s with %d users, ready after %.1fs\n", name, built, m.users,
		time.Since(begun).Seconds())
}

func (m *measurement) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(m.out, format, args...)
	return err
}

// share of the highest rate at which the latencies are measured.
const share = 0.7

func (m *measurement) measure(ctx context.Context) error {
	rate := m.rate
	if rate == 0 {
		highest, err := m.search(ctx)
		if err != nil {
			return err
		}
		for i, s := range m.testBeds {
			if highest[i] == 0 {
				return fmt.Errorf("%s serves no rate with a p99 under %s", s.Name, m.p99)
			}
			if err := m.printf("%s: %.0f calls/s with a p99 under %s and no errors\n", s.Name, highest[i],
				m.p99); err != nil {
				return err
			}
			if rate == 0 || highest[i]*share < rate {
				rate = highest[i] * share
			}
		}
		if len(highest) == 2 {
			if err := m.printf("highest rate, after / before: %.2f\n", highest[1]/highest[0]); err != nil {
				return err
			}
		}
	}
	return m.steady(ctx, rate)
}

// search returns the highest rate of each stand. Their steps take turns.
func (m *measurement) search(ctx context.Context) ([]float64, error) {
	searches := make([]*load.Search, len(m.testBeds))
	for i := range searches {
		searches[i] = load.NewSearch(m.from, m.within)
	}
	for ended := 0; ended < len(searches); {
		ended = 0
		m.seed++
		for i, s := range m.testBeds {
			rate, ok := searches[i].Next()
			if !ok {
				ended++
				continue
			}
			r, err := s.Measure(ctx, load.Plan{Rate: rate, Warmup: m.step / 2, Duration: m.step,
				Backlog: time.Second, Seed: m.seed})
			if err != nil {
				return nil, err
			}
			well := r.Well(m.p99)
			searches[i].Tell(well)
			if err := m.printf("%-7s %s  %s\n", s.Name, r.Line(),
				map[bool]string{true: "well", false: "too much"}[well]); err != nil {
				return nil, err
			}
		}
	}
	highest := make([]float64, len(searches))
	for i := range searches {
		highest[i] = searches[i].Highest()
	}
	return highest, nil
}

// steady measures all test beds in turn at one rate, and prints the tables.
func (m *measurement) steady(ctx context.Context, rate float64) error {
	rounds := 1
	if len(m.testBeds) > 1 {
		rounds = m.rounds
	}
	all := make([]*load.Measured, len(m.testBeds))
	for range rounds {
		m.seed++
		for i, s := range m.testBeds {
			r, err := s.Measure(ctx, load.Plan{Rate: rate, Warmup: m.step / 2,
				Duration: m.duration / time.Duration(rounds), Seed: m.seed})
			if err != nil {
				return err
			}
			if all[i] == nil {
				all[i] = r
			} else {
				all[i].Merge(r)
			}
		}
	}
	for i, s := range m.testBeds {
		if err := m.show(s, all[i], rate); err != nil {
			return err
		}
	}
	if len(all) == 2 {
		return m.compare(all[0], all[1])
	}
	return nil
}

func (m *measurement) show(s *load.TestBed, r *load.Measured, rate float64) error {
	if err := m.printf("\n%s at %.0f calls/s, latencies in ms from the planned time of each call\n", s.Name,
		rate); err != nil {
		return err
	}
	if err := r.Write(m.out); err != nil {
		return err
	}
	if err := r.WriteShares(m.out); err != nil {
		return err
	}
	memory, err := s.Memory()
	if err != nil {
		return err
	}
	var each []string
	for i, name := range programs.Names() {
		each = append(each, fmt.Sprintf("%s %.1f MB", name, float64(memory[i])/1e6))
	}
	return m.printf("in memory: %s\n", strings.Join(each, ", "))
}

// compare prints what the second took of what the first did.
func (m *measurement) compare(before, after *load.Measured) error {
	var all []string
	for _, q := range []float64{0.5, 0.9, 0.99} {
		all = append(all, fmt.Sprintf("p%g %.2f", 100*q,
			after.All.Quantile(q).Seconds()/before.All.Quantile(q).Seconds()))
	}
	for i, part := range before.Shares {
		if i < len(programs.Names())+2 {
			all = append(all, fmt.Sprintf("%s %.2f", part.Name,
				after.PerCall(part.Name).Seconds()/before.PerCall(part.Name).Seconds()))
		}
	}
	return m.printf("\nafter / before: latency %s; processor time of a call %s\n", strings.Join(all[:3], ", "),
		strings.Join(all[3:], ", "))
}
