// Package redisx opens the client that locks, caches and challenges share:
// one Redis server or a Redis Cluster, behind a circuit breaker.
//
// Promise: a Redis that is away or hangs costs a caller little and is noticed
// soon. There are no hidden retries; every step has a short timeout; after
// five failures in a row a node's breaker opens, commands then fail without
// touching the network, and one command every 500 ms probes. A redis.Nil, an
// error that the server answered and a cancelled caller are no failures. No
// password gets into an error or a span, and no statement into a span.
//
// Limits: a probe is a caller's command, so a client that nobody uses doesn't
// notice that Redis is back until it is used. Pub/sub and blocking commands
// bypass or would trip the breaker and belong on a client of their own
// ([Options.Subscriber]).
//
// Source: Nygard, "Release It!" (circuit breaker); go-redis and failsafe-go
// documentation.
package redisx

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
	"go.opentelemetry.io/otel/trace"
)

// Budget is what one whole operation of the lock and cache packages may spend
// on Redis, however many steps it takes.
const Budget = 50 * time.Millisecond

// Options says which Redis to use. Zero values take the defaults named.
type Options struct {
	// URL is redis://user:password@host:port/db, or rediss:// for TLS. With
	// one or more ?addr=host:port, or with ?cluster=true, it is a Cluster.
	URL string
	// Name is shown by CLIENT LIST.
	Name     string
	PoolSize int // 20 for each node
	// Timeout bounds each step: dialling, waiting for the pool, a write, a
	// read. Budget.
	Timeout time.Duration

	// Subscriber makes a client for pub/sub: no breaker, no read timeout but
	// the caller's.
	Subscriber bool

	// Log receives one line for each time a breaker opens or closes.
	Log *slog.Logger
	// TracerProvider is otel's global one when nil. A command has a span when
	// its context belongs to a trace that is recorded.
	TracerProvider trace.TracerProvider
}

// errURL carries nothing of the URL: a malformed one can't be masked.
var errURL = errors.New("redisx: the Redis URL is malformed; it should read redis://user:password@host:port/0, with " +
	"?addr=host:port for each further node of a Cluster")

// CheckURL reports a URL that New refuses, without any part of it.
func CheckURL(address string) error {
	c, err := New(Options{URL: address})
	if err != nil {
		return err
	}
	return c.Close()
}

// New makes a client. It doesn't reach the server: a service starts while
// Redis is away. Close the client when done.
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
	u, err := url.Parse(o.URL)
	if err != nil || !strings.HasPrefix(u.Scheme, "redis") && u.Scheme != "unix" {
		return nil, errURL
	}
	q := u.Query()
	cluster := q.Has("addr") || q.Get("cluster") == "true"
	q.Del("cluster")
	u.RawQuery = q.Encode()
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
	circuit := newBreaker(node.Addr, o.Log)
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

// HashTag returns id in braces, which keeps the keys that hold it in one slot
// of a Cluster. Different ids have different tags, whatever is in them: a brace
// that would end the tag early is written as %7D, and an empty tag, which would
// be none, as {%}.
func HashTag(id string) string { return Key("", id) }

// Key returns prefix and the [HashTag] of id. The prefix has no braces.
func Key(prefix, id string) string {
	switch {
	case id == "":
		id = "%"
	case strings.ContainsAny(id, "}%"):
		id = strings.NewReplacer("%", "%25", "}", "%7D").Replace(id)
	}
	return prefix + "{" + id + "}"
}

// EvictionPolicy returns the server's maxmemory-policy and whether it may
// remove keys that have no expiry due, locks among them. Services call it at
// start and warn.
func EvictionPolicy(ctx context.Context, client redis.UniversalClient) (policy string, evicts bool, err error) {
	info, err := client.Info(ctx, "memory").Result()
	if err != nil {
		return "", false, Unavailable(err)
	}
	for line := range strings.Lines(info) {
		if value, ok := strings.CutPrefix(line, "maxmemory_policy:"); ok {
			policy = strings.TrimSpace(value)
		}
	}
	return policy, policy != "noeviction" && policy != "", nil
}

// LogTo sends what go-redis itself has to say, which by default it prints on
// stderr, to log at debug level: the breaker's lines tell what matters. It is
// process-wide; call it once, from main.
func LogTo(log *slog.Logger) { redis.SetLogger(clientLog{log}) }

type clientLog struct{ log *slog.Logger }

func (l clientLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client", "says", fmt.Sprintf(format, v...))
}
