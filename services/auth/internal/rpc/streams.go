package rpc

import (
	"context"
	"errors"
	"net/netip"
	"strings"
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
		services: newPool(maxServiceStreams, maxPerClient),
		anybody:  newPool(maxAnybodysStreams, maxPerClient),
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
// of them. When all are taken, a client gets one more only if its network has less
// than another, or it has less than another client of its network. Of the network
// with most, the client with most loses its newest. Whoever opens many, also from
// many addresses of a network, takes nothing from those who open few.
type pool struct {
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

func newPool(limit, maxPerClient int) pool {
	return pool{max: limit, maxPerClient: maxPerClient, byClient: map[string][]*openStream{},
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

func (p *pool) begin(ctx context.Context, client string) (context.Context, func(), error) {
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

// takeFromLargest ends the newest stream of the client who has most in the network
// that has most, if that is more than the network of client would have with one
// more; in client's own network, if it is more than client would have.
func (p *pool) takeFromLargest(client string) bool {
	from, most := p.byNetwork[networkOf(client)], 1
	if from != nil {
		most += from.open
	}
	own := true
	for _, other := range p.byNetwork {
		if other.open > most {
			from, most, own = other, other.open, false
		}
	}
	if from == nil {
		return false
	}
	largest, least := "", 0
	if own {
		least = len(p.byClient[client]) + 1
	}
	for other := range from.clients {
		if open := len(p.byClient[other]); open > least {
			largest, least = other, open
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
