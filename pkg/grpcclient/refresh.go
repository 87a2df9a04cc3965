package grpcclient

import (
	"context"
	"fmt"
	"time"

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
type refreshing struct{ resolver.Builder }

// Build implements resolver.Builder.
func (b refreshing) Build(target resolver.Target, cc resolver.ClientConn, opts resolver.BuildOptions) (
	resolver.Resolver, error) {
	current, err := b.Builder.Build(target, cc, opts)
	if err != nil {
		return nil, fmt.Errorf("resolve %s: %w", target.Endpoint(), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &refresher{cancel: cancel, now: make(chan struct{}, 1), ended: make(chan struct{})}
	again := func() (resolver.Resolver, error) { return b.Builder.Build(target, cc, opts) }
	go r.refresh(ctx, current, again)
	return r, nil
}

// refresher is the resolver of one connection.
type refresher struct {
	cancel context.CancelFunc
	now    chan struct{}
	ended  chan struct{}
}

// refresh replaces the current resolver until ctx ends.
func (r *refresher) refresh(ctx context.Context, current resolver.Resolver, again func() (resolver.Resolver, error)) {
	defer close(r.ended)
	defer func() { current.Close() }()
	for wait(ctx, minRefreshInterval, nil) && wait(ctx, refreshInterval-minRefreshInterval, r.now) {
		next, err := again()
		if err != nil {
			continue // the target was accepted before, so this doesn't happen
		}
		current.Close()
		current = next
	}
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
