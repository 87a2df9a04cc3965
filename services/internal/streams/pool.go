// Package streams bounds the long streams of a server, and divides them fairly among its clients.
package streams

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"sync"

	"github.com/purserhq/purser/pkg/errs"
)

// ErrTaken ends a stream whose place another client gets.
var ErrTaken = errors.New("the place of the stream goes to another client")

// Pool is a number of streams that clients share: a client gets at most maxPerClient
// of them. When all are taken, a client gets one more only if its network has less
// than another, or it has less than another client of its network. Of the network
// with most, the client with most loses its newest. Whoever opens many, also from
// many addresses of a network, takes nothing from those who open few.
type Pool struct {
	max, maxPerClient int

	mu        sync.Mutex
	total     int
	byClient  map[string][]*openStream // oldest first
	byNetwork map[string]*network
}

// network is the clients whose addresses one customer of a provider may have.
type network struct {
	open    int
	clients map[string]bool
}

// NewPool returns a pool of limit streams, of which a client gets at most maxPerClient.
func NewPool(limit, maxPerClient int) *Pool {
	return &Pool{max: limit, maxPerClient: maxPerClient, byClient: map[string][]*openStream{},
		byNetwork: map[string]*network{}}
}

// networkOf returns the /48 of an IPv6 prefix, which providers give to one customer,
// the /24 of an IPv4 address, and any other client itself.
func networkOf(client string) string {
	text, _, _ := strings.Cut(client, "/")
	ip, err := netip.ParseAddr(text)
	if err != nil {
		return client
	}
	bits := 48
	if ip.Is4() {
		bits = 24
	}
	block, _ := ip.Prefix(bits) // of this length every address has one
	return block.String()
}

type openStream struct{ cancel context.CancelCauseFunc }

// Begin counts one more stream of a client until end is called. The context that it
// returns ends, with ErrTaken as its cause, when another client gets the place.
// errs.Exhausted (TOO_MANY_STREAMS).
func (p *Pool) Begin(ctx context.Context, client string) (_ context.Context, end func(), err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.byClient[client]) >= p.maxPerClient || p.total >= p.max && !p.takeFromLargest(client) {
		return nil, nil, errs.Exhausted("TOO_MANY_STREAMS", "too many streams; end one first")
	}
	ctx, cancel := context.WithCancelCause(ctx)
	o := &openStream{cancel}
	p.byClient[client] = append(p.byClient[client], o)
	name := networkOf(client)
	if p.byNetwork[name] == nil {
		p.byNetwork[name] = &network{clients: map[string]bool{}}
	}
	p.byNetwork[name].open++
	p.byNetwork[name].clients[client] = true
	p.total++
	return ctx, func() { p.end(client, o) }, nil
}

// Hold is Begin for a stream that ends with the call of a method: defer end with the error that the method returns. It
// makes that of a stream whose place was taken errs.Exhausted (TOO_MANY_STREAMS). what are the streams, such as
// "exports".
func (p *Pool) Hold(ctx context.Context, client, what string) (_ context.Context, end func(*error), err error) {
	ctx, done, err := p.Begin(ctx, client)
	if err != nil {
		return nil, nil, err
	}
	return ctx, func(err *error) {
		done()
		if errors.Is(context.Cause(ctx), ErrTaken) {
			*err = errs.Exhausted("TOO_MANY_STREAMS", "you have the most "+what+", and another caller needs one")
		}
	}, nil
}

// takeFromLargest ends the newest stream of the client who has most in the network
// that has most, if that is more than the network of client would have with one
// more; in client's own network, if it is more than client would have.
func (p *Pool) takeFromLargest(client string) bool {
	from, streams := p.byNetwork[networkOf(client)], 1
	if from != nil {
		streams += from.open
	}
	own := true
	for _, other := range p.byNetwork {
		if other.open > streams {
			from, streams, own = other, other.open, false
		}
	}
	if from == nil {
		return false
	}
	largest, streamsOfLargest := "", 0
	if own {
		streamsOfLargest = len(p.byClient[client]) + 1
	}
	for other := range from.clients {
		if open := len(p.byClient[other]); open > streamsOfLargest {
			largest, streamsOfLargest = other, open
		}
	}
	if largest == "" {
		return false
	}
	open := p.byClient[largest]
	newest := open[len(open)-1]
	newest.cancel(ErrTaken)
	p.remove(largest, newest)
	return true
}

// Open returns how many streams are open.
func (p *Pool) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

func (p *Pool) end(client string, o *openStream) {
	p.mu.Lock()
	defer p.mu.Unlock()
	o.cancel(nil)
	p.remove(client, o)
}

// remove forgets a stream, once.
func (p *Pool) remove(client string, o *openStream) {
	open := p.byClient[client]
	for i := len(open) - 1; i >= 0; i-- { // which is usually the newest
		if open[i] != o {
			continue
		}
		p.total--
		name := networkOf(client)
		of := p.byNetwork[name]
		if of.open--; of.open == 0 {
			delete(p.byNetwork, name)
		}
		if len(open) == 1 {
			delete(p.byClient, client)
			delete(of.clients, client)
			return
		}
		copy(open[i:], open[i+1:])
		open[len(open)-1] = nil
		p.byClient[client] = open[:len(open)-1]
		return
	}
}
