package app

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/purserhq/purser/pkg/config"
	"github.com/purserhq/purser/services/internal/chainurl"
	"github.com/purserhq/purser/services/internal/chassis"
	"github.com/purserhq/purser/services/wallet/internal/chainlink"
	"github.com/purserhq/purser/services/wallet/internal/coingecko"
	"github.com/purserhq/purser/services/wallet/internal/llama"
	"github.com/purserhq/purser/services/wallet/internal/price"
	"github.com/purserhq/purser/services/wallet/internal/priceimport"
	"github.com/purserhq/purser/services/wallet/internal/store"
)

// PriceSources are the names of sources of prices, in the order in which they are used.
type PriceSources []string

// priceSourceNames are those that there are.
func priceSourceNames() []string {
	return []string{llama.Name, coingecko.Name, chainlink.Name, priceimport.Source}
}

// UnmarshalText reads "llama,coingecko".
func (s *PriceSources) UnmarshalText(text []byte) error {
	*s = PriceSources{}
	for name := range strings.SplitSeq(string(text), ",") {
		name = strings.TrimSpace(name)
		if !slices.Contains(priceSourceNames(), name) {
			return fmt.Errorf("%q is no source of prices; there are %s", name, strings.Join(priceSourceNames(), ", "))
		}
		if slices.Contains(*s, name) {
			return fmt.Errorf("%q stands there twice", name)
		}
		*s = append(*s, name)
	}
	return nil
}

// PriceConfig has the sources of prices.
type PriceConfig struct {
	// Sources in the order in which they are believed.
	Sources PriceSources `env:"SOURCES" envDefault:"llama,imported"`
	// URL of a feed in the shape of DefiLlama's coins API, for the source "llama". Its path
	// may carry an API key.
	URL config.Secret `env:"URL"`
	// Chains has the name of each chain in that feed, chain=name; "default" is
	// defaultPriceChains.
	Chains Names `env:"CHAINS" envDefault:"default"`
	// CurrencyCoins has the coin of that feed for each currency, such as
	// EUR=coingecko:euro-coin.
	CurrencyCoins CurrencyCoins `env:"CURRENCY_COINS"`
	// CoinGeckoURL of a feed in the shape of CoinGecko's API, for the source "coingecko",
	// such as https://api.coingecko.com/api/v3.
	CoinGeckoURL config.Secret `env:"COINGECKO_URL"`
	// CoinGeckoKey of a plan, sent as a header.
	CoinGeckoKey config.Secret `env:"COINGECKO_KEY"`
	// CoinGeckoPlatforms has that feed's name of each chain, and CoinGeckoCoins its id of
	// each native coin; "default" is defaultPlatforms and defaultCoins.
	CoinGeckoPlatforms Platforms `env:"COINGECKO_PLATFORMS" envDefault:"default"`
	CoinGeckoCoins     Coins     `env:"COINGECKO_COINS" envDefault:"default"`
	// Feeds is a file of feeds on chain, for the source "chainlink".
	Feeds string `env:"FEEDS"`
	// ReadsPerMinute is how many pages of past prices that are not stored yet a caller may
	// have read.
	ReadsPerMinute int `env:"READS_PER_MINUTE" envDefault:"60"`
	price.Policy
}

// Validate reports every error in c.
func (c PriceConfig) Validate() error {
	found := []error{c.Policy.Validate()}
	for _, s := range []struct {
		setting, value, source string
	}{
		{"PURSER_PRICE_URL", c.URL.Reveal(), llama.Name},
		{"PURSER_PRICE_COINGECKO_URL", c.CoinGeckoURL.Reveal(), coingecko.Name},
		{"PURSER_PRICE_FEEDS", c.Feeds, chainlink.Name},
	} {
		switch used := slices.Contains(c.Sources, s.source); {
		case used && s.value == "":
			found = append(found, fmt.Errorf("%s must be set, since PURSER_PRICE_SOURCES has %q", s.setting,
				s.source))
		case !used && s.value != "":
			found = append(found, fmt.Errorf("%s has no effect: PURSER_PRICE_SOURCES does not have %q", s.setting,
				s.source))
		case s.value != "" && s.source != chainlink.Name && !config.IsHTTPURL(s.value):
			found = append(found, fmt.Errorf("%s must be an http or https URL", s.setting))
		}
	}
	if c.CoinGeckoKey.Reveal() != "" && c.CoinGeckoURL.Reveal() == "" {
		found = append(found, errors.New("PURSER_PRICE_COINGECKO_KEY has no effect without "+
			"PURSER_PRICE_COINGECKO_URL"))
	}
	if c.ReadsPerMinute < 1 || c.ReadsPerMinute > 60_000 {
		found = append(found, errors.New("PURSER_PRICE_READS_PER_MINUTE must be 1 to 60000"))
	}
	return errors.Join(found...)
}

// CheckForServe checks the files that c names.
func (c PriceConfig) CheckForServe() error { return config.File("PURSER_PRICE_FEEDS", c.Feeds) }

// CurrencyCoins are the coins of a feed for currencies.
type CurrencyCoins map[string]string

// UnmarshalText reads "EUR=coingecko:euro-coin,GBP=coingecko:…".
func (c *CurrencyCoins) UnmarshalText(text []byte) error {
	*c = CurrencyCoins{}
	for pair := range strings.SplitSeq(string(text), ",") {
		if strings.TrimSpace(pair) == "" {
			continue
		}
		code, coin, ok := strings.Cut(strings.TrimSpace(pair), "=")
		if !ok || coin == "" || !price.IsCurrency(code) {
			return fmt.Errorf("%q must be a currency (%s), = and the feed's name of a coin", pair,
				strings.Join(price.Currencies(), ", "))
		}
		(*c)[code] = coin
	}
	return nil
}

const (
	// defaultPlatforms are CoinGecko's names of chains ("asset platforms"), and the embedded
	// chain's; defaultCoins its ids of their native coins.
	defaultPlatforms = "1=ethereum,10=optimistic-ethereum,56=binance-smart-chain,100=xdai,137=polygon-pos," +
		"8453=base,42161=arbitrum-one,43114=avalanche,31337=local"
	defaultCoins = "1=ethereum,10=ethereum,56=binancecoin,100=xdai,137=polygon-ecosystem-token,8453=ethereum," +
		"42161=ethereum,43114=avalanche-2,31337=ethereum"
)

// Platforms are names of chains, and Coins ids of their native coins.
type (
	Platforms map[uint64]string
	Coins     map[uint64]string
)

// UnmarshalText reads "1=ethereum,137=polygon-pos", or "default".
func (p *Platforms) UnmarshalText(text []byte) (err error) {
	*p, err = namesOf(string(text), defaultPlatforms)
	return err
}

// UnmarshalText reads "1=ethereum,56=binancecoin", or "default".
func (c *Coins) UnmarshalText(text []byte) (err error) {
	*c, err = namesOf(string(text), defaultCoins)
	return err
}

func namesOf(pairs, standard string) (map[uint64]string, error) {
	if pairs == "default" {
		pairs = standard
	}
	names := map[uint64]string{}
	return names, chainurl.ParsePairs(pairs, func(chain uint64, name string) { names[chain] = name })
}

// priceSources are the sources of a service, and what its health is asked of.
type priceSources struct {
	feeds    []price.NamedFeed
	imported *store.ImportedPrices
	watched  []watchedFeed
}

// newPriceSources builds the sources in their order.
func newPriceSources(b *chassis.Builder, c PriceConfig, nodes chainReader, log *slog.Logger) (priceSources, error) {
	var s priceSources
	later := slices.Index(c.Sources, priceimport.Source)
	s.imported = store.NewImportedPrices(b.DB, c.Sources[:max(0, later)], c.Bridge, time.Now)
	for _, name := range c.Sources {
		var feed price.Feed
		switch name {
		case llama.Name:
			source, err := llama.New(c.URL.Reveal(), c.Chains, log, time.Now)
			if err != nil {
				return s, err
			}
			source.NameCurrencies(c.CurrencyCoins)
			feed, s.watched = source, append(s.watched, watchedFeed{"prices", c.URL.Reveal(), source.Probe})
		case coingecko.Name:
			source, err := coingecko.New(coingecko.Options{URL: c.CoinGeckoURL.Reveal(), Key: c.CoinGeckoKey.Reveal(),
				Platforms: c.CoinGeckoPlatforms, Coins: c.CoinGeckoCoins, Log: log, Now: time.Now})
			if err != nil {
				return s, err
			}
			feed, s.watched = source, append(s.watched, watchedFeed{"prices:coingecko", c.CoinGeckoURL.Reveal(),
				source.Probe})
		case chainlink.Name:
			feeds, err := chainlink.ReadFile(c.Feeds)
			if err != nil {
				return s, fmt.Errorf("PURSER_PRICE_FEEDS: %w", err)
			}
			feed = chainlink.New(feeds, nodes, log, time.Now)
		case priceimport.Source:
			feed = s.imported
		}
		s.feeds = append(s.feeds, price.NamedFeed{Name: name, Feed: feed})
	}
	return s, nil
}
