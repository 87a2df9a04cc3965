package rpc

import (
	"context"
	"errors"
	"sync"

	"github.com/purserhq/purser/pkg/errs"
)

const (
	// maxStreams bounds the streams of one replica. Those of service accounts have a
	// part to themselves, so that callers without an identity can't take it.
	maxStreams         = 10_000
	maxServiceStreams  = maxStreams / 4
	maxAnybodysStreams = maxStreams - maxServiceStreams
)

// errStreamTaken ends a stream whose place another client gets.
var errStreamTaken = errors.New("the place of the stream goes to another client")

// streams counts the open streams and divides them fairly.
type streams struct {
	services, anybody pool
}

// newStreams returns streams of which each client has at most maxPerClient.
func newStreams(maxPerClient int) *streams {
	return &streams{
		services: pool{max: maxServiceStreams, maxPerClient: maxPerClient, byClient: map[string][]*openStream{}},
		anybody:  pool{max: maxAnybodysStreams, maxPerClient: maxPerClient, byClient: map[string][]*openStream{}},
	}
}

// begin counts one more stream until end is called: of the service account, if that
// is not "", and of the address otherwise. The context that it returns ends, with
// errStreamTaken as its cause, when another client gets the place.
// errs.Exhausted (TOO_MANY_STREAMS).
func (s *streams) begin(ctx context.Context, serviceAccount, address string) (context.Context, func(), error) {
	if serviceAccount != "" {
		return s.services.begin(ctx, serviceAccount)
	}
	return s.anybody.begin(ctx, address)
}

// pool is a number of streams that clients share: a client gets at most maxPerClient
// of them, and when all are taken, one more only if it has less than another, who
// then loses its newest. Whoever opens many takes nothing from those who open few.
type pool struct {
	max, maxPerClient int

	mu       sync.Mutex
	total    int
	byClient map[string][]*openStream // oldest first
}

type openStream struct{ cancel context.CancelCauseFunc }

func (p *pool) begin(ctx context.Context, client string) (context.Context, func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.byClient[client]) >= p.maxPerClient || p.total >= p.max && !p.takeFromLargest(client) {
		return nil, nil, errs.Exhausted("TOO_MANY_STREAMS", "too many streams; end one first")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	o := &openStream{cancel}
	p.byClient[client] = append(p.byClient[client], o)
	p.total++
	return ctx, func() { p.end(client, o) }, nil
}

// takeFromLargest ends the newest stream of the client who has most, if that is more
// than client would have with one more.
func (p *pool) takeFromLargest(client string) bool {
	largest, most := "", len(p.byClient[client])+1
	for other, open := range p.byClient {
		if len(open) > most {
			largest, most = other, len(open)
		}
	}
	if largest == "" {
		return false
	}
	open := p.byClient[largest]
	newest := open[len(open)-1]
	newest.cancel(errStreamTaken)
	p.remove(largest, newest)
	return true
}

func (p *pool) end(client string, o *openStream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o.cancel(nil)
	p.remove(client, o)
}

// remove forgets a stream, once.
func (p *pool) remove(client string, o *openStream) {
	open := p.byClient[client]
	for i := len(open) - 1; i >= 0; i-- { // which is usually the newest
		if open[i] != o {
			continue
		}
		p.total--
		if len(open) == 1 {
			delete(p.byClient, client)
			return
		}
		copy(open[i:], open[i+1:])
		open[len(open)-1] = nil
		p.byClient[client] = open[:len(open)-1]
		return
	}
}
