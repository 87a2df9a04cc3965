// Package app wires the auth service: read New to see what depends on what.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
	_ "time/tzdata" // time zones, also where the system has none

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/pkg/redisx"
	authv1 "github.com/purserhq/purser/proto/gen/purser/auth/v1"
	"github.com/purserhq/purser/services/auth/internal/account"
	"github.com/purserhq/purser/services/auth/internal/admin"
	"github.com/purserhq/purser/services/auth/internal/apikey"
	"github.com/purserhq/purser/services/auth/internal/attempts"
	"github.com/purserhq/purser/services/auth/internal/audit"
	"github.com/purserhq/purser/services/auth/internal/device"
	"github.com/purserhq/purser/services/auth/internal/identity"
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
	"github.com/purserhq/purser/services/internal/bucket/redisbucket"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/seal"
	"github.com/purserhq/purser/services/internal/startup"
)

// name of the service, in its database connections, caches and traces.
const name = "auth"

// App is the auth service. It answers calls once Run is called.
type App struct {
	*chassis.App
	http net.Listener
}

// New builds the service from cfg. When it fails, everything that it opened is
// closed again; otherwise Run closes it.
func New(ctx context.Context, cfg Config, log *slog.Logger) (_ *App, err error) {
	b, err := chassis.Open(ctx, name, migrations.FS, cfg.Config, log)
	if err != nil {
		return nil, err
	}
	defer b.CloseOnError(&err)
	userCache := cache.New[account.User](b.Redis, userNamespace(), cache.Options{TTL: cfg.Cache.User, Log: log})
	b.OnClose("user cache", userCache.Close)

	sealer, err := cfg.sealer()
	if err != nil {
		return nil, err
	}
	ring, rotator := newKeys(b, cfg, sealer)
	revocations := revocation.NewFeed(cfg.Issuer, cfg.revocations(), store.NewRevocations(b.DB), ring.TriggerRefresh,
		log)
	needKeys(b, ring, revocations)
	b.Loop("key ring", ring.Run)
	b.Loop("revocations", revocations.Run)
	verifier := authn.NewVerifier(ring, authn.Options{Issuer: cfg.Issuer, Revoked: revocations.Revoked})

	mails := store.NewMails(b.DB)
	texts, err := newTexts(ctx, b.DB, mails, cfg.Mail)
	if err != nil {
		return nil, err
	}
	mailSender, err := newMailSender(b, mails, cfg.Mail)
	if err != nil {
		return nil, err
	}
	accountStore := store.NewAccounts(b.DB, userCache, mails)
	deletions, err := newDeletions(b, accountStore, texts)
	if err != nil {
		return nil, err
	}
	users := admin.NewService(store.NewAdmin(accountStore), texts,
		admin.Policy{RemovalDelay: cfg.SecondFactorRemovalDelay, MailsPerHour: cfg.Mail.PerHour}, time.Now)
	scheduled, err := addJobs(b, rotator, mails, mailSender, users, deletions, cfg)
	if err != nil {
		return nil, err
	}

	hasher := newHasher(b, cfg)
	auditEvents := store.NewAudit(b.DB)
	secondFactors := totp.NewService(store.NewSecondFactors(b.DB), sealer, cfg.TOTPName)
	accounts, err := newAccounts(accountStore, texts, hasher, auditEvents, cfg)
	if err != nil {
		return nil, err
	}
	devices, err := cfg.devices()
	if err != nil {
		return nil, err
	}
	sessions := session.NewService(session.Deps{
		Store: store.NewSessions(b.DB), Signer: ring, Passwords: hasher, SecondFactor: secondFactors,
		Devices: devices, Audit: auditEvents, Now: time.Now,
	}, cfg.Session)
	identities := identity.NewService(store.NewIdentities(accountStore), time.Now)
	patient, err := b.OpenRedis("sign-in", challengeBudget)
	if err != nil {
		return nil, err
	}
	challenges := challengeStores{patient, store.NewUsedChallenges(b.DB)}
	identityProviders := newOAuth(cfg, challenges, identities, sessions, auditEvents)
	walletSignIn := newWalletSignIn(cfg, challenges, identities, sessions, auditEvents, log)
	signInMethods := rpc.SignInMethods{OAuth: identityProviders, Wallets: walletSignIn}
	serviceAccounts := serviceaccount.NewService(store.NewServiceAccounts(b.DB), ring, auditEvents, time.Now)
	apiKeys := apikey.NewService(store.NewAPIKeys(b.DB), ring, auditEvents, time.Now)
	inRedis := redisbucket.New(b.Redis, "purser:auth:attempts:", redisx.Budget)
	limiter, err := attempts.New(cfg.Attempts, inRedis, time.Now)
	if err != nil {
		return nil, err
	}

	server, err := b.NewServer(verifier, rpc.WithClient(verifier))
	if err != nil {
		return nil, err
	}
	server.CheckMessages(rpc.Check(accounts, apiKeys, walletSignIn))
	floor, currentAuthority := rpc.NewFloor(cfg.Floor), store.NewAuthority(b.DB)
	server.CheckCallers(rpc.CheckCaller(currentAuthority))
	authv1.RegisterAccountServiceServer(server, rpc.NewAccountServer(accounts, limiter, floor))
	authv1.RegisterSessionServiceServer(server, rpc.NewSessionServer(sessions, secondFactors, serviceAccounts, limiter,
		floor, signInMethods))
	authv1.RegisterIdentityServiceServer(server, rpc.NewIdentityServer(identities, signInMethods, accounts, limiter))
	authv1.RegisterTokenServiceServer(server, rpc.NewTokenServer(ring, verifier, sessions, currentAuthority,
		revocations, cfg.Revocations.StreamsPerAddress))
	authv1.RegisterApiKeyServiceServer(server, rpc.NewAPIKeyServer(apiKeys, limiter))
	authv1.RegisterAdminServiceServer(server, rpc.NewAdminServer(rpc.AdminDeps{
		Rotator: rotator, Users: users, ServiceAccounts: serviceAccounts,
		Events: auditEvents, Feed: auditEvents, Authority: currentAuthority,
		Access: rpc.AccessReaders{Sessions: sessions, APIKeys: apiKeys, Identities: identities},
	}))
	authv1.RegisterDeletionServiceServer(server, rpc.NewDeletionServer(deletions, accounts, limiter, cfg.Issuer))
	scheduled.Register(server, chassis.TriggerChecks{InTx: store.TriggerJob})

	watchSignIn(b, cfg)
	a := &App{}
	if a.App, err = b.Listen(ctx, server); err != nil {
		return nil, err
	}
	pages, err := httpHandler(cfg, web.Handler(cfg.Issuer, cfg.baseURL(), ring), identityProviders, limiter, log)
	if err != nil {
		return nil, err
	}
	secured, err := cfg.httpTLS(log)
	if err != nil {
		return nil, err
	}
	a.http, err = listenHTTP(ctx, b, cfg.HTTPAddr, b.FromReady(pages), secured)
	return a, err
}

// hashSource says whose turn a password hash is: that of the device whose token was sent, or of the client's address.
func hashSource(ctx context.Context) string {
	if d := device.From(ctx); d != (device.Device{}) {
		return d.ID.String()
	}
	return audit.ClientFrom(ctx).IPAddress
}

// newKeys returns the key ring, which signs tokens, and what rotates its keys.
func newKeys(b *chassis.Builder, cfg Config, sealer *seal.Sealer) (*signing.Ring, *signing.Rotator) {
	keys, sharedKeySets := store.NewKeys(b.DB), store.NewKeySetCache(b.Redis)
	ring := signing.NewRing(cfg.Issuer, cfg.policy(), keys, sealer, b.Log)
	ring.UseCache(sharedKeySets)
	rotator := signing.NewRotator(cfg.Issuer, cfg.policy(), keys, sealer, b.Log)
	rotator.OnChange(ring.TriggerRefresh)
	rotator.UseCache(sharedKeySets)
	return ring, rotator
}

// needKeys has the service wait until the key-encryption key opens all keys of the ring,
// and the keys and the revocations are read.
func needKeys(b *chassis.Builder, ring *signing.Ring, revocations *revocation.Feed) {
	b.Needs(startup.Check{
		Name: "key_ring", Settings: "PURSER_KEK, PURSER_KEK_PREVIOUS", After: []string{chassis.SchemaReady},
		Probe: func(ctx context.Context) error {
			if err := ring.CheckKEK(ctx); err != nil {
				return err
			}
			if err := ring.Refresh(ctx); err != nil {
				return err
			}
			return revocations.Read(ctx)
		},
	})
}

// listenHTTP serves h on an address for as long as the service runs, with TLS if secured is not nil.
func listenHTTP(ctx context.Context, b *chassis.Builder, addr string, h http.Handler,
	secured *tls.Config) (net.Listener, error) {
	g := b.Group
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("PURSER_HTTP_ADDR: %w", err)
	}
	g.Close("http listener", listener.Close)
	s := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10, TLSConfig: secured,
		ErrorLog: web.ErrorLog(b.Log)}
	g.Serve("http", func() error {
		serve := s.Serve
		if secured != nil {
			serve = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
		}
		if err := serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	g.Drain("http", func(ctx context.Context) {
		if s.Shutdown(ctx) != nil {
			_ = s.Close() // cuts off what is still open at the limit
		}
	})
	return listener, nil
}

// HTTPAddr is where the key set is served, host:port.
func (a *App) HTTPAddr() string { return a.http.Addr().String() }

// Listeners are the addresses that the service listens on, as attributes of the
// line that is logged at start.
func (a *App) Listeners() []any { return append(a.App.Listeners(), "http", a.HTTPAddr()) }

// Program is the service's main.
func Program() process.Service[Config] {
	p := chassis.Program(name, migrations.FS, New)
	p.Command, p.Usage = Command, Usage
	return p
}

// Load reads the configuration from environ and reports every error in it.
func Load(environ []string) (Config, error) { return chassis.Load[Config](environ) }

// Migrations of the service's schema, for "migrate" and for templates of test
// databases.
func Migrations() postgres.Migrations { return chassis.Migrations(name, migrations.FS) }

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
