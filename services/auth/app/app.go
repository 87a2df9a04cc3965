// Package app wires the auth service: read New to see what depends on what.
package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/pkg/redisx"
	"github.com/purserhq/purser/proto/access"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/admin"
	"github.com/purserhq/purser/services/auth/internal/apikey"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/auth/internal/identity"
	"github.com/purserhq/purser/services/auth/internal/password"
	"github.com/purserhq/purser/services/auth/internal/revocation"
	"github.com/purserhq/purser/services/auth/internal/role"
	"github.com/purserhq/purser/services/auth/internal/rpc"
	"github.com/purserhq/purser/services/auth/internal/serviceaccount"
	"github.com/purserhq/purser/services/auth/internal/session"
	"github.com/purserhq/purser/services/auth/internal/signing"
	"github.com/purserhq/purser/services/auth/internal/store"
	"github.com/purserhq/purser/services/auth/internal/totp"
	"github.com/purserhq/purser/services/auth/internal/web"
	"github.com/purserhq/purser/services/auth/migrations"
)

// App is the auth service, listening but not yet answering.
type App struct {
	group  *lifecycle.Group
	server *grpcserver.Server
	grpc   net.Addr
	http   net.Listener
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
	db, err := postgres.Open(ctx, cfg.Database.Options("purser-auth", log))
	if err != nil {
		return nil, fmt.Errorf("open database: %w", err)
	}
	g.Close("database", db.Close)
	redis, err := redisx.New(redisx.Options{URL: cfg.RedisURL.Reveal(), Name: "purser-auth", Log: log})
	if err != nil {
		return nil, fmt.Errorf("open Redis: %w", err)
	}
	g.Close("redis", redis.Close)
	users := cache.New[account.User](redis, usersNamespace(), cache.Options{TTL: cfg.Cache.User, Log: log})
	g.Close("user cache", func() error { users.Close(); return nil })
	g.Loop("cache outbox", cache.NewOutbox(db, redis, log).Serve)

	sealer, err := cfg.sealer()
	if err != nil {
		return nil, err
	}
	ring := signing.NewRing(cfg.Issuer, cfg.policy(), store.NewKeys(db), sealer, log)
	sets := store.NewKeySets(redis)
	ring.Share(sets)
	first, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if err := ring.Refresh(first); err != nil {
		log.Warn("the key ring can't be read yet", "error", err)
	}
	g.Loop("key ring", ring.Keep)
	feed := revocation.NewFeed(cfg.Issuer, cfg.revocations(), store.NewRevocations(db), ring.Wake, log)
	if err := feed.Read(first); err != nil {
		log.Warn("revocations can't be read yet", "error", err)
	}
	g.Loop("revocations", feed.Keep)
	rotator := signing.NewRotator(cfg.Issuer, cfg.policy(), store.NewKeys(db), sealer, log)
	rotator.Notify(ring.Wake)
	rotator.Share(sets)
	mails := store.NewMails(db)
	post, err := newPost(g, mails, cfg.Mail, log)
	if err != nil {
		return nil, err
	}
	runner, err := runJobs(g, db, rotator, mails, post, cfg, log)
	if err != nil {
		return nil, err
	}
	hasher, err := password.New(cmp.Or(cfg.HashesAtOnce, password.AtOnce()))
	if err != nil {
		return nil, err
	}
	events := store.NewAudit(db)
	factors := totp.NewService(store.NewSecondFactors(db), sealer, cfg.TOTPName)
	people := store.NewAccounts(db, users, mails)
	accounts, err := newAccounts(people, hasher, events, cfg)
	if err != nil {
		return nil, err
	}
	sessions := session.NewService(session.Deps{
		Store: store.NewSessions(db), Signer: ring, Passwords: hasher, SecondFactor: factors, Audit: events,
		Now: time.Now,
	}, cfg.Session)

	identities := identity.NewService(store.NewIdentities(people), time.Now)
	elsewhere := newOAuth(cfg, redis, identities, sessions, events)
	wallets := newWallets(cfg, redis, identities, sessions, events, log)
	limiter, err := attempts.New(cfg.Attempts, store.NewAttempts(redis), time.Now)
	if err != nil {
		return nil, err
	}

	verifier := authn.NewVerifier(ring, authn.Options{Issuer: cfg.Issuer, Revoked: feed.Revoked})
	server, err := grpcserver.New(cfg.GRPC, grpcserver.Deps{
		Rules:     access.Lookup,
		Verifier:  verifier,
		Log:       log,
		Translate: postgres.Translate,
		Context:   rpc.WithClient(verifier),
	})
	if err != nil {
		return nil, err
	}
	floor := rpc.NewFloor(cfg.Floor)
	services := serviceaccount.NewService(store.NewServiceAccounts(db), ring, events, time.Now)
	authv1.RegisterAccountServiceServer(server, rpc.NewAccountServer(accounts, limiter, floor))
	authv1.RegisterSessionServiceServer(server,
		rpc.NewSessionServer(sessions, factors, services, limiter, floor,
			rpc.SignInMethods{OAuth: elsewhere, Wallets: wallets}))
	authv1.RegisterIdentityServiceServer(server, rpc.NewIdentityServer(identities, wallets, limiter))
	keys := apikey.NewService(store.NewAPIKeys(db), ring, events, time.Now)
	authv1.RegisterTokenServiceServer(server,
		rpc.NewTokenServer(ring, verifier, sessions, keys, services, feed, cfg.Revocations.StreamsPerAddress))
	authv1.RegisterApiKeyServiceServer(server, rpc.NewAPIKeyServer(keys, limiter))
	authv1.RegisterAdminServiceServer(server, rpc.NewAdminServer(rpc.AdminDeps{
		Rotator: rotator, Users: admin.NewService(store.NewAdmin(people)), ServiceAccounts: services, Jobs: runner,
		Events: events, Recorder: events,
	}))

	a := &App{group: g, server: server}
	if a.grpc, err = server.Listen(ctx, g); err != nil {
		return nil, err
	}
	if a.http, err = new(net.ListenConfig).Listen(ctx, "tcp", cfg.HTTPAddr); err != nil {
		return nil, fmt.Errorf("PURSER_HTTP_ADDR: %w", err)
	}
	g.Close("http listener", a.http.Close)
	hosted, err := pages(cfg, web.Handler(cfg.Issuer, ring), elsewhere, limiter, log)
	if err != nil {
		return nil, err
	}
	a.serveHTTP(hosted)
	return a, server.Check()
}

func (a *App) serveHTTP(h http.Handler) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10}
	a.group.Serve("http", func() error {
		if err := s.Serve(a.http); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	a.group.Drain("http", func(ctx context.Context) {
		if s.Shutdown(ctx) != nil {
			_ = s.Close() // the limit is up: what is still open is cut
		}
	})
}

// Run serves until ctx ends, then stops in order and closes everything.
func (a *App) Run(ctx context.Context) error { return a.group.Run(ctx) }

// Addr is where gRPC listens, host:port.
func (a *App) Addr() string { return a.grpc.String() }

// HTTPAddr is where the key set is served, host:port.
func (a *App) HTTPAddr() string { return a.http.Addr().String() }

// Program is the service's main.
func Program() process.Service[Config] {
	return process.Service[Config]{
		Name: "auth", Load: Load,
		Process: func(c Config) process.Config { return c.Process },
		Check:   func(c Config) error { return c.GRPC.Check() },
		New: func(ctx context.Context, c Config, log *slog.Logger) (process.Runner, error) {
			a, err := New(ctx, c, log)
			if err != nil {
				return nil, err
			}
			log.InfoContext(ctx, "serving", "grpc", a.Addr(), "http", a.HTTPAddr())
			return a, nil
		},
		Migrate: func(ctx context.Context, c Config, what string, out io.Writer, log *slog.Logger) error {
			return Migrations().Command(ctx, c.Database, what, out, log)
		},
		Health:  func(ctx context.Context, c Config) error { return grpcserver.CheckHealth(ctx, c.GRPC) },
		Command: Command, Usage: Usage,
	}
}

// Role is one that an account can have, and what it permits.
type Role struct {
	Name        string
	Permissions []string
}

// Roles are all of them, the most powerful first.
func Roles() []Role {
	var all []Role
	for _, name := range role.Names() {
		all = append(all, Role{name, role.Permissions([]string{name})})
	}
	return all
}

// Migrations of the service's schema, as `migrate` and a test's template
// apply them.
func Migrations() postgres.Migrations {
	return postgres.Migrations{Service: "purser-auth", Files: migrations.FS}
}
