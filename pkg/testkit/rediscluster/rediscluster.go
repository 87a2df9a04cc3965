// Package rediscluster runs a private Redis Cluster of three masters from the
// machine's own redis-server, for tests.
//
// Promise: Start returns when every node serves its third of the slots and knows the
// others. The promises of redisserver apply to each node.
//
// Limits: there are no replicas: the slots of a killed node are unavailable.
//
// Source: "Redis cluster specification"; redis.conf of Redis 7.
package rediscluster

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/testkit/port"
	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

const (
	nodes        = 3
	slots        = 16384
	startTimeout = 60 * time.Second

	portTries = 5
)

// Cluster is a running Redis Cluster.
type Cluster struct {
	Nodes    []*redisserver.Server
	password string
}

// Start starts three nodes and joins them. It gives up after 60 s.
func Start(ctx context.Context) (*Cluster, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	c := &Cluster{password: rand.Text()}
	if err := c.open(ctx); err != nil {
		return nil, errors.Join(err, c.Stop(context.WithoutCancel(ctx)))
	}
	return c, nil
}

func (c *Cluster) open(ctx context.Context) error {
	for range nodes {
		s, err := c.node(ctx)
		for try := 1; errors.Is(err, redisserver.ErrPortBusy) && try < portTries; try++ {
			s, err = c.node(ctx)
		}
		if err != nil {
			return err
		}
		c.Nodes = append(c.Nodes, s)
	}
	for i, s := range c.Nodes {
		if err := c.on(s, func(node *redis.Client) error { return c.join(ctx, node, i) }); err != nil {
			return fmt.Errorf("rediscluster: node %d: %w", i, err)
		}
	}
	return c.await(ctx)
}

// node starts a node. Its cluster bus needs a free port, which another process may
// use before the node does; open retries.
func (c *Cluster) node(ctx context.Context) (*redisserver.Server, error) {
	bus, err := port.Free(ctx)
	if err != nil {
		return nil, fmt.Errorf("rediscluster: %w", err)
	}
	return redisserver.Start(ctx, redisserver.Options{Settings: map[string]string{
		"cluster-enabled": "yes", "cluster-config-file": "nodes.conf", "cluster-port": strconv.Itoa(bus),
		"cluster-announce-ip": "127.0.0.1", "cluster-node-timeout": "5000",
	}, Password: c.password})
}

// join assigns node i its slots and lets it meet the nodes before it.
func (c *Cluster) join(ctx context.Context, node *redis.Client, i int) error {
	first, last := i*slots/nodes, (i+1)*slots/nodes-1
	if err := node.ClusterAddSlotsRange(ctx, first, last).Err(); err != nil {
		return err
	}
	if err := node.Do(ctx, "CLUSTER", "SET-CONFIG-EPOCH", i+1).Err(); err != nil {
		return err
	}
	for _, other := range c.Nodes[:i] {
		bus, err := c.bus(ctx, other)
		if err != nil {
			return err
		}
		if err := node.Do(ctx, "CLUSTER", "MEET", "127.0.0.1", other.Port(), bus).Err(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cluster) bus(ctx context.Context, s *redisserver.Server) (port string, err error) {
	err = c.on(s, func(node *redis.Client) error {
		set, err := node.ConfigGet(ctx, "cluster-port").Result()
		port = set["cluster-port"]
		return err
	})
	return port, err
}

func (c *Cluster) await(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ready := 0
		for _, s := range c.Nodes {
			err := c.on(s, func(node *redis.Client) error {
				info, err := node.ClusterInfo(ctx).Result()
				if strings.Contains(info, "cluster_state:ok") &&
					strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(nodes)) {
					ready++
				}
				return err
			})
			if err != nil {
				return fmt.Errorf("rediscluster: %w", err)
			}
		}
		if ready == nodes {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("rediscluster: the nodes did not find each other: %w", context.Cause(ctx))
		}
	}
}

func (c *Cluster) on(s *redisserver.Server, fn func(*redis.Client) error) error {
	o, err := redis.ParseURL(s.URL())
	if err != nil {
		return err
	}
	node := redis.NewClient(o)
	defer func() { _ = node.Close() }()
	return fn(node)
}

// URL returns the cluster's URL for redisx.New, with the password.
func (c *Cluster) URL() string {
	addr := func(i int) string { return fmt.Sprintf("127.0.0.1:%d", c.Nodes[i].Port()) }
	u := url.URL{
		Scheme:   "redis",
		User:     url.UserPassword("", c.password),
		Host:     addr(0),
		RawQuery: url.Values{"addr": {addr(1), addr(2)}}.Encode(),
	}
	return u.String()
}

// Stop ends every node.
func (c *Cluster) Stop(ctx context.Context) error {
	var errs []error
	for _, s := range c.Nodes {
		errs = append(errs, s.Stop(ctx))
	}
	return errors.Join(errs...)
}
