// Package chassis is the skeleton that the services of the suite share: the
// commands of a program, the common configuration, the database and Redis, the gRPC
// server, the client of auth, and scheduled jobs.
//
// Promise: a service that is built with it opens its parts in one order and
// closes them in the reverse order, also when building it fails half-way; its process
// runs while Postgres, Redis or auth is unavailable, and is ready as soon as what it
// can't work without has worked once, see package startup; its server has the access
// rules of the contracts; its jobs are shown and triggered by
// purser.jobs.v1.JobService; what it depends on is watched and shown by
// purser.status.v1.StatusService.
//
// Limits: it is for the services of this repository alone. Another team's
// service builds on pkg, as docs/protect-your-service.md shows.
package chassis

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/proto/access"
	statusv1 "github.com/purserhq/purser/proto/gen/purser/status/v1"
	"github.com/purserhq/purser/services/internal/dependency"
	"github.com/purserhq/purser/services/internal/startup"
)

// Builder holds the open parts of a service while it is built. Use it from one
// goroutine.
type Builder struct {
	// Group starts and stops the parts; add the service's own to it.
	Group *lifecycle.Group
	DB    *postgres.DB
	Redis redis.UniversalClient
	Log   *slog.Logger

	cfg     Config
	name    string
	started time.Time
	watcher *dependency.Watcher
	gate    *startup.Gate
	// usersRevoked has a signal since a user was revoked.
	usersRevoked chan struct{}
}

// Open opens the database and Redis of a service with this name, for example
// "wallet", and adds the sweeper of its cache outbox. Both may be unreachable. The
// service isn't ready before the database has the schema of these migrations. It logs a
// warning when Redis may evict keys, as soon as Redis answers. The caller defers
// CloseOnError.
func Open(ctx context.Context, name string, migrations fs.FS, cfg Config, log *slog.Logger) (*Builder, error) {
	gate := startup.New(log)
	b := &Builder{Group: lifecycle.New(cfg.Shutdown, log), Log: log, cfg: cfg, name: name, started: time.Now(),
		watcher: dependency.NewWatcher(log, gate.Fails), gate: gate, usersRevoked: make(chan struct{}, 1)}
	db, err := postgres.Open(ctx, cfg.Database.Options(qualified(name), log))
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	b.DB = db
	b.Group.Close("database", db.Close)
	b.Redis, err = redisx.New(redisx.Options{URL: cfg.RedisURL.Reveal(), Name: qualified(name), Log: log})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open Redis: %w", err), b.Group.CloseAll())
	}
	b.Group.Close("redis", b.Redis.Close)
	b.needDatabase(ctx, migrations)
	b.Group.Loop("eviction policy of Redis", func(ctx context.Context) error {
		return redisx.WarnOfEviction(ctx, b.Redis, log)
	})
	b.Loop("cache outbox", cache.NewOutbox(db, b.Redis, log).Serve)
	if err := b.watchDatabaseAndRedis(); err != nil {
		return nil, errors.Join(err, b.Group.CloseAll())
	}
	return b, nil
}

// OpenRedis opens another client of the service's Redis, for what may wait for it: each step
// may take timeout, where those of Builder.Redis take redisx.Budget. purpose is shown
// by CLIENT LIST.
func (b *Builder) OpenRedis(purpose string, timeout time.Duration) (redis.UniversalClient, error) {
	client, err := redisx.New(redisx.Options{URL: b.cfg.RedisURL.Reveal(), Name: qualified(b.name) + "-" + purpose,
		Timeout: timeout, Log: b.Log})
	if err != nil {
		return nil, fmt.Errorf("open Redis for %s: %w", purpose, err)
	}
	b.Group.Close("redis for "+purpose, client.Close)
	return client, nil
}

// TrackCaches returns what a cache's Options.Local needs to keep values in memory, and
// runs it with the service. It is for values that may be read up to cache.LocalBound after
// they were invalidated.
func (b *Builder) TrackCaches() *cache.Tracker {
	t := cache.NewTracker(b.Redis, b.name, b.Log)
	b.Loop("local caches", t.Serve)
	return t
}

// CloseOnError closes everything that was opened, last opened first, when *err
// is not nil, and joins the errors of closing to it.
func (b *Builder) CloseOnError(err *error) {
	if *err != nil {
		*err = errors.Join(*err, b.Group.CloseAll())
	}
}

// OnClose adds a function that closes a part of the service, named for errors.
func (b *Builder) OnClose(part string, closePart func()) {
	b.Group.Close(part, func() error { closePart(); return nil })
}

// NewServer returns a gRPC server with the access rules of the contracts, on
// which nothing is registered yet. callContext adds to the context of each call;
// nil adds nothing.
func (b *Builder) NewServer(verifier grpcserver.Verifier,
	callContext func(context.Context) context.Context) (*grpcserver.Server, error) {
	return grpcserver.New(b.cfg.GRPC, grpcserver.Deps{
		Rules:     access.Lookup,
		Verifier:  verifier,
		Log:       b.Log,
		Translate: postgres.Translate,
		Context:   callContext,
		Starting:  b.gate.Err,
	})
}

// App is a service that listens. It answers calls once Run is called.
type App struct {
	group *lifecycle.Group
	addr  net.Addr
}

// Listen makes the server a part of the service and returns the service. Register
// everything on the server before; Listen adds purser.status.v1.StatusService. It
// fails when a registered method has no access rule.
func (b *Builder) Listen(ctx context.Context, server *grpcserver.Server) (*App, error) {
	statusv1.RegisterStatusServiceServer(server, &statusServer{service: b.name, started: b.started,
		watcher: b.watcher})
	b.Group.Loop("dependency checks", b.watcher.Watch)
	if err := server.Check(); err != nil {
		return nil, err
	}
	b.tryToStart(ctx)
	b.Group.Loop("startup", func(ctx context.Context) error { return b.gate.Run(ctx, server.Ready) })
	addr, err := server.Listen(ctx, b.Group)
	if err != nil {
		return nil, err
	}
	return &App{group: b.Group, addr: addr}, nil
}

// Run serves until ctx ends, then stops the parts in order and closes them.
func (a *App) Run(ctx context.Context) error { return a.group.Run(ctx) }

// Addr is where gRPC listens, host:port.
func (a *App) Addr() string { return a.addr.String() }

// Listeners are the addresses that the service listens on, as attributes of the
// line that is logged at start.
func (a *App) Listeners() []any { return []any{"grpc", a.Addr()} }

// qualified is the name of a service for database connections and Redis clients,
// which other products may share.
func qualified(name string) string { return "purser-" + name }
