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
	"github.com/purserhq/purser/services/internal/chainurl"
	"github.com/purserhq/purser/services/wallet/internal/price"
)

// Config of the wallet service, read from PURSER_*.
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
	// ChainRPCURLs has the JSON-RPC nodes, chain=url, separated by commas. A
	// chain may stand several times, in the order to try.
	ChainRPCURLs chainurl.Nodes `env:"CHAIN_RPC_URLS"`
	// BalancesPerCall is how many balances one call to a node asks for.
	BalancesPerCall int `env:"BALANCES_PER_CALL" envDefault:"200"`
	// SyncCron is when wallets are synced that were not for SyncEvery.
	SyncCron  string        `env:"SYNC_CRON" envDefault:"*/5 * * * *"`
	SyncEvery time.Duration `env:"SYNC_EVERY" envDefault:"5m"`
	// TokenList is a file in the shape of a Token List; its tokens are the
	// ones whose balances are read.
	TokenList string `env:"TOKEN_LIST"`
	// PriceURL of a feed in the shape of DefiLlama's coins API. Its path may
	// carry an API key.
	PriceURL config.Secret `env:"PRICE_URL,required,notEmpty"`
	// PriceChains has the feed's name of each chain, chain=name.
	PriceChains Names            `env:"PRICE_CHAINS" envDefault:"1=ethereum,10=optimism,56=bsc,100=xdai,137=polygon,8453=base,42161=arbitrum,43114=avax,31337=local"`
	Price       price.Policy     `envPrefix:"PRICE_"`
	Cache       CacheConfig      `envPrefix:"CACHE_"`
	Shutdown    lifecycle.Config `envPrefix:"SHUTDOWN_"`
}

// CacheConfig says how long things are cached: at most so old they are where
// an invalidation was lost. Prices are kept for price.Policy.Refresh.
type CacheConfig struct {
	// Wallets is of a page of an owner's wallets.
	Wallets time.Duration `env:"WALLETS_TTL" envDefault:"1m"`
	// Token is of a token by its id.
	Token time.Duration `env:"TOKEN_TTL" envDefault:"10m"`
}

// Validate reports every mistake in c.
func (c CacheConfig) Validate() error {
	if c.Wallets <= 0 || c.Token <= 0 {
		return errors.New("PURSER_CACHE_WALLETS_TTL and PURSER_CACHE_TOKEN_TTL must be above 0")
	}
	return nil
}

// Load reads the configuration from environ and reports every mistake.
func Load(environ []string) (Config, error) {
	var c Config
	err := config.Load(environ, &c)
	return c, err
}

// Validate reports every mistake in c.
func (c Config) Validate() error {
	mistakes := []error{c.Process.Validate(), c.GRPC.Validate(), c.Database.Validate(), c.Price.Validate(),
		c.Cache.Validate(), c.Shutdown.Validate()}
	if err := redisx.CheckURL(c.RedisURL.Reveal()); c.RedisURL != "" && err != nil {
		mistakes = append(mistakes, fmt.Errorf("PURSER_REDIS_URL: %w", err))
	}
	if err := jobs.CheckCron(c.SyncCron); err != nil {
		mistakes = append(mistakes, fmt.Errorf("PURSER_SYNC_CRON: %w", err))
	}
	if c.BalancesPerCall < 1 || c.BalancesPerCall > 5000 {
		mistakes = append(mistakes, errors.New("PURSER_BALANCES_PER_CALL must be 1 to 5000"))
	}
	if c.SyncEvery <= 0 {
		mistakes = append(mistakes, errors.New("PURSER_SYNC_EVERY must be above 0"))
	}
	mistakes = append(mistakes, c.Tokens.Validate())
	if u := c.PriceURL.Reveal(); u != "" && !config.IsHTTPURL(u) {
		mistakes = append(mistakes, errors.New("PURSER_PRICE_URL must be an http or https URL"))
	}
	mistakes = append(mistakes, c.ChainRPCURLs.Check("PURSER_CHAIN_RPC_URLS"))
	return errors.Join(mistakes...)
}

// check reports what is wrong with the files that c names, which only serving
// needs, and with where it calls.
func check(c Config) error {
	return errors.Join(c.GRPC.Check(), c.Auth.Check("PURSER_AUTH_"), config.File("PURSER_TOKEN_LIST", c.TokenList))
}

// Names are the names of chains.
type Names map[uint64]string

// UnmarshalText reads "1=ethereum,137=polygon".
func (n *Names) UnmarshalText(text []byte) error {
	*n = Names{}
	return chainurl.ParsePairs(string(text), func(chain uint64, name string) { (*n)[chain] = name })
}
