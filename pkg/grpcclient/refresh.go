package grpcclient

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/resolver"
)

const (
	// refreshInterval is how often DNS is asked for the addresses of a service, so
	// that a new replica gets its share of the calls, and one that goes is replaced
	// before it ends. It is less than half of the time for which a replica goes on
	// serving after it was told to stop (10 s in the manifests).
	refreshInterval = 4 * time.Second
	// minRefreshInterval is the shortest time between two questions, when a
	// connection has failed.
	minRefreshInterval = time.Second
)

// refreshing asks DNS again every refreshInterval, and soon after a connection has
// failed. gRPC's own resolver asks only after a failure, and then at most every 30 s:
// when all replicas are replaced one by one within that time, it is left without any.
// The shortest time can be changed for all connections of a process alone
// (dns.SetMinResolutionInterval), so each question is a new resolver's first.
//
// A pending lookup is never replaced by the next, so slow servers and fallback servers
// still answer. Addresses that are known stay
// until there are others: gRPC's resolver takes a name that DNS does not know, as that
// of a service while none of its replicas is ready, for one without addresses, for
// which it would close the connections that work.
type refreshing struct{ resolver.Builder }

// Build implements resolver.Builder.
func (b refreshing) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (
	resolver.Resolver, error) {
	known := new(atomic.Bool)
	ask := func() (question, error) {
		q := question{answers: &answers{ClientConn: cc, known: known, first: make(chan struct{})}}
		var err error
		q.Resolver, err = b.Builder.Build(target, q.answers, opts)
		return q, err
	}
	current, err := ask()
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", target.Endpoint(), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &refresher{cancel: cancel, now: make(chan struct{}, 1), ended: make(chan struct{})}
	go r.refresh(ctx, current, ask)
	return r, nil
}

// refresher is the resolver of one connection.
type refresher struct {
	cancel context.CancelFunc
	now    chan struct{}
	ended  chan struct{}
}

// refresh replaces the current question, once it is answered, until ctx ends.
func (r *refresher) refresh(ctx context.Context, current question, ask func() (question, error)) {
	defer close(r.ended)
	defer func() { current.Close() }()
	for wait(ctx, minRefreshInterval, nil) && wait(ctx, refreshInterval-minRefreshInterval, r.now) {
		select {
		case <-ctx.Done():
			return
		case <-current.answers.first: // after 30 s at the latest (dns.ResolvingTimeout)
		}
		next, err := ask()
		if err != nil {
			continue // the target was accepted before, so this doesn't happen
		}
		current.Close()
		current = next
	}
}

// question is a resolver and what it has answered.
type question struct {
	resolver.Resolver
	answers *answers
}

// answers passes the answers to one question on.
type answers struct {
	resolver.ClientConn
	known *atomic.Bool // addresses, from any question
	once  sync.Once
	first chan struct{} // closed after the first one
}

var errNoAddress = errors.New("DNS knows no address of the service any more; the last ones are kept")

// UpdateState implements resolver.ClientConn.
func (a *answers) UpdateState(s resolver.State) error {
	defer a.once.Do(func() { close(a.first) })
	if len(s.Addresses) == 0 && len(s.Endpoints) == 0 && a.known.Load() {
		a.ClientConn.ReportError(errNoAddress)
		return balancer.ErrBadResolverState
	}
	a.known.Store(a.known.Load() || len(s.Addresses) > 0 || len(s.Endpoints) > 0)
	return a.ClientConn.UpdateState(s)
}

// ReportError implements resolver.ClientConn.
func (a *answers) ReportError(err error) {
	defer a.once.Do(func() { close(a.first) })
	a.ClientConn.ReportError(err)
}

// wait waits for d, or less if now receives, and reports whether ctx goes on.
func wait(ctx context.Context, d time.Duration, now <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
	case <-now:
	}
	return true
}

// ResolveNow implements resolver.Resolver.
func (r *refresher) ResolveNow(resolver.ResolveNowOptions) {
	select {
	case r.now <- struct{}{}:
	default: // it is asked for already
	}
}

// Close implements resolver.Resolver.
func (r *refresher) Close() {
	r.cancel()
	<-r.ended
}
