// Package explore checks a model of a concurrent protocol: what every order of
// its clients' steps leads to.
//
// Promise: [All] visits every state that can be reached and finds a shortest
// way to one that breaks a guarantee; [Some] walks at random where there are
// too many. Both are deterministic, Some by its seed.
//
// Limits: it knows the model, not the code. Show by other means that the code's
// steps do what the model's do.
//
// Source: Lamport, "Specifying Systems" (2002), for checking by states.
package explore

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Step is one client's next step and what it leads to.
type Step[S comparable] struct {
	Name string
	To   S
}

// Model is a protocol. A state holds everything that a step can depend on.
type Model[S comparable] struct {
	Start S
	// Steps are those that can be taken in a state, by anybody.
	Steps func(S) []Step[S]
	// Check returns why a state breaks a guarantee, nil when it doesn't.
	Check func(S) error
}

// BrokenError says by which steps a guarantee was broken.
type BrokenError struct {
	Cause error
	Steps []string
}

func (b *BrokenError) Error() string {
	return fmt.Sprintf("%v, after:\n  %s", b.Cause, strings.Join(b.Steps, "\n  "))
}

func (b *BrokenError) Unwrap() error { return b.Cause }

// All visits every reachable state, nearest first, and returns how many there
// are, or [*BrokenError].
func All[S comparable](m Model[S]) (states int, err error) {
	type origin struct {
		from S
		step string
	}
	came := map[S]origin{m.Start: {}}
	way := func(s S) (steps []string) {
		for s != m.Start {
			steps = append([]string{came[s].step}, steps...)
			s = came[s].from
		}
		return steps
	}
	queue := []S{m.Start}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if err := m.Check(s); err != nil {
			return len(came), &BrokenError{err, way(s)}
		}
		for _, step := range m.Steps(s) {
			if _, seen := came[step.To]; !seen {
				came[step.To] = origin{s, step.Name}
				queue = append(queue, step.To)
			}
		}
	}
	return len(came), nil
}

// Some takes walks of at most steps random steps each and returns how many
// steps it took in all, or [*BrokenError].
func Some[S comparable](m Model[S], seed uint64, walks, steps int) (taken int, err error) {
	random := rand.New(rand.NewPCG(seed, 0)) //nolint:gosec // repeatable on purpose
	for range walks {
		s := m.Start
		var way []string
		for range steps {
			next := m.Steps(s)
			if len(next) == 0 {
				break
			}
			step := next[random.IntN(len(next))]
			s, way = step.To, append(way, step.Name)
			taken++
			if err := m.Check(s); err != nil {
				return taken, &BrokenError{err, way}
			}
		}
	}
	return taken, nil
}
