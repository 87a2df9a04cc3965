// Package app wires the wallet service: read New to see what depends on what.
package app

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/lock"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/pkg/redisx"
	walletv1 "github.com/purserhq/purser/proto/gen/purser/wallet/v1"
	"github.com/purserhq/purser/services/internal/bucket"
	"github.com/purserhq/purser/services/internal/bucket/redisbucket"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/ethsig"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/internal/partition"
	"github.com/purserhq/purser/services/internal/startup"
	"github.com/purserhq/purser/services/wallet/internal/balancesync"
	"github.com/purserhq/purser/services/wallet/internal/chainlist"
	"github.com/purserhq/purser/services/wallet/internal/chainreset"
	"github.com/purserhq/purser/services/wallet/internal/defi"
	"github.com/purserhq/purser/services/wallet/internal/history"
	"github.com/purserhq/purser/services/wallet/internal/holding"
	"github.com/purserhq/purser/services/wallet/internal/importing"
	"github.com/purserhq/purser/services/wallet/internal/newblocks"
	"github.com/purserhq/purser/services/wallet/internal/ownership"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/pricehistory"
	"github.com/purserhq/purser/services/wallet/internal/priceimport"
	"github.com/purserhq/purser/services/wallet/internal/rpc"
	"github.com/purserhq/purser/services/wallet/internal/store"
	"github.com/purserhq/purser/services/wallet/internal/token"
	"github.com/purserhq/purser/services/wallet/internal/tokenlist"
	"github.com/purserhq/purser/services/wallet/internal/transaction"
	"github.com/purserhq/purser/services/wallet/internal/wallet"
	"github.com/purserhq/purser/services/wallet/migrations"
)

// name of the service, in its database connections, caches and traces.
const name = "wallet"

// New builds the service from cfg. When it fails, everything that it opened is
// closed again; otherwise Run closes it.
func New(ctx context.Context, cfg Config, log *slog.Logger) (_ *chassis.App, err error) {
	b, err := chassis.Open(ctx, name, migrations.FS, cfg.Config, log)
	if err != nil {
		return nil, err
	}
	defer b.CloseOnError(&err)
	nodes, err := newChainReader(cfg, log)
	if err != nil {
		return nil, err
	}
	b.Group.Close("chain", nodes.Close)
	sources, err := newPriceSources(b, cfg.Price, nodes, log)
	if err != nil {
		return nil, err
	}
	watchChainsAndPrices(b, cfg, nodes, sources.watched)
	auth, err := b.DialAuth(cfg.AuthConfig)
	if err != nil {
		return nil, err
	}
	self := chassis.AsServiceAccount(auth, cfg.ServiceAccount)
	verifier, err := b.NewVerifier(cfg.AuthConfig, auth, self)
	if err != nil {
		return nil, err
	}

	local := b.TrackCaches()
	caches := store.NewCaches(b.Redis,
		store.CacheOptions{Wallets: cfg.Cache.Wallets, Token: cfg.Cache.Token, Local: local, Log: log})
	b.OnClose("caches", caches.Close)
	quotes := cache.New[price.Quote](b.Redis, cache.Namespace{Service: name, Entity: "price", Schema: 2},
		cache.Options{TTL: cfg.Price.Refresh, Budget: store.CacheBudget, Local: local, Log: log})
	b.OnClose("price cache", quotes.Close)
	locks := lock.New(b.Redis, lock.Options{Prefix: "purser:wallet", Unfenced: true, Log: log})
	b.OnClose("locks", locks.Close)

	tokens, wallets := store.NewTokens(b.DB, caches), store.NewWallets(b.DB, caches)
	transactions := store.NewTransactions(b.DB, tokens)
	changes := feed.New(b.DB, b.Redis, name, log)
	b.Loop("changes", changes.Run)
	wallets.WakeAfterCommit(changes.Wake)
	feeds := price.NewSources(sources.feeds, cfg.Price.Policy, log, time.Now)
	prices := price.NewService(store.NewPrices(b.DB, tokens), feeds, quotes, cfg.Price.Policy, log, time.Now)
	walletRules := wallet.NewService(wallets, nodes.Chains(), cfg.WalletsPerOwner, time.Now)
	partitions := store.NewPartitions(b.DB, log)
	imports := importing.NewService(wallets, time.Now)
	past := store.NewHistory(b.DB, partitions)
	pastHoldings := history.NewService(past, tokens, nodes, feeds, store.NewLocks(locks), cfg.Price.Policy, log,
		time.Now)
	contracts := token.NewChecker(nodes, tokens, log)
	resets := chainreset.NewGuard(store.NewChainResets(b.DB, wallets), nodes, cfg.ChainResetAfter, log, time.Now)
	syncRound := balancesync.NewRound(wallets, tokens, contracts, nodes, cfg.SyncEvery, cfg.BalancesPerCall, log,
		time.Now)
	syncRound.WatchResets(resets)
	positions := defi.NewService(cfg.DefiMarkets, nodes, log)
	syncRound.ReadPositions(positions)
	pastHoldings.ReadPositions(positions)
	if cfg.NewBlocksEvery > 0 {
		b.Loop("new blocks", newblocks.New(nodes, wallets, tokens, syncRound, cfg.NewBlocksEvery, log, time.Now).Run)
	}
	syncs := balancesync.NewService(wallets, tokens, contracts, nodes, time.Now)
	syncs.WatchResets(resets)
	syncs.ReadPositions(positions)
	scanner := transaction.NewScanner(transactions, nodes, cfg.TransactionsFirstBlock, log)
	scanner.Compare(func(ctx context.Context, chain uint64) { resets.Check(ctx, chain, 0) })
	scheduled, err := b.AddJobs(append(b.FollowDeletions(cfg.AuthConfig, auth, self, store.NewOwners(b.DB, caches)),
		syncJob(syncRound, cfg), chassis.Job{Job: changes.TrimJob(cfg.Changes)},
		partitionsJob(partition.NewMaker(partitions, cfg.History, log, time.Now)),
		transactionsJob(scanner, cfg))...)
	if err != nil {
		return nil, err
	}

	calls, err := bucket.NewLimiter(redisbucket.New(b.Redis, "purser:wallet:calls:", redisx.Budget), time.Now)
	if err != nil {
		return nil, err
	}
	server, err := b.NewServer(verifier, nil)
	if err != nil {
		return nil, err
	}
	server.CheckMessages(rpc.Check)
	walletv1.RegisterWalletServiceServer(server,
		rpc.NewWalletServer(walletRules,
			ownership.NewService(wallets, ethsig.NewContractsOf(nodes.SignatureNodes, log),
				rpc.LinkedIdentities(auth, log), cfg.SIWE, time.Now),
			syncs, rpc.Limits{Calls: calls, SyncsPerMinute: cfg.SyncsPerMinute}))
	walletv1.RegisterBalanceServiceServer(server, rpc.NewBalanceServer(walletRules, wallets, imports))
	walletv1.RegisterTransactionServiceServer(server, rpc.NewTransactionServer(transactions, imports,
		cfg.Price.Stale))
	walletv1.RegisterPositionServiceServer(server, rpc.NewPositionServer(wallets))
	walletv1.RegisterTokenServiceServer(server, rpc.NewTokenServer(tokens,
		chainlist.NewService(nodes, tokens, log, time.Now), resets))
	walletv1.RegisterPriceServiceServer(server, rpc.NewPriceServer(prices,
		pricehistory.NewService(past, feeds, cfg.Price.Policy, log, time.Now),
		priceimport.NewService(sources.imported, prices, slices.Contains(cfg.Price.Sources, priceimport.Source),
			time.Now),
		rpc.PriceLimits{Calls: calls, ReadsPerMinute: cfg.Price.ReadsPerMinute}))
	walletv1.RegisterHoldingsServiceServer(server,
		rpc.NewHoldingsServer(holding.NewService(wallets, prices, time.Now), pastHoldings, changes, cfg.Changes))
	scheduled.Register(server, chassis.TriggerChecks{Before: chassis.CheckAuthority(auth)})

	if err := needTokenLists(b, cfg.TokenLists, nodes.Chains(), tokens); err != nil {
		return nil, err
	}
	return b.Listen(ctx, server)
}

// needTokenLists reads the token lists, since an error in one must stop the start, and has
// the service wait until they are stored. The native coins of the chains that have a node are
// always stored.
func needTokenLists(b *chassis.Builder, paths []string, chains []uint64, tokens token.Store) error {
	store := func(ctx context.Context) error { return tokens.Put(ctx, tokenlist.WithNative(nil, chains)) }
	if len(paths) == 0 {
		b.Log.Warn("no token list is set (PURSER_TOKEN_LIST): only native coins and tokens known before are synced")
	} else {
		list, err := tokenlist.ReadAll(paths)
		if err != nil {
			return fmt.Errorf("PURSER_TOKEN_LIST: %w", err)
		}
		if len(list.Foreign) > 0 || len(list.NativeContracts) > 0 || list.Repeated > 0 {
			b.Log.Warn("entries of the token lists are left out", "other_chains", list.Foreign,
				"native_coins_as_contracts", list.NativeContracts, "repeated", list.Repeated)
		}
		store = func(ctx context.Context) error {
			return tokens.PutList(ctx, tokenlist.WithNative(list.Tokens, chains))
		}
	}
	b.Needs(startup.Check{
		Name: "token_list", Settings: "PURSER_TOKEN_LIST", After: []string{chassis.SchemaReady}, Probe: store,
	})
	return nil
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
