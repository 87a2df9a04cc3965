package store

import (
	"log/slog"
	"time"

	"github.com/purserhq/purser/pkg/cache"
	"github.com/purserhq/purser/pkg/redisx"
)

// CacheBudget is how long one call waits for Redis in one cache. A call uses up to
// two caches, so that it waits redisx.Budget in total.
const CacheBudget = redisx.Budget / 2

// CacheOptions are the options of Caches.
type CacheOptions struct {
	// Wallets and Token are the TTLs of a page of wallets and of a token.
	Wallets, Token time.Duration
	Budget         time.Duration // CacheBudget if zero
	// Local keeps tokens in memory too, nil for Redis alone. The other caches are never
	// kept there: a generation ends its pages at once, on every replica.
	Local *cache.Tracker
	Log   *slog.Logger
}

// generationTTL is the TTL of a generation's name. How old a page may be depends on
// the TTL of pages alone.
const generationTTL = time.Hour

// Caches are the caches of this package.
//
// A page of wallets is under the generation of its owner and, if it has balances, under
// that of the tokens.
type Caches struct {
	tokens      *cache.Cache[tokenRow]    // by id; known tokens only
	pages       *cache.Cache[[]walletRow] // by owner, generations and query
	generations *cache.Generations        // by owner; tokensGeneration
}

// tokensGeneration is the key of the generation of all tokens. Those of owners are
// UUIDs.
const tokensGeneration = "tokens"

// NewCaches returns the caches on r. They must be closed before r.
func NewCaches(r cache.Redis, o CacheOptions) *Caches {
	if o.Budget == 0 {
		o.Budget = CacheBudget
	}
	options := func(ttl time.Duration) cache.Options {
		return cache.Options{TTL: ttl, Budget: o.Budget, Log: o.Log}
	}
	name := func(entity string) cache.Namespace {
		return cache.Namespace{Service: "wallet", Entity: entity, Schema: 3}
	}
	tokens := options(o.Token)
	tokens.Local = o.Local
	return &Caches{
		tokens:      cache.New[tokenRow](r, name("token"), tokens),
		pages:       cache.New[[]walletRow](r, name("wallets"), options(o.Wallets)),
		generations: cache.NewGenerations(cache.New[string](r, name("generation"), options(generationTTL))),
	}
}

// Close stops the caches' background work.
func (c *Caches) Close() {
	c.tokens.Close()
	c.pages.Close()
	c.generations.Close()
}
