// Package app wires the portfolio service: read New to see what depends on
// what.
package app

import (
	"context"
	"log/slog"
	"slices"
	"time"
	_ "time/tzdata" // time zones, also where the system has none

	"github.com/google/uuid"
	"google.golang.org/protobuf/proto"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/errs"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/proto/access"
	portfoliov1 "github.com/purserhq/purser/proto/gen/purser/portfolio/v1"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/portfolio/internal/alert"
	"github.com/purserhq/purser/services/portfolio/internal/allocation"
	"github.com/purserhq/purser/services/portfolio/internal/currency"
	"github.com/purserhq/purser/services/portfolio/internal/defi"
	"github.com/purserhq/purser/services/portfolio/internal/export"
	"github.com/purserhq/purser/services/portfolio/internal/gains"
	"github.com/purserhq/purser/services/portfolio/internal/holdings"
	"github.com/purserhq/purser/services/portfolio/internal/kpi"
	"github.com/purserhq/purser/services/portfolio/internal/performance"
	"github.com/purserhq/purser/services/portfolio/internal/portfolio"
	"github.com/purserhq/purser/services/portfolio/internal/rpc"
	"github.com/purserhq/purser/services/portfolio/internal/snapshot"
	"github.com/purserhq/purser/services/portfolio/internal/store"
	"github.com/purserhq/purser/services/portfolio/internal/timeline"
	"github.com/purserhq/purser/services/portfolio/internal/valuation"
	"github.com/purserhq/purser/services/portfolio/internal/watch"
	"github.com/purserhq/purser/services/portfolio/migrations"
)

// name of the service, in its database connections, caches and traces.
const name = "portfolio"

// New builds the service from cfg. When it fails, everything that it opened is
// closed again; otherwise Run closes it.
func New(ctx context.Context, cfg Config, log *slog.Logger) (_ *chassis.App, err error) {
	b, err := chassis.Open(ctx, name, migrations.FS, cfg.Config, log)
	if err != nil {
		return nil, err
	}
	defer b.CloseOnError(&err)
	cfg.Wallet.Log = log
	wallet, err := grpcclient.Dial(cfg.Wallet, append(
		access.Idempotent(walletv1.HoldingsService_ServiceDesc.ServiceName),
		append(access.Idempotent(walletv1.PriceService_ServiceDesc.ServiceName),
			access.Idempotent(walletv1.TransactionService_ServiceDesc.ServiceName)...)...))
	if err != nil {
		return nil, err
	}
	b.Group.Close("wallet client", wallet.Close)
	b.DependsOnService("wallet", cfg.Wallet.Addr, wallet,
		"Portfolios have no current value, and no snapshot is taken; stored timelines are answered.")
	auth, err := b.DialAuth(cfg.AuthConfig)
	if err != nil {
		return nil, err
	}
	self := chassis.AsServiceAccount(auth, cfg.ServiceAccount)
	verifier, err := b.NewVerifier(cfg.AuthConfig, auth, self)
	if err != nil {
		return nil, err
	}

	caches := store.NewCaches(b.Redis,
		store.CacheOptions{Portfolio: cfg.Cache.Portfolio, Timeline: cfg.Cache.Timeline, Log: log})
	b.OnClose("caches", caches.Close)
	partitions := store.NewPartitions(b.DB, log)
	snapshotStore := store.NewSnapshots(b.DB, caches).MakePartitions(partitions)
	portfolioStore := store.NewPortfolios(b.DB, caches)
	walletHoldings := walletv1.NewHoldingsServiceClient(wallet)
	holdingsReader := holdings.NewReader(walletHoldings)
	valuations := newValuationCache(b, cfg.Cache.Valuation)
	portfolioStore.CacheValuations(valuations)
	portfolios := portfolio.NewService(portfolioStore, snapshotStore, holdingsReader, valuations, time.Now)
	prices := walletv1.NewPriceServiceClient(wallet)
	hub := newHub(b, portfolioStore, prices, self, cfg.WatchPricesEvery)
	rates := currency.NewService(store.NewCurrencyRates(b.DB, time.Now),
		holdings.NewRates(prices, time.Now), time.Now)
	loans := defi.NewService(portfolios, holdingsReader, rates)
	alerts, err := newAlerts(b, alert.Sources{Values: portfolios, Loans: loans,
		Prices: holdings.NewPrices(prices, self), AsSelf: self}, cfg)
	if err != nil {
		return nil, err
	}
	followHoldings(b, valuations, portfolioStore, portfolios, hub, alerts, walletHoldings, self)
	b.Loop("watched valuations", hub.Run)
	snapshots := snapshot.NewService(snapshotStore, portfolios, holdingsReader, log, time.Now)
	scheduled, err := b.AddJobs(slices.Concat(
		[]chassis.Job{partitionsJob(partitions, snapshotStore, cfg, log)},
		snapshotJobs(self, portfolioStore, portfolios, snapshots, snapshotStore, holdingsReader,
			holdings.NewPriceFeed(walletHoldings, prices, time.Now), alerts.all, cfg, log),
		alerts.jobs(cfg),
		b.FollowDeletions(cfg.AuthConfig, auth, self, store.NewOwners(b.DB, caches, valuations)))...)
	if err != nil {
		return nil, err
	}

	server, err := b.NewServer(verifier, nil)
	if err != nil {
		return nil, err
	}
	named := portfolio.NewNamed(portfolioStore, holdingsReader, cfg.PortfoliosPerOwner, time.Now)
	methods := rpc.NewPortfolioServer(rpc.Services{
		Portfolios: portfolios, Snapshots: snapshots, Named: named,
		Timelines:    timeline.NewService(snapshotStore, rates, time.Now),
		Performances: performance.NewService(snapshotStore, rates, time.Now), Currencies: rates,
		Figures:     kpi.NewService(portfolios, snapshotStore, rates, time.Now),
		Allocations: allocation.NewService(portfolios, snapshotStore, rates, time.Now),
		Exporter:    export.NewService(snapshotStore, rates, time.Now),
		Watches:     watch.NewService(hub, portfolios, rates),
	})
	alertMethods := alerts.server(portfolios, cfg)
	server.CheckMessages(func(m proto.Message) error {
		return errs.AllInvalid(methods.Check(m), alertMethods.Check(m), rpc.CheckLots(m))
	})
	portfoliov1.RegisterPortfolioServiceServer(server, methods)
	portfoliov1.RegisterDefiServiceServer(server, rpc.NewDefiServer(portfolios, loans))
	portfoliov1.RegisterAlertServiceServer(server, alertMethods)
	portfoliov1.RegisterLotServiceServer(server, rpc.NewLotServer(portfolios, gains.NewService(
		holdings.NewMovements(walletv1.NewTransactionServiceClient(wallet), prices),
		store.NewIdentifications(b.DB), rates, named, time.Now)))
	scheduled.Register(server, chassis.TriggerChecks{Before: chassis.CheckAuthority(auth)})
	return b.Listen(ctx, server)
}

// newValuationCache returns nil when ttl is 0.
func newValuationCache(b *chassis.Builder, ttl time.Duration) *cache.Cache[valuation.Valuation] {
	if ttl == 0 {
		return nil
	}
	c := cache.New[valuation.Valuation](b.Redis, cache.Namespace{Service: name, Entity: "valuation", Schema: 1},
		cache.Options{TTL: ttl, LoadTimeout: portfolio.ValuationLoadTimeout, Budget: store.CacheBudget, Log: b.Log})
	b.OnClose("valuation cache", c.Close)
	return c
}

// newHub returns what wakes the streams of valuations. Without an account of the service each looks for itself.
func newHub(b *chassis.Builder, store *store.Portfolios, prices walletv1.PriceServiceClient, self chassis.Identity,
	interval time.Duration) *watch.Hub {
	if self == nil {
		return watch.NewHub(store, nil, interval, b.Log)
	}
	return watch.NewHub(store, holdings.NewPrices(prices, self), interval, b.Log)
}

// followHoldings has a valuation worked out anew, snapshots out of date, alert rules looked at, and the streams of the
// value woken, as soon as the wallet service tells that something of their owner changed. Without an account of the
// service, or while Redis or the wallet service is away, a valuation lives for its TTL, and the next valuation or
// snapshot finds which wallets there are.
func followHoldings(b *chassis.Builder, valuations *cache.Cache[valuation.Valuation], store *store.Portfolios,
	portfolios *portfolio.Service, hub *watch.Hub, alerts *alerts, wallet walletv1.HoldingsServiceClient,
	self chassis.Identity) {
	if self == nil {
		return
	}
	follower := holdings.NewFollower(wallet, self,
		func(ctx context.Context, owners []uuid.UUID) error {
			hub.WakeOwners(owners)
			alerts.evaluator.MarkDue(ctx, owners)
			if valuations == nil {
				return nil
			}
			keys, err := store.ValuationKeys(ctx, owners)
			if err != nil || len(keys) == 0 {
				return err
			}
			_ = valuations.Invalidate(ctx, keys...) // counted; without Redis nothing is read from the cache
			return nil
		}, b.Log).WithWallets(portfolios.FollowOwner).OnRestart(func() {
		hub.WakeAll()
		alerts.all()
	})
	hub.SetFollowing(follower.Following)
	b.Loop("changes of holdings", follower.Run)
}

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
