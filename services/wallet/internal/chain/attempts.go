package chain

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/purserhq/purser/pkg/errs"
)

const (
	// readHedgeDelay is how long a node may leave a question of a reading without an answer until the next node is
	// asked beside it, and pastHedgeDelay the same of a reading of the past, which has four seconds for all nodes.
	// scanHedgeDelay is used by background jobs.
	readHedgeDelay, pastHedgeDelay, scanHedgeDelay = 2 * time.Second, 600 * time.Millisecond, callTimeout
)

// attempt is a reading from one node. Its mutex guards asking and answered.
type attempt struct {
	node  *node
	place int // among the nodes of the reading

	mu       sync.Mutex
	asking   int       // questions under way
	answered time.Time // when the last answer came, or the first of the questions began
}

type attemptKey struct{}

// ask notes a question of the attempt in ctx, if there is one, until the returned function is called.
func ask(ctx context.Context) (answered func()) {
	a, ok := ctx.Value(attemptKey{}).(*attempt)
	if !ok {
		return func() {}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asking == 0 {
		a.answered = time.Now()
	}
	a.asking++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.asking, a.answered = a.asking-1, time.Now()
	}
}

// left is how long the node may still be silent; 0 or less when it has been for hedgeDelay.
func (a *attempt) left(hedgeDelay time.Duration) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asking == 0 {
		return hedgeDelay
	}
	return hedgeDelay - time.Since(a.answered)
}

// answer is what a node answered to a reading.
type answer[T any] struct {
	*node
	value T
}

// outcome of an attempt.
type outcome[T any] struct {
	*attempt
	value T
	err   error
}

// race is a reading from several nodes of a chain.
//
// It asks width nodes at once, in their order. The next node is asked as soon as one has failed, or has left a
// question without an answer for hedgeDelay, or when those that answered are not enough; so a node that hangs takes
// hedgeDelay of the time, not all of it. A node that fails, or is still silent when the others have answered, gets the
// cooldown.
type race[T any] struct {
	*Reader
	chain      uint64
	nodes      []*node
	width      int
	hedgeDelay time.Duration
	ask        func(context.Context, *node) (T, error)
	// enough is asked after each answer, with all that there are.
	enough func([]answer[T]) bool
}

// raceResult is what a race found: the answers in the order of the nodes, and why other nodes failed.
type raceResult[T any] struct {
	answers []answer[T]
	failed  failures
}

// run ends when there are enough answers, or no node is left; all its attempts have ended then. The error is that of
// ctx.
func (r race[T]) run(ctx context.Context) (raceResult[T], error) {
	caller := ctx
	ctx, cancel := context.WithCancel(ctx)
	var ended sync.WaitGroup
	defer ended.Wait()
	defer cancel()
	outcomes := make(chan outcome[T], len(r.nodes))
	var running []*attempt
	started := 0
	start := func() {
		a := &attempt{node: r.nodes[started], place: started}
		started, running = started+1, append(running, a)
		ended.Go(func() {
			value, err := r.askOne(context.WithValue(ctx, attemptKey{}, a), a.node)
			outcomes <- outcome[T]{a, value, err}
		})
	}
	var done []outcome[T]
	failed := failures{reader: r.Reader}
	result := func() raceResult[T] {
		for _, a := range running {
			if a.left(r.hedgeDelay) <= 0 {
				failed.note(caller, a, errSilent)
			}
		}
		return raceResult[T]{answersOf(done), failed}
	}
	for {
		waiting, wait := 0, r.hedgeDelay
		for _, a := range running {
			if left := a.left(r.hedgeDelay); left > 0 {
				waiting, wait = waiting+1, min(wait, left)
			}
		}
		for started < len(r.nodes) && (waiting == 0 || waiting+len(done) < r.width) {
			start()
			waiting++
		}
		if len(running) == 0 {
			return result(), nil
		}
		timer := time.NewTimer(max(wait, time.Millisecond))
		select {
		case o := <-outcomes:
			running = slices.DeleteFunc(running, func(a *attempt) bool { return a == o.attempt })
			if o.err == nil {
				done = append(done, o)
			} else if caller.Err() == nil {
				failed.note(caller, o.attempt, o.err)
			}
		case <-timer.C:
		case <-caller.Done():
		}
		timer.Stop()
		if caller.Err() != nil {
			_ = result() // notes which nodes were silent
			return raceResult[T]{}, caller.Err()
		}
		if res := answersOf(done); len(done) > 0 && r.enough(res) {
			return result(), nil
		}
	}
}

func (r race[T]) askOne(ctx context.Context, n *node) (value T, err error) {
	if err = n.checkRetryAfter(r.now()); err == nil {
		err = n.checkChain(ctx)
	}
	if err == nil {
		value, err = r.ask(ctx, n)
	}
	return value, err
}

// answersOf returns the answers in the order of the nodes.
func answersOf[T any](done []outcome[T]) []answer[T] {
	slices.SortFunc(done, func(a, b outcome[T]) int { return cmp.Compare(a.place, b.place) })
	out := make([]answer[T], len(done))
	for i, o := range done {
		out[i] = answer[T]{o.node, o.value}
	}
	return out
}

// errSilent is about a node that had not answered when others had.
var errSilent = fmt.Errorf("the node had not answered when others had: %w", context.DeadlineExceeded)

// failures are why nodes failed in a reading.
type failures struct {
	reader     *Reader
	all        []failure
	retryAfter time.Duration
}

// note keeps why a node failed, and has it tried after the others for a time.
func (f *failures) note(ctx context.Context, a *attempt, err error) {
	now := newFailure(a.node, err, f.reader.now())
	now.place = a.place
	f.all = append(f.all, now)
	f.retryAfter = max(f.retryAfter, nodeCooldown, f.reader.noteFailure(ctx, now, err))
}

// unavailable is the error of a chain whose nodes failed.
func (f *failures) unavailable(chain uint64) error {
	f.sort()
	return unavailable(fmt.Sprintf("no node of chain eip155:%d can be read", chain), f.all,
		max(nodeCooldown, f.retryAfter))
}

func (f *failures) sort() {
	slices.SortFunc(f.all, func(a, b failure) int { return cmp.Compare(a.place, b.place) })
}

// tryNodes asks the nodes of a chain until one answers. It is an error when none does.
func tryNodes[T any](ctx context.Context, r *Reader, chain uint64, nodes []*node, hedgeDelay time.Duration,
	fn func(context.Context, *node) (T, error)) (value T, err error) {
	if err := r.checkConfigured(chain); err != nil {
		return value, err
	}
	found, err := race[T]{Reader: r, chain: chain, nodes: nodes, width: 1, hedgeDelay: hedgeDelay, ask: fn,
		enough: func([]answer[T]) bool { return true }}.run(ctx)
	switch {
	case err != nil:
		return value, err
	case len(found.answers) == 0:
		return value, found.failed.unavailable(chain)
	}
	return found.answers[0].value, nil
}

func (r *Reader) checkConfigured(chain uint64) error {
	if len(r.nodes[chain]) > 0 {
		return nil
	}
	return errs.FailedPrecondition("CHAIN_NOT_CONFIGURED",
		fmt.Sprintf("no node is configured for chain eip155:%d; TokenService.ListChains lists those that have one",
			chain))
}
