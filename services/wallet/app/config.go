package app

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/services/internal/chainurl"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/internal/eip4361"
	"github.com/purserhq/purser/services/internal/feed"
	"github.com/purserhq/purser/services/internal/partition"
	"github.com/purserhq/purser/services/wallet/internal/chainreset"
	"github.com/purserhq/purser/services/wallet/internal/defi"
)

// Config of the wallet service, read from PURSER_*.
type Config struct {
	chassis.Config
	chassis.AuthConfig
	// ServiceAccount is the account of auth that deletions of users are followed as;
	// without one the data of deleted users stays.
	ServiceAccount chassis.ServiceAccountConfig `envPrefix:"SERVICE_"`
	// ChainRPCURLs has the JSON-RPC nodes, chain=url, separated by commas. A
	// chain may stand several times, in the order to try.
	ChainRPCURLs chainurl.Nodes `env:"CHAIN_RPC_URLS"`
	// ChainQuorum is how many nodes of a chain have to say the same, chain=number; 1 for a
	// chain that is not named.
	ChainQuorum chainurl.Quorum `env:"CHAIN_QUORUM"`
	// ChainResetAfter is for how long a chain has to look reset until what was read of it is forgotten, chain=time or
	// chain=never; 5 minutes for one that is not named, and never for a public one.
	ChainResetAfter ResetTimes `env:"CHAIN_RESET_AFTER"`
	// BalancesPerCall is how many balances one call to a node asks for.
	BalancesPerCall int `env:"BALANCES_PER_CALL" envDefault:"200"`
	// DefiMarkets are the markets whose positions are read with the balances, protocol@account of its contract.
	DefiMarkets defi.Markets `env:"DEFI_MARKETS"`
	// SyncCron is when wallets are synced that were not for SyncEvery.
	SyncCron  string        `env:"SYNC_CRON" envDefault:"*/5 * * * *"`
	SyncEvery time.Duration `env:"SYNC_EVERY" envDefault:"5m"`
	// NewBlocksEvery is how often new blocks of each chain are looked for, to sync the wallets that they touch at
	// once; 0 for never.
	NewBlocksEvery time.Duration `env:"NEW_BLOCKS_EVERY" envDefault:"0s"`
	// WalletsPerOwner is how many wallets an owner may have, archived ones included.
	WalletsPerOwner int `env:"WALLETS_PER_OWNER" envDefault:"10000"`
	// SyncsPerMinute is how often an owner may call SyncWallet.
	SyncsPerMinute int `env:"SYNCS_PER_MINUTE" envDefault:"60"`
	// TransactionsCron is when movements of wallets are looked for, up to their last syncs.
	TransactionsCron string `env:"TRANSACTIONS_CRON" envDefault:"1-59/2 * * * *"`
	// TransactionsFirstBlock has the block from which they are looked for, chain=number;
	// what moved before is one adjustment. Block 0 for a chain that is not named.
	TransactionsFirstBlock Blocks `env:"TRANSACTIONS_FIRST_BLOCK"`
	// TokenLists are files in the shape of a Token List, separated by commas; their tokens are the ones whose balances
	// are read. Of an account that several list the first counts.
	TokenLists []string     `env:"TOKEN_LIST"`
	Price      PriceConfig  `envPrefix:"PRICE_"`
	Cache      CacheConfig  `envPrefix:"CACHE_"`
	Changes    feed.Policy  `envPrefix:"CHANGES_"`
	SIWE       eip4361.Site `envPrefix:"SIWE_"`
	// History says which months of it have partitions, and are kept.
	History partition.Policy `envPrefix:"HISTORY_"`
}

// CacheConfig says how long things are cached: at most so old they are where
// an invalidation was lost. Prices are kept for price.Policy.Refresh.
type CacheConfig struct {
	// Wallets is of a page of an owner's wallets.
	Wallets time.Duration `env:"WALLETS_TTL" envDefault:"1m"`
	// Token is of a token by its id.
	Token time.Duration `env:"TOKEN_TTL" envDefault:"10m"`
}

// Validate reports every error in c.
func (c CacheConfig) Validate() error {
	if c.Wallets <= 0 || c.Token <= 0 {
		return errors.New("PURSER_CACHE_WALLETS_TTL and PURSER_CACHE_TOKEN_TTL must be above 0")
	}
	return nil
}

// Validate reports every error in c.
func (c Config) Validate() error {
	found := []error{c.Config.Validate(), c.AuthConfig.Validate(),
		c.ServiceAccount.Validate(c.Auth), c.Price.Validate(), c.Cache.Validate(), c.Changes.Validate(),
		c.History.Validate(),
		c.SIWE.Validate(), chassis.CheckCron("PURSER_SYNC_CRON", c.SyncCron),
		chassis.CheckCron("PURSER_TRANSACTIONS_CRON", c.TransactionsCron),
		c.ChainRPCURLs.CheckWithSockets("PURSER_CHAIN_RPC_URLS"),
		c.ChainQuorum.Check("PURSER_CHAIN_QUORUM", "PURSER_CHAIN_RPC_URLS", c.ChainRPCURLs),
		c.DefiMarkets.Check("PURSER_DEFI_MARKETS", "PURSER_CHAIN_RPC_URLS",
			func(chain uint64) bool { return len(c.ChainRPCURLs[chain]) > 0 })}
	if c.BalancesPerCall < 1 || c.BalancesPerCall > 5000 {
		found = append(found, errors.New("PURSER_BALANCES_PER_CALL must be 1 to 5000"))
	}
	if c.SyncEvery <= 0 {
		found = append(found, errors.New("PURSER_SYNC_EVERY must be above 0"))
	}
	if c.NewBlocksEvery != 0 && (c.NewBlocksEvery < 100*time.Millisecond || c.NewBlocksEvery > time.Hour) {
		found = append(found, errors.New("PURSER_NEW_BLOCKS_EVERY must be 0, for never, or 100ms to 1h"))
	}
	if c.WalletsPerOwner < 1 || c.WalletsPerOwner > 1_000_000 {
		found = append(found, errors.New("PURSER_WALLETS_PER_OWNER must be 1 to 1000000"))
	}
	if c.SyncsPerMinute < 1 || c.SyncsPerMinute > 60_000 {
		found = append(found, errors.New("PURSER_SYNCS_PER_MINUTE must be 1 to 60000"))
	}
	return errors.Join(found...)
}

// CheckForServe checks what only "serve" needs: the files that c names, and the
// addresses of other services.
func (c Config) CheckForServe() error {
	found := []error{c.Config.CheckForServe(), c.AuthConfig.CheckForServe(), c.Price.CheckForServe()}
	for _, path := range c.TokenLists {
		found = append(found, config.File("PURSER_TOKEN_LIST", path))
	}
	return errors.Join(found...)
}

// Blocks are block numbers by chain.
type Blocks map[uint64]uint64

// UnmarshalText reads "1=17000000,137=50000000".
func (b *Blocks) UnmarshalText(text []byte) error {
	*b = Blocks{}
	var invalid error
	err := chainurl.ParsePairs(string(text), func(chain uint64, number string) {
		n, err := strconv.ParseUint(number, 10, 63)
		if err != nil {
			invalid = errors.Join(invalid, fmt.Errorf("chain %d: %q must be a block number", chain, number))
		}
		(*b)[chain] = n
	})
	return errors.Join(err, invalid)
}

// ResetTimes are for how long a chain has to look reset, by chain.
type ResetTimes map[uint64]time.Duration

// UnmarshalText reads "31337=30s,1=never".
func (r *ResetTimes) UnmarshalText(text []byte) error {
	*r = ResetTimes{}
	var invalid error
	err := chainurl.ParsePairs(string(text), func(chain uint64, value string) {
		after, err := time.ParseDuration(value)
		if value == "never" {
			after = chainreset.Never
		} else if err != nil || after < time.Second {
			invalid = errors.Join(invalid, fmt.Errorf("chain %d: %q must be \"never\" or a time of at least 1s", chain,
				value))
		}
		(*r)[chain] = after
	})
	return errors.Join(err, invalid)
}

// Names are the names of chains in a price feed.
type Names map[uint64]string

// defaultPriceChains are DefiLlama's names, and the embedded chain's.
const defaultPriceChains = "1=ethereum,10=optimism,56=bsc,100=xdai,137=polygon,8453=base,42161=arbitrum," +
	"43114=avax,31337=local"

// DefaultPriceChains are the names of PURSER_PRICE_CHAINS where it is not set.
func DefaultPriceChains() Names {
	var n Names
	if err := n.UnmarshalText([]byte("default")); err != nil {
		return nil // which a test excludes
	}
	return n
}

// UnmarshalText reads "1=ethereum,137=polygon", or "default".
func (n *Names) UnmarshalText(text []byte) error {
	names, err := namesOf(string(text), defaultPriceChains)
	*n = names
	return err
}
