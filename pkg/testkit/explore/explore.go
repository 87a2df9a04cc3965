// Package explore is a model checker for concurrent protocols: it tries the orders of
// the clients' steps.
//
// Promise: [Exhaustive] visits every reachable state and finds a shortest sequence of
// steps to one that breaks a guarantee; [Random] takes random walks where there are
// too many states. Both are deterministic, Random by its seed.
//
// Limits: it checks the model, not the code. That the code's steps do what the
// model's do has to be shown by other tests.
//
// Source: Lamport, "Specifying Systems" (2002), for checking by states.
package explore

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// Step is one client's next step and the state after it.
type Step[S comparable] struct {
	Name string
	To   S
}

// Model is a protocol. A state contains everything that a step can depend on.
type Model[S comparable] struct {
	Start S
	// Steps returns the steps that the clients can take in a state.
	Steps func(S) []Step[S]
	// Check returns an error when a state breaks a guarantee.
	Check func(S) error
}

// BrokenError is a broken guarantee and the steps that led to it.
type BrokenError struct {
	Cause error
	Steps []string
}

func (b *BrokenError) Error() string {
	return fmt.Sprintf("%v, after:\n  %s", b.Cause, strings.Join(b.Steps, "\n  "))
}

func (b *BrokenError) Unwrap() error { return b.Cause }

// Exhaustive visits every reachable state, breadth first, and returns their number, or
// a [*BrokenError].
func Exhaustive[S comparable](m Model[S]) (states int, err error) {
	type origin struct {
		from S
		step string
	}
	origins := map[S]origin{m.Start: {}}
	path := func(s S) (steps []string) {
		for s != m.Start {
			steps = append([]string{origins[s].step}, steps...)
			s = origins[s].from
		}
		return steps
	}
	queue := []S{m.Start}
	for len(queue) > 0 {
		s := queue[0]
		queue = queue[1:]
		if err := m.Check(s); err != nil {
			return len(origins), &BrokenError{err, path(s)}
		}
		for _, step := range m.Steps(s) {
			if _, seen := origins[step.To]; !seen {
				origins[step.To] = origin{s, step.Name}
				queue = append(queue, step.To)
			}
		}
	}
	return len(origins), nil
}

// Random takes walks of at most steps random steps each and returns the number of
// steps taken in all, or a [*BrokenError].
func Random[S comparable](m Model[S], seed uint64, walks, steps int) (taken int, err error) {
	random := rand.New(rand.NewPCG(seed, 0))
	for range walks {
		s := m.Start
		var path []string
		for range steps {
			next := m.Steps(s)
			if len(next) == 0 {
				break
			}
			step := next[random.IntN(len(next))]
			s, path = step.To, append(path, step.Name)
			taken++
			if err := m.Check(s); err != nil {
				return taken, &BrokenError{err, path}
			}
		}
	}
	return taken, nil
}
