package app

import (
	"errors"
	"fmt"
	"time"

	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/internal/partition"
)

// Config of the portfolio service, read from PURSER_*.
type Config struct {
	chassis.Config
	chassis.AuthConfig
	// ServiceAccount is the account of auth that scheduled snapshots are taken, and
	// deletions of users followed, as; without one neither is done.
	ServiceAccount chassis.ServiceAccountConfig `envPrefix:"SERVICE_"`
	// SnapshotCron is when everybody's hourly snapshot is taken: best once an
	// hour.
	SnapshotCron string `env:"SNAPSHOT_CRON" envDefault:"1 * * * *"`
	// PortfoliosPerOwner is how many portfolios a user may have, the default one included.
	PortfoliosPerOwner int `env:"PORTFOLIOS_PER_OWNER" envDefault:"100"`
	// RecomputeCron is when snapshots that are out of date are looked for, and taken again.
	RecomputeCron string `env:"RECOMPUTE_CRON" envDefault:"*/5 * * * *"`
	// WatchPricesEvery is how often the prices of what is watched are compared with what streams have told.
	WatchPricesEvery time.Duration `env:"WATCH_PRICES_EVERY" envDefault:"30s"`
	// History says which months have partitions of prices, and how many are kept of snapshots, with their positions
	// and prices.
	History partition.Policy `envPrefix:"HISTORY_"`
	// Wallet is the wallet service.
	Wallet grpcclient.Config `envPrefix:"WALLET_"`
	Cache  CacheConfig       `envPrefix:"CACHE_"`
	// Changes is the policy of the feed, which alerts are in.
	Changes  feed.Policy   `envPrefix:"CHANGES_"`
	Alerts   AlertConfig   `envPrefix:"ALERTS_"`
	Webhooks WebhookConfig `envPrefix:"WEBHOOKS_"`
}

// CacheConfig says how long things are cached: at most so old they are where
// an invalidation was lost.
type CacheConfig struct {
	Portfolio time.Duration `env:"PORTFOLIO_TTL" envDefault:"5m"`
	// Valuation is how old the prices in the answer of GetValuation may be; 0 works
	// every one out anew. Changes of the owner's wallets and balances end it before.
	Valuation time.Duration `env:"VALUATION_TTL" envDefault:"3s"`
	// Timeline is of a page of a portfolio's timeline.
	Timeline time.Duration `env:"TIMELINE_TTL" envDefault:"5m"`
}

// Validate reports every error in c.
func (c CacheConfig) Validate() error {
	var found []error
	if c.Portfolio <= 0 || c.Timeline <= 0 {
		found = append(found, errors.New(
			"PURSER_CACHE_PORTFOLIO_TTL and PURSER_CACHE_TIMELINE_TTL must be above 0"))
	}
	if c.Valuation < 0 || c.Valuation > maxValuationTTL {
		found = append(found, fmt.Errorf("PURSER_CACHE_VALUATION_TTL must be 0 to %s", maxValuationTTL))
	}
	return errors.Join(found...)
}

// maxValuationTTL keeps a valuation from being called current that isn't.
const maxValuationTTL = time.Minute

// Validate reports every error in c.
func (c Config) Validate() error {
	found := []error{c.Config.Validate(), c.AuthConfig.Validate(), c.Cache.Validate(),
		c.History.Validate(), c.Changes.Validate(), c.Alerts.Validate(), c.Webhooks.Validate(),
		c.ServiceAccount.Validate(c.Auth), chassis.CheckCron("PURSER_SNAPSHOT_CRON", c.SnapshotCron),
		chassis.CheckCron("PURSER_RECOMPUTE_CRON", c.RecomputeCron)}
	if c.PortfoliosPerOwner < 1 || c.PortfoliosPerOwner > 10_000 {
		found = append(found, errors.New("PURSER_PORTFOLIOS_PER_OWNER must be 1 to 10000"))
	}
	if c.WatchPricesEvery < time.Second || c.WatchPricesEvery > time.Hour {
		found = append(found, errors.New("PURSER_WATCH_PRICES_EVERY must be 1s to 1h"))
	}
	if c.Wallet.Addr == "" {
		found = append(found, errors.New("PURSER_WALLET_ADDR is needed: host:port of the wallet service"))
	}
	return errors.Join(found...)
}

// CheckForServe checks what only "serve" needs: the files that c names, and the
// addresses of other services.
func (c Config) CheckForServe() error {
	return errors.Join(c.Config.CheckForServe(), c.AuthConfig.CheckForServe(), c.Wallet.Check("PURSER_WALLET_"))
}
