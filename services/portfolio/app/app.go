// Package app wires the portfolio service: read New to see what depends on
// what.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"time"
	_ "time/tzdata" // time zones, also where the system has none

	"google.golang.org/grpc"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/proto/access"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/proto/revocations"
	"github.com/purserhq/purser/services/portfolio/internal/holdings"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/rpc"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

// App is the portfolio service, listening but not yet answering.
type App struct {
	group *lifecycle.Group
	grpc  net.Addr
}

// New builds the service from cfg. Whatever it opened is closed again, in
// reverse, when New itself fails half-way; otherwise Run closes it.
func New(ctx context.Context, cfg Config, log *slog.Logger) (_ *App, err error) {
	g := lifecycle.New(cfg.Shutdown, log)
	defer func() {
		if err != nil {
			err = errors.Join(err, g.CloseAll())
		}
	}()
	db, err := postgres.Open(ctx, cfg.Database.Options("purser-portfolio", log))
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	g.Close("database", db.Close)
	redis, err := redisx.New(redisx.Options{URL: cfg.RedisURL.Reveal(), Name: "purser-portfolio", Log: log})
	if err != nil {
		return nil, fmt.Errorf("open Redis: %w", err)
	}
	g.Close("redis", redis.Close)
	wallet, err := grpcclient.Dial(cfg.Wallet, access.Idempotent(walletv1.HoldingsService_ServiceDesc.ServiceName))
	if err != nil {
		return nil, err
	}
	g.Close("wallet client", wallet.Close)
	keys := authn.NewRemoteKeys(cfg.Tokens.KeySetURL(), log)
	g.Close("keys", keys.Close)
	auth, err := dialAuth(g, cfg.Auth)
	if err != nil {
		return nil, err
	}
	revoked := follow(g, auth, keys, log)

	caches := store.NewCaches(redis, store.CacheOptions{Portfolio: cfg.Cache.Portfolio, Timeline: cfg.Cache.Timeline,
		Log: log})
	g.Close("caches", func() error { caches.Close(); return nil })
	g.Loop("cache outbox", cache.NewOutbox(db, redis, log).Serve)
	snaps := store.NewSnapshots(db, caches)
	kept := store.NewPortfolios(db, caches)
	reader := holdings.NewReader(walletv1.NewHoldingsServiceClient(wallet))
	portfolios := portfolio.NewService(kept, snaps, reader, valuations(g, redis, cfg.Cache.Valuation, log), time.Now)

	server, err := grpcserver.New(cfg.GRPC, grpcserver.Deps{
		Rules:     access.Lookup,
		Verifier:  authn.NewVerifier(keys, authn.Options{Issuer: cfg.Tokens.Issuer, Revoked: revoked.Revoked}),
		Log:       log,
		Translate: postgres.Translate,
	})
	if err != nil {
		return nil, err
	}
	taker := snapshot.NewService(snaps, portfolios, reader, log, time.Now)
	portfoliov1.RegisterPortfolioServiceServer(server,
		rpc.NewPortfolioServer(portfolios, taker, timeline.NewService(snaps, time.Now)))
	runner, err := runJobs(g, db, auth, kept, taker, cfg, log)
	if err != nil {
		return nil, err
	}
	portfoliov1.RegisterAdminServiceServer(server, rpc.NewAdminServer(runner, log))

	a := &App{group: g}
	if a.grpc, err = server.Listen(ctx, g); err != nil {
		return nil, err
	}
	return a, server.Check()
}

// valuations caches them, unless ttl is 0.
func valuations(g *lifecycle.Group, r cache.Redis, ttl time.Duration,
	log *slog.Logger) *cache.Cache[valuation.Valuation] {
	if ttl == 0 {
		return nil
	}
	c := cache.New[valuation.Valuation](r, cache.Namespace{Service: "portfolio", Entity: "valuation", Schema: 1},
		cache.Options{TTL: ttl, LoadTimeout: portfolio.ValuationLoadTimeout, Budget: store.CacheBudget, Log: log})
	g.Close("valuation cache", func() error { c.Close(); return nil })
	return c
}

// dialAuth connects to auth; nil when it is not told where that is.
func dialAuth(g *lifecycle.Group, c grpcclient.Config) (*grpc.ClientConn, error) {
	if c.Addr == "" {
		return nil, nil //nolint:nilnil // no connection is what there is
	}
	conn, err := grpcclient.Dial(c, slices.Concat(
		access.Idempotent(authv1.TokenService_ServiceDesc.ServiceName),
		access.Idempotent(authv1.SessionService_ServiceDesc.ServiceName)))
	if err != nil {
		return nil, fmt.Errorf("PURSER_AUTH_ADDR: %w", err)
	}
	g.Close("auth client", conn.Close)
	return conn, nil
}

// follow hears from auth what was revoked, when it is told where auth is.
func follow(g *lifecycle.Group, auth *grpc.ClientConn, keys *authn.RemoteKeys, log *slog.Logger) *authn.Revocations {
	revoked := authn.NewRevocations(keys.Refetch, log)
	if auth == nil {
		log.Warn("PURSER_AUTH_ADDR is not set: tokens that were revoked are good until they expire")
		return revoked
	}
	g.Loop("revocations", func(ctx context.Context) error { return revoked.Follow(ctx, revocations.Watch(auth)) })
	return revoked
}

// Run serves until ctx ends, then stops in order and closes everything.
func (a *App) Run(ctx context.Context) error { return a.group.Run(ctx) }

// Addr is where gRPC listens, host:port.
func (a *App) Addr() string { return a.grpc.String() }

// Program is the service's main.
func Program() process.Service[Config] {
	return process.Service[Config]{
		Name: "portfolio", Load: Load,
		Process: func(c Config) process.Config { return c.Process },
		Check:   check,
		New: func(ctx context.Context, c Config, log *slog.Logger) (process.Runner, error) {
			a, err := New(ctx, c, log)
			if err != nil {
				return nil, err
			}
			log.InfoContext(ctx, "serving", "grpc", a.Addr())
			return a, nil
		},
		Migrate: func(ctx context.Context, c Config, what string, out io.Writer, log *slog.Logger) error {
			return Migrations().Command(ctx, c.Database, what, out, log)
		},
		Health: func(ctx context.Context, c Config) error { return grpcserver.CheckHealth(ctx, c.GRPC) },
	}
}

// Migrations of the service's schema, as `migrate` and a test's template
// apply them.
func Migrations() postgres.Migrations {
	return postgres.Migrations{Service: "purser-portfolio", Files: migrations.FS}
}
