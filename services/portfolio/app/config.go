package app

import (
	"errors"
	"fmt"
	"time"

	"github.com/purserhq/purser/pkg/authn"
	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/pkg/grpcclient"
	"github.com/purserhq/purser/pkg/grpcserver"
	"github.com/purserhq/purser/pkg/jobs"
	"github.com/purserhq/purser/pkg/lifecycle"
	"github.com/purserhq/purser/pkg/postgres"
	"github.com/purserhq/purser/pkg/process"
	"github.com/purserhq/purser/pkg/redisx"
)

// Config of the portfolio service, read from PURSER_*.
type Config struct {
	Process  process.Config
	GRPC     grpcserver.Config `envPrefix:"GRPC_"`
	Database postgres.Config   `envPrefix:"DATABASE_"`
	// RedisURL of the cache.
	RedisURL config.Secret `env:"REDIS_URL,required,notEmpty"`
	Tokens   authn.Config
	// Auth is the auth service's gRPC address, to hear from it what was
	// revoked; without one tokens are good until they expire.
	Auth grpcclient.Config `envPrefix:"AUTH_"`
	// Service is the account that the jobs sign in with at auth; without one
	// no snapshot is taken but those that are asked for.
	Service ServiceConfig `envPrefix:"SERVICE_"`
	// SnapshotCron is when everybody's hourly snapshot is taken: best once an
	// hour.
	SnapshotCron string `env:"SNAPSHOT_CRON" envDefault:"1 * * * *"`
	// Wallet is the wallet service.
	Wallet   grpcclient.Config `envPrefix:"WALLET_"`
	Cache    CacheConfig       `envPrefix:"CACHE_"`
	Shutdown lifecycle.Config  `envPrefix:"SHUTDOWN_"`
}

// ServiceConfig is a service account of auth.
type ServiceConfig struct {
	ID     string        `env:"ID"`
	Secret config.Secret `env:"SECRET"`
}

// CacheConfig says how long things are cached: at most so old they are where
// an invalidation was lost.
type CacheConfig struct {
	Portfolio time.Duration `env:"PORTFOLIO_TTL" envDefault:"5m"`
	// Valuation is how old the answer of GetValuation may be; 0 works every
	// one out anew. Nothing invalidates it.
	Valuation time.Duration `env:"VALUATION_TTL" envDefault:"3s"`
	// Timeline is of a page of a portfolio's timeline.
	Timeline time.Duration `env:"TIMELINE_TTL" envDefault:"5m"`
}

// Validate reports every mistake in c.
func (c CacheConfig) Validate() error {
	var mistakes []error
	if c.Portfolio <= 0 || c.Timeline <= 0 {
		mistakes = append(mistakes, errors.New(
			"PURSER_CACHE_PORTFOLIO_TTL and PURSER_CACHE_TIMELINE_TTL must be above 0"))
	}
	if c.Valuation < 0 || c.Valuation > maxValuationTTL {
		mistakes = append(mistakes, fmt.Errorf("PURSER_CACHE_VALUATION_TTL must be 0 to %s", maxValuationTTL))
	}
	return errors.Join(mistakes...)
}

// maxValuationTTL keeps a valuation from being called current that isn't.
const maxValuationTTL = time.Minute

// Load reads the configuration from environ and reports every mistake.
func Load(environ []string) (Config, error) {
	var c Config
	err := config.Load(environ, &c)
	return c, err
}

// Validate reports every mistake in c.
func (c Config) Validate() error {
	mistakes := []error{c.Process.Validate(), c.GRPC.Validate(), c.Database.Validate(), c.Cache.Validate(),
		c.Shutdown.Validate()}
	if err := redisx.CheckURL(c.RedisURL.Reveal()); c.RedisURL != "" && err != nil {
		mistakes = append(mistakes, fmt.Errorf("PURSER_REDIS_URL: %w", err))
	}
	if err := jobs.CheckCron(c.SnapshotCron); err != nil {
		mistakes = append(mistakes, fmt.Errorf("PURSER_SNAPSHOT_CRON: %w", err))
	}
	if (c.Service.ID == "") != (c.Service.Secret == "") || c.Service.ID != "" && c.Auth.Addr == "" {
		mistakes = append(mistakes, errors.New(
			"PURSER_SERVICE_ID needs PURSER_SERVICE_SECRET and PURSER_AUTH_ADDR, and they it"))
	}
	if c.Wallet.Addr == "" {
		mistakes = append(mistakes, errors.New("PURSER_WALLET_ADDR is needed: host:port of the wallet service"))
	}
	return errors.Join(append(mistakes, c.Tokens.Validate())...)
}

// check reports what is wrong with the files that c names, which only serving
// needs, and with where it calls.
func check(c Config) error {
	return errors.Join(c.GRPC.Check(), c.Auth.Check("PURSER_AUTH_"), c.Wallet.Check("PURSER_WALLET_"))
}
