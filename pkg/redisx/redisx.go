// Package redisx opens the client that locks, caches and challenges share:
// one Redis server or a Redis Cluster, behind a circuit breaker.
//
// Promise: a Redis that is down or hangs delays a caller for a short, bounded time.
// There are no hidden retries; every step has a timeout; after five failures in a
// row a node's breaker opens, and until Redis answers again commands fail without
// a network call except one every 500 ms, which probes. A server that refuses the client,
// see [IsRefusal], fails as one that is down. A redis.Nil, another error reply and a
// cancellation by the caller are no failures. No password appears in an
// error or a span, and no argument of a command in a span.
//
// Limits: the probe is a caller's command, so an unused client doesn't find out
// that Redis answers again. Pub/sub and blocking commands would trip the breaker
// and need a client of their own ([Options.Subscriber]).
//
// Source: Nygard, "Release It!" (circuit breaker); go-redis and failsafe-go
// documentation.
package redisx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.opentelemetry.io/otel/trace"
)

// Options of a client. Zero values mean the defaults named.
type Options struct {
	// URL is redis://user:password@host:port/db, or rediss:// for TLS. With
	// one or more ?addr=host:port, or with ?cluster=true, it is a Cluster.
	URL string
	// Name is shown by CLIENT LIST.
	Name     string
	PoolSize int // 20 for each node
	// Timeout bounds each step: dialling, waiting for a connection of the pool, a
	// write, a read; Budget.
	Timeout time.Duration

	// Subscriber makes a client for pub/sub and blocking commands: without a
	// breaker and with no read timeout but the caller's.
	Subscriber bool

	// Log receives a line when a breaker opens or closes; nil means none.
	Log *slog.Logger
	// TracerProvider is otel's global one when nil. A command has a span when
	// its context belongs to a trace that is recorded.
	TracerProvider trace.TracerProvider

	inCluster bool
}

// CheckURL returns New's error for a URL. It contains no part of the URL.
func CheckURL(address string) error {
	c, err := New(Options{URL: address})
	if err != nil {
		return err
	}
	return c.Close()
}

// New makes a client. It doesn't connect, so that a service can start while Redis
// is down. Close the client when done.
func New(o Options) (redis.UniversalClient, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.PoolSize == 0 {
		o.PoolSize = 20
	}
	if o.Timeout == 0 {
		o.Timeout = Budget
	}
	u, cluster, err := parseURL(o.URL)
	if err != nil {
		return nil, err
	}
	return open(u.String(), cluster, o)
}

func open(address string, cluster bool, o Options) (redis.UniversalClient, error) {
	if !cluster {
		node, err := redis.ParseURL(address)
		if err != nil {
			return nil, errURL
		}
		return newNode(node, o), nil
	}
	c, err := redis.ParseClusterURL(address)
	if err != nil {
		return nil, errURL
	}
	c.MaxRedirects = 3 // MOVED and ASK while slots move are no failures
	c.ContextTimeoutEnabled = true
	o.inCluster = true
	c.NewClient = func(node *redis.Options) *redis.Client { return newNode(node, o) }
	return redis.NewClusterClient(c), nil
}

func newNode(node *redis.Options, o Options) *redis.Client {
	node.ClientName = o.Name
	node.PoolSize = o.PoolSize
	node.MaxRetries = -1
	node.DialerRetries = 1
	node.ContextTimeoutEnabled = true
	node.DialTimeout = o.Timeout
	node.ReadTimeout = o.Timeout
	node.WriteTimeout = o.Timeout
	node.PoolTimeout = o.Timeout
	node.ConnMaxIdleTime = 5 * time.Minute
	node.DisableIdentity = true
	node.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if o.Subscriber {
		node.DialTimeout = time.Second
		return redis.NewClient(node)
	}
	client := redis.NewClient(node)
	circuit := newBreaker(node.Addr, !o.inCluster, o.Log)
	client.AddHook(hook{newObserver(client, circuit, o.TracerProvider), circuit})
	return client
}

// hook is around each command and each pipeline of a node.
type hook struct {
	*observer
	*breaker
}

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		return h.run(ctx, []redis.Cmder{cmd}, func(ctx context.Context) error { return next(ctx, cmd) })
	}
}

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		return h.run(ctx, cmds, func(ctx context.Context) error { return next(ctx, cmds) })
	}
}

func (h hook) run(ctx context.Context, cmds []redis.Cmder, next func(context.Context) error) error {
	return h.observe(ctx, cmds, func(ctx context.Context) error { return h.guard(ctx, cmds, next) })
}

// Key returns prefix and id as a hash tag, {id}: a Cluster keeps keys with equal
// hash tags in one slot. The prefix must have no braces; id may be any text:
// different ids give different tags. A closing brace is escaped as %7D, % as %25,
// and an empty id becomes {%}, since {} is no hash tag.
func Key(prefix, id string) string {
	switch {
	case id == "":
		id = "%"
	case strings.ContainsAny(id, "}%"):
		id = strings.NewReplacer("%", "%25", "}", "%7D").Replace(id)
	}
	return prefix + "{" + id + "}"
}

// WarnIfKeysMayBeEvicted logs a warning when the server's maxmemory-policy lets it
// remove keys before they expire, which would break locks and challenges. Call it
// once after New. It waits for Redis for at most [Budget] and logs a line at info
// level when the policy can't be read. Of a Cluster it asks one node.
func WarnIfKeysMayBeEvicted(ctx context.Context, client redis.UniversalClient, log *slog.Logger) {
	limited, cancel := Bounded(ctx)
	defer cancel()
	policy, err := evictionPolicy(limited, client)
	switch {
	case err != nil:
		log.InfoContext(ctx, "redis: the eviction policy can't be read", "error", err)
	case policy != "noeviction":
		log.WarnContext(ctx, "redis may evict locks and challenges: set maxmemory-policy to noeviction",
			"maxmemory_policy", policy)
	}
}

func evictionPolicy(ctx context.Context, client redis.UniversalClient) (string, error) {
	info, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return "", Unavailable(err)
	}
	for line := range strings.Lines(info) {
		if policy, ok := strings.CutPrefix(line, "maxmemory_policy:"); ok {
			return strings.TrimSpace(policy), nil
		}
	}
	return "", errors.New("redisx: INFO memory has no maxmemory_policy")
}

// LogTo sends go-redis's own log lines, which it prints on stderr by default, to
// log at debug level: the breaker logs outages itself. It is process-wide; call it
// once, from main.
func LogTo(log *slog.Logger) { redis.SetLogger(clientLog{log}) }

type clientLog struct{ log *slog.Logger }

func (l clientLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, v...))
}
