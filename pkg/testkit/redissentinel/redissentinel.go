// Package redissentinel runs a private group of Redis servers under Redis Sentinel
// from the machine's own redis-server, for tests: a primary, two replicas and three
// Sentinels.
//
// Promise: Start returns when both replicas follow the primary and the Sentinels
// agree on all of them, so that a failover can begin at once. A primary that is
// killed is replaced after about two seconds. The promises of redisserver apply to
// each server.
//
// Limits: a killed primary that is restarted is a primary until the Sentinels
// make it a replica, as in a real group.
//
// Source: "High availability with Redis Sentinel".
package redissentinel

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/testkit/redisserver"
)

const (
	// MasterName is the Sentinels' name of the primary.
	MasterName = "purser"

	replicas     = 2
	sentinels    = 3
	startTimeout = 60 * time.Second
)

// Group is a running group.
type Group struct {
	// Servers are the primary that it started with, and its replicas.
	Servers   []*redisserver.Server
	Sentinels []*redisserver.Server
	password  string
}

// Start starts a group. It gives up after 60 s.
func Start(ctx context.Context) (*Group, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	g := &Group{password: rand.Text()}
	if err := g.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("redissentinel: %w", err), g.Stop(context.WithoutCancel(ctx)))
	}
	return g, nil
}

func (g *Group) open(ctx context.Context) error {
	server := map[string]string{"masterauth": g.password, "repl-diskless-sync-delay": "0"}
	for range 1 + replicas {
		s, err := redisserver.Start(ctx, redisserver.Options{Password: g.password, Settings: server})
		if err != nil {
			return err
		}
		g.Servers = append(g.Servers, s)
		server = map[string]string{"masterauth": g.password, "repl-diskless-sync-delay": "0",
			"replicaof": "127.0.0.1 " + strconv.Itoa(g.Servers[0].Port())}
	}
	for range sentinels {
		s, err := redisserver.Start(ctx, redisserver.Options{Sentinel: true, Password: g.password,
			Settings: map[string]string{
				"sentinel monitor": fmt.Sprintf("%s 127.0.0.1 %d %d", MasterName, g.Servers[0].Port(),
					sentinels/2+1),
				"sentinel auth-pass":               MasterName + " " + g.password,
				"sentinel sentinel-pass":           g.password,
				"sentinel down-after-milliseconds": MasterName + " 1000",
				"sentinel failover-timeout":        MasterName + " 5000",
			}})
		if err != nil {
			return err
		}
		g.Sentinels = append(g.Sentinels, s)
	}
	return g.await(ctx)
}

// await waits until every Sentinel knows the others and both replicas.
func (g *Group) await(ctx context.Context) error {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		ready := 0
		for _, s := range g.Sentinels {
			state, err := g.ask(ctx, s)
			if err != nil {
				return err
			}
			if state["num-slaves"] == strconv.Itoa(replicas) && state["flags"] == "master" &&
				state["num-other-sentinels"] == strconv.Itoa(sentinels-1) {
				ready++
			}
		}
		if ready == sentinels && g.following(ctx) == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the servers did not find each other: %w", context.Cause(ctx))
		}
	}
}

// following returns an error unless all replicas have what the primary has written.
func (g *Group) following(ctx context.Context) error {
	o, err := redis.ParseURL(g.Servers[0].URL())
	if err != nil {
		return err
	}
	primary := redis.NewClient(o)
	defer func() { _ = primary.Close() }()
	n, err := primary.Wait(ctx, replicas, time.Second).Result()
	if err == nil && n < replicas {
		err = errors.New("a replica does not follow yet")
	}
	return err
}

// ask returns what a Sentinel says of the primary.
func (g *Group) ask(ctx context.Context, sentinel *redisserver.Server) (map[string]string, error) {
	c := redis.NewSentinelClient(&redis.Options{Addr: address(sentinel), Password: g.password})
	defer func() { _ = c.Close() }()
	return c.Master(ctx, MasterName).Result()
}

// Primary returns the server that the Sentinels name as the primary now.
func (g *Group) Primary(ctx context.Context) (*redisserver.Server, error) {
	var failures []error
	for _, sentinel := range g.Sentinels {
		state, err := g.ask(ctx, sentinel)
		if err != nil {
			failures = append(failures, err)
			continue
		}
		for _, s := range g.Servers {
			if strconv.Itoa(s.Port()) == state["port"] {
				return s, nil
			}
		}
	}
	return nil, errors.Join(append(failures, errors.New("redissentinel: no Sentinel names a primary"))...)
}

// URL returns the group's URL for redisx.New, with the passwords.
func (g *Group) URL() string {
	u := url.URL{
		Scheme: "redis+sentinel",
		User:   url.UserPassword("", g.password),
		Host:   address(g.Sentinels[0]),
		Path:   "/0",
		RawQuery: url.Values{"master_name": {MasterName}, "sentinel_password": {g.password},
			"addr": {address(g.Sentinels[1]), address(g.Sentinels[2])}}.Encode(),
	}
	return u.String()
}

func address(s *redisserver.Server) string { return fmt.Sprintf("127.0.0.1:%d", s.Port()) }

// Stop ends every server.
func (g *Group) Stop(ctx context.Context) error {
	var errs []error
	for _, s := range append(g.Sentinels, g.Servers...) {
		errs = append(errs, s.Stop(ctx))
	}
	return errors.Join(errs...)
}
