package defi

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/purserhq/purser/services/wallet/internal/block"
)

// Calls are those that a reading made. One of the same markets and holders at another block needs mostly the same, and
// makes them at once, not step by step. The zero value has none. It is safe for concurrent use.
type Calls struct {
	made atomic.Pointer[[]Call]
}

// atOnce is a Caller of one block that makes expected calls together with the first ones. It is for one reading.
type atOnce struct {
	Caller
	expected []Call
	answers  map[string]Answer // by callID
	made     []Call            // those that were asked for, each once
	noted    map[string]bool   // of made
}

func newAtOnce(c Caller, before *Calls) *atOnce {
	a := &atOnce{Caller: c, answers: map[string]Answer{}, noted: map[string]bool{}}
	if made := before.made.Load(); made != nil {
		a.expected = *made
	}
	return a
}

// callID tells calls of a block apart.
func callID(c Call) string { return string(c.To[:]) + string(c.Data) }

func (a *atOnce) CallAt(ctx context.Context, chain uint64, at block.Block, calls []Call) ([]Answer, error) {
	var open []Call
	asked := map[string]bool{}
	add := func(c Call) {
		id := callID(c)
		if _, known := a.answers[id]; !known && !asked[id] {
			asked[id] = true
			open = append(open, c)
		}
	}
	for _, c := range calls {
		add(c)
		if id := callID(c); !a.noted[id] {
			a.noted[id] = true
			a.made = append(a.made, c)
		}
	}
	if len(open) > 0 {
		for _, c := range a.expected {
			add(c)
		}
		a.expected = nil
		answers, err := a.Caller.CallAt(ctx, chain, at, open)
		if err != nil {
			return nil, err
		}
		if len(answers) != len(open) {
			return nil, fmt.Errorf("%d answers to %d calls", len(answers), len(open))
		}
		for i, c := range open {
			a.answers[callID(c)] = answers[i]
		}
	}
	out := make([]Answer, len(calls))
	for i, c := range calls {
		out[i] = a.answers[callID(c)]
	}
	return out, nil
}
