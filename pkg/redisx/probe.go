package redisx

import (
	"context"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Probe asks a Redis whether it answers, on connections of its own and without a
// circuit breaker.
type Probe struct{ client redis.UniversalClient }

// NewProbe returns a probe of the Redis at this URL. It doesn't connect. Close it
// when done.
func NewProbe(o Options) (*Probe, error) {
	o.Subscriber, o.PoolSize = true, 1
	client, err := New(o)
	if err != nil {
		return nil, err
	}
	return &Probe{client}, nil
}

// Ask returns nil if the Redis, of a Cluster every master, answers PING within ctx.
// A master that refuses writes because it can't store them refuses PING too.
func (p *Probe) Ask(ctx context.Context) error {
	ping := func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() }
	var err error
	switch c := p.client.(type) {
	case *redis.ClusterClient:
		err = c.ForEachMaster(ctx, ping)
	case *redis.Client:
		err = ping(ctx, c)
	}
	if err != nil {
		return fmt.Errorf("redis: %w", err)
	}
	return nil
}

// Address is where the Redis is: host:port, of a Cluster that of each node that the
// URL names, separated by commas.
func (p *Probe) Address() string {
	switch c := p.client.(type) {
	case *redis.ClusterClient:
		return strings.Join(c.Options().Addrs, ",")
	case *redis.Client:
		return c.Options().Addr
	}
	return ""
}

// Close closes the connections.
func (p *Probe) Close() error { return p.client.Close() }
