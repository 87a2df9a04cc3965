package redisx

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// Probe asks a Redis whether it answers, on connections of its own and without a
// circuit breaker.
type Probe struct {
	client  redis.UniversalClient
	address string
}

// NewProbe returns a probe of the Redis at this URL. It doesn't connect. Close it
// when done.
func NewProbe(o Options) (*Probe, error) {
	o.Subscriber, o.PoolSize = true, 1
	client, err := New(o)
	if err != nil {
		return nil, err
	}
	t, err := parse(o.URL)
	return &Probe{client, t.name()}, err
}

// Check returns nil if the Redis, of a Cluster every master, answers PING within ctx.
// A master that refuses writes because it can't store them refuses PING too.
func (p *Probe) Check(ctx context.Context) error {
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
// URL names, separated by commas, with Sentinels name@host:port,host:port.
func (p *Probe) Address() string { return p.address }

// Close closes the connections.
func (p *Probe) Close() error { return p.client.Close() }
