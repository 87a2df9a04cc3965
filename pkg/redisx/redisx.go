// Package redisx opens the client that locks, caches and challenges share:
// one Redis server, the primary that Redis Sentinel names, or a Redis Cluster,
// behind a circuit breaker.
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
	"crypto/tls"
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
	// URL is redis://user:password@host:port/db. With one or more ?addr=host:port,
	// or with ?cluster=true, it is a Cluster.
	//
	// redis+sentinel://user:password@host:port/db?master_name=name is the primary
	// that Sentinels name; &addr=host:port is each further Sentinel. User and
	// password are those of the primary; the Sentinels' own are the parameters
	// sentinel_username and sentinel_password.
	//
	// rediss:// and rediss+sentinel:// are TLS, for which ca_file is the path of
	// the authority's certificates in PEM, in place of the system's. dial_timeout
	// and pool_size set the fields of this struct. Any other parameter is an error.
	URL string
	// Name is shown by CLIENT LIST.
	Name     string
	PoolSize int // 20 for each node
	// Timeout bounds each step: waiting for a place in the pool, a write, a read;
	// Budget.
	Timeout time.Duration
	// DialTimeout bounds connecting, with the TLS handshake: 1 s, or Timeout if that
	// is longer. Connecting goes on in the background when the context of the command
	// that needed it has ended, so that it may take longer than a command.
	DialTimeout time.Duration

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

// CheckURL returns New's error for a URL, but reads no file. It contains no secret:
// of the URL only the names of parameters and the path of ca_file.
func CheckURL(address string) error {
	_, err := parse(address)
	return err
}

// CheckFiles returns an error when the file that a URL names can't be used. It
// returns nil for a URL that CheckURL refuses.
func CheckFiles(address string) error {
	t, err := parse(address)
	if err != nil {
		return nil //nolint:nilerr // CheckURL's to report
	}
	_, err = t.tlsConfig()
	return err
}

// New makes a client. It doesn't connect, so that a service can start while Redis
// is down. Close the client when done.
func New(o Options) (redis.UniversalClient, error) {
	t, err := parse(o.URL)
	if err != nil {
		return nil, err
	}
	secured, err := t.tlsConfig()
	if err != nil {
		return nil, err
	}
	o = t.apply(o).withDefaults()
	switch t.kind {
	case cluster:
		return newCluster(t, secured, o), nil
	case sentinels:
		return newFailover(t, secured, o), nil
	case single:
	}
	return newNode(t.node(secured), o), nil
}

func (o Options) withDefaults() Options {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.PoolSize == 0 {
		o.PoolSize = 20
	}
	if o.Timeout == 0 {
		o.Timeout = Budget
	}
	if o.DialTimeout == 0 {
		o.DialTimeout = max(time.Second, o.Timeout)
	}
	return o
}

func newCluster(t target, secured *tls.Config, o Options) *redis.ClusterClient {
	password, _ := t.user.Password()
	o.inCluster = true
	return redis.NewClusterClient(&redis.ClusterOptions{
		Addrs: t.addresses, Username: t.user.Username(), Password: password, TLSConfig: secured,
		MaxRedirects:          3, // MOVED and ASK while slots move are no failures
		ContextTimeoutEnabled: true,
		NewClient:             func(node *redis.Options) *redis.Client { return newNode(node, o) },
	})
}

// newFailover makes a client of the primary that Sentinels name. They are asked
// for each new connection, and tell of a failover by pub/sub, upon which the
// connections to the old primary are closed.
func newFailover(t target, secured *tls.Config, o Options) *redis.Client {
	n := bounded(t.node(secured), o)
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: t.masterName, SentinelAddrs: t.addresses,
		SentinelUsername: t.sentinelUsername, SentinelPassword: t.sentinelPassword,
		Username: n.Username, Password: n.Password, DB: n.DB, TLSConfig: secured,
		ClientName: n.ClientName, PoolSize: n.PoolSize, MaxRetries: n.MaxRetries, DialerRetries: n.DialerRetries,
		ContextTimeoutEnabled: n.ContextTimeoutEnabled, DialTimeout: n.DialTimeout, ReadTimeout: n.ReadTimeout,
		WriteTimeout: n.WriteTimeout, PoolTimeout: n.PoolTimeout, ConnMaxIdleTime: n.ConnMaxIdleTime,
		DisableIdentity: n.DisableIdentity,
	})
	return guarded(client, t.name(), o)
}

func newNode(node *redis.Options, o Options) *redis.Client {
	return guarded(redis.NewClient(bounded(node, o)), node.Addr, o)
}

// bounded sets the limits of a node's client.
func bounded(node *redis.Options, o Options) *redis.Options {
	node.ClientName = o.Name
	node.PoolSize = o.PoolSize
	node.MaxRetries = -1
	node.DialerRetries = 1
	node.ContextTimeoutEnabled = true
	// The pool dials in the background: a caller waits for it no longer than its
	// context lets it, and the next one finds the connection.
	node.DialTimeout = o.DialTimeout
	node.ReadTimeout = o.Timeout
	node.WriteTimeout = o.Timeout
	node.PoolTimeout = o.Timeout
	node.ConnMaxIdleTime = 5 * time.Minute
	node.DisableIdentity = true
	node.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return node
}

// guarded puts the breaker and the metrics around a client. name is shown by them.
func guarded(client *redis.Client, name string, o Options) *redis.Client {
	if o.Subscriber {
		return client
	}
	circuit := newBreaker(name, !o.inCluster, o.Log)
	client.AddHook(hook{newObserver(client, name, circuit, o.TracerProvider), circuit})
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

// ID returns the id of which [Key] with prefix made key. It returns false for a key that
// it did not make.
func ID(prefix, key string) (string, bool) {
	id, begins := strings.CutPrefix(key, prefix+"{")
	id, ends := strings.CutSuffix(id, "}")
	switch {
	case !begins || !ends || id == "" || strings.Contains(id, "}"):
		return "", false
	case id == "%":
		return "", true
	case strings.Contains(id, "%"):
		id = strings.NewReplacer("%25", "%", "%7D", "}").Replace(id)
	}
	return id, Key(prefix, id) == key
}

// LogTo sends go-redis's own log lines, which it prints on stderr by default, to
// log at debug level: the breaker logs outages itself. It is process-wide; call it
// once, from main.
func LogTo(log *slog.Logger) { redis.SetLogger(clientLog{log}) }

type clientLog struct{ log *slog.Logger }

func (l clientLog) Printf(ctx context.Context, format string, v ...any) {
	l.log.DebugContext(ctx, "redis client", "message", fmt.Sprintf(format, v...))
}
