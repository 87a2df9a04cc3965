// Package app wires the wallet service: read New to see what depends on what.
package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/proto/access"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/proto/revocations"
	"github.com/purserhq/purser/services/wallet/internal/chain"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/llama"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/rpc"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/sync"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/tokenlist"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// App is the wallet service, listening but not yet answering.
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
	db, err := postgres.Open(ctx, cfg.Database.Options("purser-wallet", log))
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	g.Close("database", db.Close)
	redis, err := redisx.New(redisx.Options{URL: cfg.RedisURL.Reveal(), Name: "purser-wallet", Log: log})
	if err != nil {
		return nil, fmt.Errorf("open Redis: %w", err)
	}
	g.Close("redis", redis.Close)
	nodes, err := chain.NewReader(chain.Options{Nodes: cfg.ChainRPCURLs, Chunk: cfg.BalancesPerCall, Log: log,
		Now: time.Now})
	if err != nil {
		return nil, fmt.Errorf("PURSER_CHAIN_RPC_URLS: %w", err)
	}
	g.Close("chain", nodes.Close)
	feed, err := llama.New(cfg.PriceURL.Reveal(), cfg.PriceChains, time.Now)
	if err != nil {
		return nil, err
	}
	keys := authn.NewRemoteKeys(cfg.Tokens.KeySetURL(), log)
	g.Close("keys", keys.Close)
	revoked, err := follow(g, cfg.Auth, keys, log)
	if err != nil {
		return nil, err
	}

	caches := store.NewCaches(redis, store.CacheOptions{Wallets: cfg.Cache.Wallets, Token: cfg.Cache.Token, Log: log})
	g.Close("caches", func() error { caches.Close(); return nil })
	quotes := cache.New[price.Quote](redis, cache.Namespace{Service: "wallet", Entity: "price", Schema: 1},
		cache.Options{TTL: cfg.Price.Refresh, Budget: store.CacheBudget, Log: log})
	g.Close("price cache", func() error { quotes.Close(); return nil })
	g.Loop("cache outbox", cache.NewOutbox(db, redis, log).Serve)
	tokens, wallets := store.NewTokens(db, caches), store.NewWallets(db, caches)
	locks := lock.New(redis, lock.Options{Prefix: "purser:wallet", Unfenced: true, Log: log})
	g.Close("locks", func() error { locks.Close(); return nil })
	prices := price.NewService(store.NewPrices(db, tokens), feed, quotes, cfg.Price, log, time.Now)

	server, err := grpcserver.New(cfg.GRPC, grpcserver.Deps{
		Rules:     access.Lookup,
		Verifier:  authn.NewVerifier(keys, authn.Options{Issuer: cfg.Tokens.Issuer, Revoked: revoked.Revoked}),
		Log:       log,
		Translate: postgres.Translate,
	})
	if err != nil {
		return nil, err
	}
	rules := wallet.NewService(wallets, time.Now)
	walletv1.RegisterWalletServiceServer(server,
		rpc.NewWalletServer(rules, sync.NewService(wallets, tokens, nodes, time.Now)))
	walletv1.RegisterBalanceServiceServer(server, rpc.NewBalanceServer(rules))
	walletv1.RegisterTokenServiceServer(server, rpc.NewTokenServer(tokens))
	walletv1.RegisterPriceServiceServer(server, rpc.NewPriceServer(prices))
	walletv1.RegisterHoldingsServiceServer(server, rpc.NewHoldingsServer(
		holding.NewService(wallets, prices, time.Now),
		history.NewService(store.NewHistory(db), tokens, nodes, feed, store.NewLocks(locks), cfg.Price.Stale, log,
			time.Now)))
	runner, err := runJobs(g, db, sync.NewRound(wallets, tokens, nodes, cfg.SyncEvery, cfg.BalancesPerCall, log,
		time.Now), cfg, log)
	if err != nil {
		return nil, err
	}
	walletv1.RegisterAdminServiceServer(server, rpc.NewAdminServer(runner, log))

	a := &App{group: g}
	if a.grpc, err = server.Listen(ctx, g); err != nil {
		return nil, err
	}
	if err := listTokens(ctx, g, cfg.TokenList, tokens, log); err != nil {
		return nil, err
	}
	return a, server.Check()
}

// listTokens reads the token list at once, since a mistake in it should stop
// the start, and stores it: now, or when the database answers again.
func listTokens(ctx context.Context, g *lifecycle.Group, path string, tokens token.Store, log *slog.Logger) error {
	if path == "" {
		log.Warn("no token list is set (PURSER_TOKEN_LIST): only tokens known before are synced")
		return nil
	}
	list, err := tokenlist.Read(path)
	if err != nil {
		return fmt.Errorf("PURSER_TOKEN_LIST: %w", err)
	}
	store := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		return tokens.Put(ctx, list)
	}
	if err := store(ctx); err == nil {
		return nil
	}
	g.Loop("token list", func(ctx context.Context) error {
		for tick := time.NewTicker(time.Second); ; {
			err := store(ctx)
			if err == nil {
				tick.Stop()
				<-ctx.Done()
				return nil
			}
			log.Warn("the token list could not be stored yet", "error", err)
			select {
			case <-ctx.Done():
				tick.Stop()
				return nil
			case <-tick.C:
			}
		}
	})
	return nil
}

// follow hears from auth what was revoked, when it is told where auth is.
func follow(g *lifecycle.Group, auth grpcclient.Config, keys *authn.RemoteKeys, log *slog.Logger) (*authn.Revocations,
	error) {
	revoked := authn.NewRevocations(keys.Refetch, log)
	if auth.Addr == "" {
		log.Warn("PURSER_AUTH_ADDR is not set: tokens that were revoked are good until they expire")
		return revoked, nil
	}
	conn, err := grpcclient.Dial(auth, access.Idempotent(authv1.TokenService_ServiceDesc.ServiceName))
	if err != nil {
		return nil, fmt.Errorf("PURSER_AUTH_ADDR: %w", err)
	}
	g.Close("auth client", conn.Close)
	g.Loop("revocations", func(ctx context.Context) error { return revoked.Follow(ctx, revocations.Watch(conn)) })
	return revoked, nil
}

// Run serves until ctx ends, then stops in order and closes everything.
func (a *App) Run(ctx context.Context) error { return a.group.Run(ctx) }

// Addr is where gRPC listens, host:port.
func (a *App) Addr() string { return a.grpc.String() }

// Program is the service's main.
func Program() process.Service[Config] {
	return process.Service[Config]{
		Name: "wallet", Load: Load,
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
	return postgres.Migrations{Service: "purser-wallet", Files: migrations.FS}
}
