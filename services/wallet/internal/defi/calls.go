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
	made     []Call            // those that were asked for
}

func newAtOnce(c Caller, before *Calls) *atOnce {
	a := &atOnce{Caller: c, answers: map[string]Answer{}}
	if made := before.made.Load(); made != nil {
		a.expected = *made
	}
	return a
}

// callID tells calls of a block apart.
func callID(c Call) string { return string(c.To[:]) + string(c.Data) }

// answersTo makes calls. To have another number of answers than calls is an error.
func answersTo(ctx context.Context, c Caller, chain uint64, at block.Block, calls []Call) ([]Answer, error) {
	answers, err := c.CallAt(ctx, chain, at, calls)
	if err == nil && len(answers) != len(calls) {
		err = fmt.Errorf("%d answers to %d calls", len(answers), len(calls))
	}
	return answers, err
}

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
	}
	a.made = append(a.made, calls...)
	if len(open) > 0 {
		for _, c := range a.expected {
			add(c)
		}
		a.expected = nil
		answers, err := answersTo(ctx, a.Caller, chain, at, open)
		if err != nil {
			return nil, err
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
